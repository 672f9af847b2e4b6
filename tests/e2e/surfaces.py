"""The four ways to ask for an answer, with the same meaning in each, and who serves them.

SURFACES   chat, completions, messages, responses: how a caller says it
MODELS     the models of the test's gateway, by the dialect of the upstream behind them
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from .wire import ANTHROPIC, CHAT, MESSAGES

COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
MODELS = {"openai": "chat", "anthropic": "claude", "responses": "resp"}

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = ("weather", "forecast")


class Wish(msgspec.Struct, frozen=True):
    """What is asked besides the text."""

    tools: bool = False
    forced: bool = False
    thinking: bool = False
    schema: bool = False
    limit: int | None = None


class Surface(msgspec.Struct, frozen=True):
    """One endpoint. dialect: as `tests.schemas` calls it. body: (text, model, stream, wish)."""

    path: str
    dialect: Literal["chat", "completions", "messages", "responses"]
    body: Callable[[str, str, bool, Wish], dict[str, Any]]
    headers: Mapping[str, str] = {}
    native: str = ""
    """The dialect of upstreams that it passes through to."""


def _chat(text: str, model: str, stream: bool, wish: Wish) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if wish.tools:
        functions = [{"name": name, "parameters": PARAMETERS} for name in TOOLS]
        body["tools"] = [{"type": "function", "function": each} for each in functions]
    if wish.forced:
        body["tool_choice"] = "required"
    if wish.thinking:
        body["reasoning_effort"] = "medium"
    if wish.schema:
        described = {"name": "place", "schema": PARAMETERS, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    if wish.limit:
        body["max_completion_tokens"] = wish.limit
    return body


def _completions(text: str, model: str, stream: bool, wish: Wish) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "prompt": text}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if wish.limit:
        body["max_tokens"] = wish.limit
    return body


def _messages(text: str, model: str, stream: bool, wish: Wish) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": wish.limit or 20_000,
        "messages": [{"role": "user", "content": text}],
    }
    if stream:
        body["stream"] = True
    if wish.tools:
        body["tools"] = [{"name": name, "input_schema": PARAMETERS} for name in TOOLS]
    if wish.forced:
        body["tool_choice"] = {"type": "any"}
    if wish.thinking:
        body["thinking"] = {"type": "enabled", "budget_tokens": 8192}
    if wish.schema:
        body["output_config"] = {"format": {"type": "json_schema", "schema": PARAMETERS}}
    return body


def _responses(text: str, model: str, stream: bool, wish: Wish) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "input": text, "store": False}
    if stream:
        body["stream"] = True
    if wish.tools:
        body["tools"] = [
            {"type": "function", "name": name, "parameters": PARAMETERS, "strict": True}
            for name in TOOLS
        ]
    if wish.forced:
        body["tool_choice"] = "required"
    if wish.thinking:
        body["reasoning"] = {"effort": "medium", "summary": "auto"}
    if wish.schema:
        described = {"type": "json_schema", "name": "place", "schema": PARAMETERS, "strict": True}
        body["text"] = {"format": described}
    if wish.limit:
        body["max_output_tokens"] = wish.limit
    return body


SURFACES = {
    "chat": Surface(CHAT, "chat", _chat, native="openai"),
    "completions": Surface(COMPLETIONS, "completions", _completions),
    "messages": Surface(MESSAGES, "messages", _messages, ANTHROPIC, native="anthropic"),
    "responses": Surface(RESPONSES, "responses", _responses, native="responses"),
}
PAIRS = [(surface, upstream) for surface in SURFACES for upstream in MODELS]
TRANSLATIONS = [(s, upstream) for s, upstream in PAIRS if SURFACES[s].native != upstream]
"""The pairs in which the dialects differ."""
