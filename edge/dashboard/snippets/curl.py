"""curl, one line for each dialect."""

from .literals import body, word
from .setup import Block, Guide, Setup

_MESSAGES = [{"role": "user", "content": "Hello"}]


def guide(setup: Setup) -> Guide:
    """Streamed requests in three dialects."""
    return Guide("curl", "curl", (chat(setup), messages(setup), responses(setup)))


def chat(setup: Setup) -> Block:
    """OpenAI Chat Completions."""
    content = {"model": setup.model.id, "stream": True, "messages": _MESSAGES}
    return _block(setup, "Chat Completions", "chat/completions", _BEARER, content)


def messages(setup: Setup) -> Block:
    """Anthropic Messages."""
    content = {
        "model": setup.model.id,
        "max_tokens": 256,
        "stream": True,
        "messages": _MESSAGES,
    }
    return _block(
        setup, "Messages", "messages", _ANTHROPIC, content, "anthropic-version: 2023-06-01"
    )


def responses(setup: Setup) -> Block:
    """OpenAI Responses."""
    content = {"model": setup.model.id, "stream": True, "input": "Hello"}
    return _block(setup, "Responses", "responses", _BEARER, content)


_BEARER = "Authorization: Bearer ${}"
_ANTHROPIC = "x-api-key: ${}"


def _block(
    setup: Setup, title: str, path: str, key: str, content: dict[str, object], *headers: str
) -> Block:
    sent = [key.format(setup.variable)] if setup.needs_key else []
    sent += [*headers, "Content-Type: application/json"]
    lines = [f"curl -N {word(f'{setup.url}/v1/{path}')}"]
    lines += [f'-H "{header}"' for header in sent]  # in double quotes, for the variable
    lines.append(f"-d {body(content)}")
    return Block(title, "sh", " \\\n  ".join(lines) + "\n")
