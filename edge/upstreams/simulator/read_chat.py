"""Read a Chat Completions request as a `Prompt`."""

from typing import Any

import msgspec

from edge.untyped_json import number

from .directives import directives_of
from .prompt import (
    UNREADABLE,
    Prompt,
    PromptRejected,
    PromptTool,
    automatic_cache,
    rejected,
    schema_of,
)
from .turns import Message, trailing_results, weights


class _Function(msgspec.Struct):
    name: str
    parameters: Any = None


class _ChatTool(msgspec.Struct):
    type: str = "function"
    function: _Function | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Chat(msgspec.Struct):
    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[_ChatTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    stop: str | list[str] | None = None
    n: int | None = None


_decode_chat = msgspec.json.Decoder(_Chat, float_hook=number).decode


def read_chat(body: bytes) -> Prompt:
    """A body of POST /v1/chat/completions. Raises PromptRejected."""
    try:
        asked = _decode_chat(body)
    except UNREADABLE as error:
        raise rejected(error) from None
    if not asked.messages:
        raise PromptRejected(400, "Invalid 'messages': empty array.", "messages")
    if asked.n not in (None, 1):
        raise PromptRejected(400, "Unsupported value: 'n' does not support other than 1.", "n")
    tools = [
        PromptTool(t.function.name, t.function.parameters) for t in asked.tools or () if t.function
    ]
    choice, tools = _choice(asked.tool_choice, tools)
    directives = directives_of(asked.messages)
    tokens, before = weights(asked.messages, asked.tools or ())
    limit = asked.max_completion_tokens or asked.max_tokens
    if limit is not None and limit < 1:
        raise PromptRejected(
            400, "Invalid 'max_completion_tokens': at least 1.", "max_completion_tokens"
        )
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or ()
    return Prompt(
        dialect="openai",
        model=asked.model,
        stream=bool(asked.stream),
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        text=directives.text,
        directive=directives.directive,
        since=directives.results,
        over=directives.over,
        results=trailing_results(asked.messages),
        tools=tuple(tools),
        choice=choice,
        parallel=asked.parallel_tool_calls is not False,
        limit=limit,
        stops=tuple(filter(None, stop)),
        thinks=asked.reasoning_effort not in (None, "none", "minimal"),
        schema=schema_of(asked.response_format),
        tokens=tokens,
        cached=automatic_cache(tokens, before),
    )


def _choice(
    given: str | dict[str, Any] | None, tools: list[PromptTool]
) -> tuple[str, list[PromptTool]]:
    """The kind of choice, and the tools it leaves. Tools that take free text are never called.

    Raises PromptRejected.
    """
    if not isinstance(given, dict):
        return {"required": "any"}.get(given or "auto", given or "auto"), tools
    if isinstance(allowed := given.get("allowed_tools"), dict):
        names = [_name(tool) for tool in allowed.get("tools") or ()]
        mode = "any" if allowed.get("mode") == "required" else "auto"
        return mode, [tool for tool in tools if tool.name in names]
    if given.get("type") == "custom":
        return "auto", []
    name = _name(given)
    chosen = [tool for tool in tools if tool.name == name]
    if not chosen:
        raise PromptRejected(400, f"Tool choice {name!r} is not among the tools.", "tool_choice")
    return "only", chosen


def _name(reference: Any) -> Any:
    named = reference.get("function") if isinstance(reference, dict) else None
    return named.get("name") if isinstance(named, dict) else None
