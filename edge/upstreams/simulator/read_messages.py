"""Read a Messages request as a `Prompt`."""

from typing import Any

import msgspec

from edge.untyped_json import number

from .directives import directives_of
from .prompt import UNREADABLE, Prompt, PromptRejected, PromptTool, rejected, schema_of, sign
from .turns import Content, Message, marked_tokens, text_of, weights


class _MessagesTool(msgspec.Struct):
    name: str = ""
    input_schema: Any = None
    defer_loading: bool | None = None
    cache_control: Any = None

    @property
    def callable(self) -> bool:
        """Whether the client runs it and it is not loaded by a search."""
        return self.input_schema is not None and not self.defer_loading


class _Choice(msgspec.Struct):
    type: str = "auto"
    name: str = ""
    disable_parallel_tool_use: bool = False


class _Thinking(msgspec.Struct):
    type: str
    display: str | None = None


class _OutputConfig(msgspec.Struct):
    format: dict[str, Any] | None = None


class _Messages(msgspec.Struct):
    model: str
    messages: list[Message]
    system: Content = None
    max_tokens: int | None = None
    stream: bool | None = None
    tools: list[_MessagesTool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    stop_sequences: list[str] | None = None
    cache_control: Any = None


_JSON_MODE = "a single JSON object and nothing else."
_decode_messages = msgspec.json.Decoder(_Messages, float_hook=number).decode


def read_messages(body: bytes, *, counting: bool = False) -> Prompt:
    """A body of POST /v1/messages, or of count_tokens if `counting`. Raises PromptRejected."""
    try:
        asked = _decode_messages(body)
    except UNREADABLE as error:
        raise _rejected(error) from None
    if asked.max_tokens is None and not counting:
        raise PromptRejected(400, "max_tokens: Field required")
    if not asked.messages:
        raise PromptRejected(400, "messages: at least one message is required")
    _check_signatures(asked.messages)
    tools = [PromptTool(t.name, t.input_schema) for t in asked.tools or () if t.callable]
    choice = asked.tool_choice or _Choice()
    kind = choice.type
    if kind == "tool":
        tools, kind = [tool for tool in tools if tool.name == choice.name], "only"
        if not tools:
            raise PromptRejected(400, f"tool_choice: tool {choice.name!r} is not among the tools")
    directives = directives_of(asked.messages)
    system = Message("system", asked.system)
    turns = [system, *asked.messages] if asked.system else asked.messages
    tokens, before = weights(turns, asked.tools or ())
    marked = tokens if asked.cache_control else marked_tokens(turns, asked.tools or ())
    cached = min(marked, before) if any(m.role == "assistant" for m in turns) else 0
    config = asked.output_config
    return Prompt(
        dialect="anthropic",
        model=asked.model,
        stream=bool(asked.stream),
        text=directives.text,
        directive=directives.directive,
        since=directives.results,
        over=directives.over,
        results=tuple(asked.messages[-1].results),
        tools=tuple(tools),
        choice=kind,
        parallel=not choice.disable_parallel_tool_use,
        limit=asked.max_tokens,
        stops=tuple(filter(None, asked.stop_sequences or ())),
        thinks=asked.thinking is not None and asked.thinking.type in ("enabled", "adaptive"),
        shows=asked.thinking is None or asked.thinking.display != "omitted",
        schema=schema_of(config.format if config and config.format else _json_mode(asked)),
        tokens=tokens,
        cached=cached,
        written=marked - cached,
    )


def _rejected(error: Exception) -> PromptRejected:
    """The refusal with the path at its head: Messages has no member for it."""
    refusal = rejected(error)
    if refusal.param:
        path = refusal.param.replace("[", ".").replace("]", "")
        refusal.message = f"{path}: {refusal.message}"
    return refusal


def _json_mode(asked: _Messages) -> dict[str, Any] | None:
    """The format that the end of the system prompt asks for: Messages has no JSON mode."""
    system = text_of(asked.system).rstrip()
    return {"type": "json_object"} if system.endswith(_JSON_MODE) else None


def _check_signatures(messages: list[Message]) -> None:
    for at, message in enumerate(messages):
        if message.role != "assistant" or not isinstance(message.content, list):
            continue
        for index, block in enumerate(message.content):
            if block.get("type") != "thinking":
                continue
            if block.get("signature") != sign(str(block.get("thinking", ""))):
                where = f"messages.{at}.content.{index}"
                raise PromptRejected(400, f"{where}: Invalid `signature` in `thinking` block")
