"""Encode answers for a caller of Chat Completions.

Theory of operation. Chunks differ only in their delta, so the bytes before it (id, time, model) and
after it are encoded once. A delta is then one `encode` of its text between two constants.

    event                      chunk
    Started                    the role
    text, refusal, thinking    content, refusal, reasoning_content
    Signed                     reasoning_details: the thinking so far, and its signature
    ToolOpened                 id and name, numbered 0, 1, 2...
    ToolDelta                  arguments
    Closed                     of a call without arguments: `{}`; of a text: its annotations
    Stopped                    finish reason; usage if it was requested; [DONE]

Signatures of thinking are packed (`edge.dialects.signatures`), since no Chat upstream takes them as
they are. A caller of the older `functions` reads one call, as `function_call`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from edge.dialects import signatures
from edge.dialects.codec import Caller
from edge.dialects.conversation import (
    Citation,
    Refusal,
    Signature,
    Text,
    Thinking,
    ToolCall,
)
from edge.dialects.events import (
    Cited,
    Closed,
    Event,
    RefusalDelta,
    Reply,
    Signed,
    Started,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
)
from edge.dialects.passthrough import UNREADABLE, Fields, encode
from middlewares.exchange import Usage

DONE = b"data: [DONE]\n\n"
DECLINED = "The model declined to answer."

_FINISH = {
    "end": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause": "stop",
}
_NULL = msgspec.Raw(b"null")


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


_decode_options = msgspec.json.Decoder(_StreamOptions | None).decode
_decode_tools = msgspec.json.Decoder(list[msgspec.Raw] | None).decode


def wants_usage(fields: Fields) -> bool:
    """Whether the caller requested a usage chunk at the end of its stream."""
    try:
        options = _decode_options(fields.get("stream_options", _NULL))
    except UNREADABLE:
        return False
    return options is not None and bool(options.include_usage)


def speaks_functions(fields: Fields) -> bool:
    """Whether the caller offers the older `functions` and no `tools`."""
    if "functions" not in fields:
        return False
    try:
        offered = [_decode_tools(fields.get(name, _NULL)) for name in ("functions", "tools")]
    except UNREADABLE:
        return False
    return bool(offered[0]) and not offered[1]


def usage_of(usage: Usage | None) -> dict[str, Any]:
    """`usage` in OpenAI's form: cached tokens are part of the prompt's."""
    usage = usage or Usage()
    prompt = usage.input + usage.cache_read + usage.cache_write
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


class ChatWriter:
    """Encodes one answer. See `codec.Writer`."""

    __slots__ = (
        "_base",
        "_citations",
        "_content",
        "_delta",
        "_details",
        "_fragment",
        "_head",
        "_legacy",
        "_length",
        "_next",
        "_refused",
        "_start",
        "_tail",
        "_text_tail",
        "_thinking",
        "_thought",
        "_unfilled",
        "_usage",
        "answer",
    )

    def __init__(self, caller: Caller) -> None:
        self.answer = b""
        self._base = {
            "id": f"chatcmpl-{caller.id}",
            "object": "chat.completion",
            "created": caller.created,
            "model": caller.model,
        }
        self._usage = wants_usage(caller.fields)
        self._legacy = speaks_functions(caller.fields)
        base = encode({**self._base, "object": "chat.completion.chunk"})[:-1]
        self._head = b"data: " + base + b',"choices":'
        self._delta = self._head + b'[{"index":0,"delta":'
        self._tail = b',"logprobs":null,"finish_reason":null}]' + self._end()
        self._text_tail = b"}" + self._tail
        self._content = self._delta + b'{"content":'
        self._thinking = self._delta + b'{"reasoning_content":'
        self._fragment = b""
        """The bytes before the arguments of the open call; b"" while none is open."""
        self._unfilled = b""
        """The start of the arguments that the open call still lacks."""
        self._next = 0
        self._details = 0
        self._thought: list[str] = []
        self._citations: list[Citation] = []
        self._start = self._length = (
            0  # in characters: where the open text starts, and all texts end
        )
        self._refused = False

    def _end(self) -> bytes:
        return b',"usage":null}\n\n' if self._usage else b"}\n\n"

    def encode(self, events: Sequence[Event]) -> bytes:
        """The chunks for the next events."""
        if len(events) == 1:
            return self._event(events[0])
        return b"".join(map(self._event, events))

    def encode_text(self, text: str) -> bytes:
        """The chunk of one TextDelta."""
        self._length += len(text)
        return self._content + encode(text) + self._text_tail

    def _event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return self.encode_text(event.text)
        if isinstance(event, ToolDelta):
            self._unfilled = b""
            return self._arguments(event.text) if self._fragment else b""
        if isinstance(event, ThinkingDelta):
            self._thought.append(event.text)
            return self._thinking + encode(event.text) + b"}" + self._tail
        match event:
            case Started():
                return self._chunk({"role": "assistant", "content": ""})
            case RefusalDelta():
                self._refused = True
                return self._chunk({"refusal": event.text})
            case Signed():
                detail = detail_of("".join(self._thought), event.signature, self._details)
                self._details += 1
                return self._chunk({"reasoning_details": [detail]})
            case ToolOpened():
                return self._opened(event)
            case Cited():
                self._citations.append(event.citation)
                return b""
            case Closed():
                return self._closed()
            case Stopped():
                return self._stopped(event)
        return b""

    def _chunk(self, delta: dict[str, Any]) -> bytes:
        return self._delta + encode(delta) + self._tail

    def _opened(self, event: ToolOpened) -> bytes:
        number, self._next = self._next, self._next + 1
        name = _full_name(event.namespace, event.name)
        if self._legacy:
            if number:  # the older shape holds one call
                return b""
            self._fragment = self._delta + b'{"function_call":{"arguments":'
            self._unfilled = self._arguments("{}")
            return self._chunk({"function_call": {"name": name, "arguments": ""}})
        begin = self._delta + b'{"tool_calls":[{"index":%d,' % number
        if event.custom:
            self._fragment = begin + b'"custom":{"input":'
            call = {"type": "custom", "custom": {"name": name, "input": ""}}
        else:
            self._fragment = begin + b'"function":{"arguments":'
            self._unfilled = self._arguments("{}")
            call = {"type": "function", "function": {"name": name, "arguments": ""}}
        return self._chunk({"tool_calls": [{"index": number, "id": event.id, **call}]})

    def _arguments(self, text: str) -> bytes:
        closing = b"}}" if self._legacy else b"}}]}"
        return self._fragment + encode(text) + closing + self._tail

    def _closed(self) -> bytes:
        out, self._unfilled = self._unfilled, b""
        self._fragment = b""
        self._thought.clear()
        if self._citations:
            cited = annotations(self._citations, self._start, self._length)
            self._citations.clear()
            if cited:
                out += self._chunk({"annotations": cited})
        self._start = self._length
        return out

    def _stopped(self, event: Stopped) -> bytes:
        out = b""
        if event.reason == "refusal" and not self._refused:
            out = self._chunk({"refusal": event.explanation or DECLINED})
        finish = b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":"%s"}]' % (
            self._finish(event.reason).encode()
        )
        out += self._head + finish + self._end()
        if self._usage:
            usage = encode(usage_of(event.usage))
            out += self._head + b'[],"usage":' + usage + b"}\n\n"
        return out + DONE

    def _finish(self, reason: str) -> str:
        if self._legacy and reason == "tool_use":
            return "function_call"
        return _FINISH[reason]

    def encode_body(self, reply: Reply) -> bytes:
        """The whole unstreamed answer."""
        return encode(
            {
                **self._base,
                "choices": [
                    {
                        "index": 0,
                        "message": self._message(reply),
                        "logprobs": None,
                        "finish_reason": self._finish(reply.stop),
                    }
                ],
                "usage": usage_of(reply.usage),
            }
        )

    def _message(self, reply: Reply) -> dict[str, Any]:
        texts: list[str] = []
        refusals: list[str] = []
        thoughts: list[str] = []
        details: list[dict[str, Any]] = []
        calls: list[ToolCall] = []
        cited: list[dict[str, Any]] = []
        length = 0
        for block in reply.blocks:
            match block:
                case Text():
                    texts.append(block.text)
                    start, length = length, length + len(block.text)
                    cited += annotations(block.citations, start, length)
                case Refusal():
                    refusals.append(block.text)
                case Thinking():
                    thoughts.append(block.text)
                    if block.signature is not None:
                        details.append(detail_of(block.text, block.signature, len(details)))
                case ToolCall():
                    calls.append(block)
        if reply.stop == "refusal" and not refusals:
            refusals.append(reply.explanation or DECLINED)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(texts) if texts or not (calls or refusals) else None,
            "refusal": "".join(refusals) or None,
        }
        if cited:
            message["annotations"] = cited
        if any(thoughts):
            message["reasoning_content"] = "".join(thoughts)
        if details:
            message["reasoning_details"] = details
        if calls and self._legacy:
            call = calls[0]
            message["function_call"] = {"name": call.name, "arguments": call.arguments or "{}"}
        elif calls:
            message["tool_calls"] = [_call(call) for call in calls]
        return message

    def encode_failure(self, content: dict[str, Any]) -> bytes:
        """The last bytes of a broken stream."""
        return b"data: " + encode(content) + b"\n\n"


def _full_name(namespace: str, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


def _call(call: ToolCall) -> dict[str, Any]:
    name = _full_name(call.namespace, call.name)
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": name, "input": call.arguments}}
    function = {"name": name, "arguments": call.arguments or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def detail_of(text: str, signature: Signature, index: int) -> dict[str, Any]:
    """An entry of `reasoning_details` that a caller may send back unchanged."""
    packed = signatures.pack(signature)
    if signature.redacted:
        return {"type": "reasoning.encrypted", "data": packed, "index": index}
    return {"type": "reasoning.text", "text": text, "signature": packed, "index": index}


def annotations(citations: Sequence[Citation], start: int, end: int) -> list[dict[str, Any]]:
    """The citations that have an address. start, end: of the text that they cite."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": cited.url,
                "title": cited.title,
                "start_index": start if cited.start is None else cited.start,
                "end_index": end if cited.end is None else cited.end,
            },
        }
        for cited in citations
        if cited.url
    ]
