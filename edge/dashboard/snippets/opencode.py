"""OpenCode."""

from typing import Any

from .literals import document, word
from .setup import Block, Guide, Offered, Setup


def guide(setup: Setup) -> Guide:
    """The project's file with models, and the user's file with the key."""
    provider = setup.provider
    project = {
        "$schema": "https://opencode.ai/config.json",
        "model": f"{provider}/{setup.model.id}",
        "small_model": f"{provider}/{setup.small.id}",
        "provider": {
            provider: {
                "npm": "@ai-sdk/openai-compatible",
                "name": setup.brand,
                "options": {"baseURL": setup.openai_url},
                "models": {model.id: _model(model) for model in setup.listed},
            }
        },
    }
    key = {provider: {"type": "api", "key": setup.key}}
    model = word(f"{provider}/{setup.model.id}")
    return Guide(
        "opencode",
        "OpenCode",
        (
            Block("In the root of a project", "json", _plain(document(project)), "opencode.json"),
            Block("The key", "json", document(key), "~/.local/share/opencode/auth.json"),
            Block("Then", "sh", f'opencode run -m {model} "Hello"\n'),
        ),
        (
            "`/connect` in OpenCode writes the same key, and `opencode auth list` shows it.",
            "To keep the key in the environment instead, put "
            f'`"apiKey": "{{env:{setup.variable}}}"` into `options`. It comes before the key of '
            "the file, also where the variable is not set.",
            f"`opencode models {provider}` lists the models.",
        ),
    )


def _model(model: Offered) -> dict[str, Any]:
    about: dict[str, Any] = {"name": model.name or model.id}
    if model.context is not None and model.max_output is not None:
        about["limit"] = {"context": model.context, "output": model.max_output}
    if model.images:
        about["attachment"] = True
        about["modalities"] = {"input": ["text", "image"], "output": ["text"]}
    return about


def _plain(text: str) -> str:
    """JSON in which OpenCode replaces nothing: it reads `{env:NAME}` and `{file:PATH}` anywhere."""
    return text.replace("{env:", "\\u007benv:").replace("{file:", "\\u007bfile:")
