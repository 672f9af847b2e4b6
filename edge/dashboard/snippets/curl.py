"""curl, one line for each dialect."""

from collections.abc import Mapping
from typing import Any

from .literals import body, word
from .setup import Block, Guide, Setup

_MESSAGES = [{"role": "user", "content": "Hello"}]


def guide(setup: Setup) -> Guide:
    """Streamed requests in three dialects."""
    model, stream = setup.model.id, True
    return Guide(
        "curl",
        "curl",
        (
            Block(
                "Chat Completions",
                "sh",
                chat(setup, {"model": model, "stream": stream, "messages": _MESSAGES}),
            ),
            Block(
                "Messages",
                "sh",
                messages(
                    setup,
                    {"model": model, "max_tokens": 256, "stream": stream, "messages": _MESSAGES},
                ),
            ),
            Block(
                "Responses",
                "sh",
                responses(setup, {"model": model, "stream": stream, "input": "Hello"}),
            ),
        ),
    )


def chat(setup: Setup, content: Mapping[str, Any]) -> str:
    """A request of OpenAI Chat Completions."""
    return _line(setup, f"{setup.openai_prefix}/chat/completions", _BEARER, content)


def messages(setup: Setup, content: Mapping[str, Any]) -> str:
    """A request of Anthropic Messages."""
    return _line(setup, "/v1/messages", "x-api-key: ${}", content, "anthropic-version: 2023-06-01")


def responses(setup: Setup, content: Mapping[str, Any]) -> str:
    """A request of OpenAI Responses."""
    return _line(setup, "/v1/responses", _BEARER, content)


_BEARER = "Authorization: Bearer ${}"


def _line(setup: Setup, path: str, key: str, content: Mapping[str, Any], *headers: str) -> str:
    sent = [key.format(setup.variable)] if setup.needs_key else []
    sent += [*headers, "Content-Type: application/json"]
    lines = [f"curl -N {word(setup.url + path)}"]
    lines += [f'-H "{header}"' for header in sent]  # in double quotes, for the variable
    lines.append(f"-d {body(content)}")
    return " \\\n  ".join(lines) + "\n"
