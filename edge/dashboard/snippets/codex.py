"""Codex."""

from .literals import string
from .setup import Block, Guide, Setup


def guide(setup: Setup) -> Guide:
    """Its configuration file."""
    context = setup.model.context
    lines = [
        f"model = {string(setup.model.id)}",
        f"model_provider = {string(setup.provider)}",
        *([] if context is None else [f"model_context_window = {context}"]),
        "",
        f"[model_providers.{setup.provider}]",
        f"name = {string(setup.brand)}",
        f"base_url = {string(setup.responses_url)}",
        f"env_key = {string(setup.variable)}",
        'wire_api = "responses"',
    ]
    return Guide(
        "codex",
        "Codex",
        (
            Block("The configuration", "toml", "\n".join(lines) + "\n", "~/.codex/config.toml"),
            Block("Then", "sh", f"{setup.export}\ncodex\n"),
        ),
        (
            "Without `model_context_window` Codex takes a model it does not know for larger than "
            "it may be.",
        ),
    )
