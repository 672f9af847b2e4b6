"""What the simulator reads from a request, in one form for both dialects."""

import re
from base64 import b64encode
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from .controls import take_directive
from .turns import Content, Message, marked_tokens, text_of, weights

Dialect = Literal["openai", "anthropic"]
_CACHEABLE = 1024
_CACHE_STEP = 128


class Rejected(Exception):
    """The request is answered with an error: status, public message, path of the field."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param


class Tool(msgspec.Struct, frozen=True):
    """A tool the model may call, and the JSON Schema of its arguments."""

    name: str
    schema: Any


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A request for an answer.

    text: of the last user message that has any, without its directives (`directive`).
    results: texts of the tool results that the request ends with.
    choice: `auto`, `none`, `any`, or `only`, when `tools` holds just the one to be called.
    limit: most tokens of the answer. thinks, shows: whether to think, and to show it.
    schema: of a structured answer. tokens: of the prompt, of which `cached` and `written`.
    """

    dialect: Dialect
    model: str
    stream: bool
    include_usage: bool = True
    text: str
    directive: str
    results: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    parallel: bool = True
    limit: int | None = None
    stops: tuple[str, ...] = ()
    thinks: bool = False
    shows: bool = True
    schema: Any = None
    tokens: int = 0
    cached: int = 0
    written: int = 0


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


class _MessagesTool(msgspec.Struct):
    name: str = ""
    input_schema: Any = None
    defer_loading: bool | None = None
    cache_control: Any = None

    @property
    def callable(self) -> bool:
        """Not a tool of the provider's own, nor one that waits for a search to load it."""
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


_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_messages = msgspec.json.Decoder(_Messages).decode
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_PATH = re.compile(r" - at `\$\.?(.*)`")


def rejected(error: Exception) -> Rejected:
    """A 400 for a body that is not JSON or does not fit."""
    path = _PATH.search(str(error))
    return Rejected(400, _PATH.sub("", str(error)), path[1] or None if path else None)


def read_chat(body: bytes) -> Prompt:
    """A body of POST /v1/chat/completions. Raises Rejected."""
    try:
        asked = _decode_chat(body)
    except UNREADABLE as error:
        raise rejected(error) from None
    if not asked.messages:
        raise Rejected(400, "Invalid 'messages': empty array.", "messages")
    if asked.n not in (None, 1):
        raise Rejected(400, "Unsupported value: 'n' does not support other than 1.", "n")
    tools = [Tool(t.function.name, t.function.parameters) for t in asked.tools or () if t.function]
    choice = asked.tool_choice or "auto"
    if isinstance(choice, dict):
        named = choice.get("function")
        name = named.get("name") if isinstance(named, dict) else None
        tools, choice = [tool for tool in tools if tool.name == name], "only"
        if not tools:
            raise Rejected(400, f"Tool choice {name!r} is not among the tools.", "tool_choice")
    text, directive = take_directive(_last_text(asked.messages))
    tokens, before = weights(asked.messages, asked.tools or ())
    limit = asked.max_completion_tokens or asked.max_tokens
    if limit is not None and limit < 1:
        raise Rejected(400, "Invalid 'max_completion_tokens': at least 1.", "max_completion_tokens")
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or ()
    return Prompt(
        dialect="openai",
        model=asked.model,
        stream=bool(asked.stream),
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        text=text,
        directive=directive,
        results=_results_of_chat(asked.messages),
        tools=tuple(tools),
        choice={"required": "any"}.get(choice, choice),
        parallel=asked.parallel_tool_calls is not False,
        limit=limit,
        stops=tuple(filter(None, stop)),
        thinks=asked.reasoning_effort not in (None, "none", "minimal"),
        schema=_schema(asked.response_format),
        tokens=tokens,
        cached=before // _CACHE_STEP * _CACHE_STEP if tokens >= _CACHEABLE else 0,
    )


def read_messages(body: bytes, *, counting: bool = False) -> Prompt:
    """A body of POST /v1/messages, or of its count_tokens when `counting`. Raises Rejected."""
    try:
        asked = _decode_messages(body)
    except UNREADABLE as error:
        raise rejected(error) from None
    if asked.max_tokens is None and not counting:
        raise Rejected(400, "max_tokens: Field required")
    if not asked.messages:
        raise Rejected(400, "messages: at least one message is required")
    _check_signatures(asked.messages)
    tools = [Tool(t.name, t.input_schema) for t in asked.tools or () if t.callable]
    choice = asked.tool_choice or _Choice()
    kind = choice.type
    if kind == "tool":
        tools, kind = [tool for tool in tools if tool.name == choice.name], "only"
        if not tools:
            raise Rejected(400, f"tool_choice: tool {choice.name!r} is not among the tools")
    text, directive = take_directive(_last_text(asked.messages))
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
        text=text,
        directive=directive,
        results=_results_of_messages(asked.messages[-1].content),
        tools=tuple(tools),
        choice=kind,
        parallel=not choice.disable_parallel_tool_use,
        limit=asked.max_tokens,
        stops=tuple(filter(None, asked.stop_sequences or ())),
        thinks=asked.thinking is not None and asked.thinking.type in ("enabled", "adaptive"),
        shows=asked.thinking is None or asked.thinking.display != "omitted",
        schema=_schema(config.format) if config else None,
        tokens=tokens,
        cached=cached,
        written=marked - cached,
    )


def sign(thinking: str) -> str:
    """The signature of a thinking block. A block sent back with another one is refused."""
    return b64encode(b"sim\x01" + blake2b(thinking.encode(), digest_size=62).digest()).decode()


def _check_signatures(messages: list[Message]) -> None:
    for at, message in enumerate(messages):
        if message.role != "assistant" or not isinstance(message.content, list):
            continue
        for index, block in enumerate(message.content):
            if block.get("type") != "thinking":
                continue
            if block.get("signature") != sign(str(block.get("thinking", ""))):
                where = f"messages.{at}.content.{index}"
                raise Rejected(400, f"{where}: Invalid `signature` in `thinking` block")


def _schema(wanted: dict[str, Any] | None) -> Any:
    if not wanted or wanted.get("type") not in ("json_schema", "json_object"):
        return None
    if isinstance(wanted.get("schema"), dict):
        return wanted["schema"]
    inner = wanted.get("json_schema")
    if isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
        return inner["schema"]
    return {"type": "object", "properties": {"answer": {"type": "string"}}}


def _last_text(messages: list[Message]) -> str:
    for message in reversed(messages):
        if message.role == "user" and (text := text_of(message.content)):
            return text
    return ""


def _results_of_chat(messages: list[Message]) -> tuple[str, ...]:
    results = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results.append(text_of(message.content))
    return tuple(reversed(results))


def _results_of_messages(content: Content) -> tuple[str, ...]:
    if not isinstance(content, list):
        return ()
    return tuple(text_of(b.get("content")) for b in content if b.get("type") == "tool_result")
