"""curl, one line for each dialect."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from .literals import body, word
from .setup import Block, Guide, Setup

_MESSAGES = [{"role": "user", "content": "Hello"}]
_JSON = "Content-Type: application/json"


def guide(setup: Setup) -> Guide:
    """Streamed requests in each dialect that the gateway speaks."""
    blocks = (
        Block(title, "sh", write(setup, greeting(setup, name), ""))
        for name, (title, write) in DIALECTS.items()
        if name in setup.paths
    )
    return Guide("curl", "curl", tuple(blocks))


def greeting(setup: Setup, endpoint: str) -> dict[str, Any]:
    """A streamed request to the conversation endpoint of this name."""
    request: dict[str, Any] = {"model": setup.model.id}
    if endpoint == "messages":
        request["max_tokens"] = 256
    elif endpoint == "chat.completions" and endpoint in setup.by_shape:
        request["stream_options"] = {"include_usage": True}  # only OpenAI's dialect has it
    said = {"input": "Hello"} if endpoint == "responses" else {"messages": _MESSAGES}
    return {**request, "stream": True, **said}


def chat(setup: Setup, content: Mapping[str, Any], path: str = "") -> str:
    """A request of OpenAI Chat Completions. path: that of its clients unless given."""
    return _posted(setup, path or setup.paths["chat.completions"], content)


def messages(setup: Setup, content: Mapping[str, Any], path: str = "") -> str:
    """A request of Anthropic Messages. path: that of its clients unless given."""
    headers = [f"x-api-key: ${setup.variable}"] if setup.needs_key else []
    headers += ["anthropic-version: 2023-06-01", _JSON]
    return _streamed(setup, path or setup.paths["messages"], headers, content)


def responses(setup: Setup, content: Mapping[str, Any], path: str = "") -> str:
    """A request of OpenAI Responses. path: that of its clients unless given."""
    return _posted(setup, path or setup.paths["responses"], content)


DIALECTS: Final[Mapping[str, tuple[str, Callable[[Setup, Mapping[str, Any], str], str]]]] = {
    "chat.completions": ("Chat Completions", chat),
    "messages": ("Messages", messages),
    "responses": ("Responses", responses),
}
"""Title and writer of a request, by the name of the endpoint."""


def _posted(setup: Setup, path: str, content: Mapping[str, Any]) -> str:
    return _streamed(setup, path, [*bearer(setup), _JSON], content)


def _streamed(setup: Setup, path: str, headers: list[str], content: Mapping[str, Any]) -> str:
    return line(f"curl -N {word(setup.url + path)}", headers, f"-d {body(content)}")


def bearer(setup: Setup) -> list[str]:
    """The header with the key, if one is needed."""
    return [f"Authorization: Bearer ${setup.variable}"] if setup.needs_key else []


def line(start: str, headers: list[str], *end: str) -> str:
    """A line for a shell, on several rows. headers: in double quotes, for the variable."""
    return " \\\n  ".join([start, *(f'-H "{header}"' for header in headers), *end]) + "\n"
