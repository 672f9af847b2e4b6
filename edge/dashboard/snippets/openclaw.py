"""OpenClaw."""

import re
from collections.abc import Mapping
from typing import Any

from .literals import document
from .setup import Block, Guide, Offered, Setup

_VARIABLE = re.compile(r"\$(?=\{[A-Z_][A-Z0-9_]*\})")


def guide(setup: Setup) -> Guide:
    """Its configuration file, with fallbacks."""
    provider = setup.provider
    first: dict[str, Any] = {"primary": f"{provider}/{setup.model.id}"}
    if setup.fallbacks:
        first["fallbacks"] = [f"{provider}/{model.id}" for model in setup.fallbacks]
    content: dict[str, Any] = {
        "env": {"vars": {setup.variable: setup.key}},
        "models": {
            "providers": {
                provider: {
                    "baseUrl": setup.openai_url,
                    "apiKey": "",
                    "api": "openai-completions",
                    "models": [_model(model) for model in setup.listed],
                }
            }
        },
        "agents": {"defaults": {"model": first}},
    }
    content = _plain(content)
    content["models"]["providers"][provider]["apiKey"] = f"${{{setup.variable}}}"
    return Guide(
        "openclaw",
        "OpenClaw",
        (
            Block("The configuration", "json", document(content), "~/.openclaw/openclaw.json"),
            Block("Then", "sh", 'openclaw agent --local --agent main --message "Hello"\n'),
            Block(
                "To see the key and the models that it has read", "sh", "openclaw models status\n"
            ),
        ),
        (
            "OpenClaw asks the next of `fallbacks` when a model fails, which may take it a minute.",
            f"A variable `{setup.variable}` in the environment takes precedence over `env.vars`: "
            "check it first when the answer is 401.",
            "In files of older versions the variable is directly in `env`: "
            "`openclaw doctor --fix` moves it to `env.vars`.",
        ),
    )


def _model(model: Offered) -> dict[str, Any]:
    about: dict[str, Any] = {"id": model.id, "name": model.name or model.id}
    if model.context is not None:
        about["contextWindow"] = model.context
    if model.max_output is not None:
        about["maxTokens"] = model.max_output
    if model.images:
        about["input"] = ["text", "image"]
    return about


def _plain(value: Any) -> Any:
    """`value` with no variables in its texts: OpenClaw replaces `${NAME}` in any of them."""
    if isinstance(value, str):
        return _VARIABLE.sub("$$", value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value
