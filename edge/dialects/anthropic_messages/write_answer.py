"""Encode answers for a caller of Messages.

Theory of operation. Blocks are numbered as they open. Within a block, deltas differ only in their
text, so the rest is encoded once when the block opens.

    event                     events of the stream
    Started                   message_start, with an estimate of the input; a ping
    text, refusal, thinking   content_block_start with the first; a delta
    Cited                     citations_delta, if it has an address
    Signed                    kept: the signature is the last delta of its block
    ToolOpened                content_block_start
    ToolDelta                 input_json_delta; held back if it is not the text of an object
    Closed                    signature_delta of thinking, content_block_stop
    Stopped                   message_delta with the usage, message_stop

Every thinking block gets a signature, since clients throw away blocks without one. Anthropic's own
signatures pass unchanged. Those of other vendors are packed (`signatures`), and so are their
citations, so that `history` recognises and removes both before a Claude model sees them.
"""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec.structs import replace

from edge.dialects import signatures
from edge.dialects.codec import Caller
from edge.dialects.conversation import (
    Citation,
    Origin,
    Refusal,
    Signature,
    Text,
    Thinking,
    ToolCall,
)
from edge.dialects.events import (
    Cited,
    Closed,
    Counted,
    Event,
    RefusalDelta,
    Reply,
    Signed,
    Started,
    Stop,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
)
from edge.dialects.passthrough import encode
from middlewares import sse
from middlewares.exchange import Usage

from .arguments import input_of
from .citations import source_of

PING = sse.encode(b'{"type":"ping"}', "ping")

REASONS: dict[Stop, str] = {
    "end": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_use": "tool_use",
    "pause": "pause_turn",
    "refusal": "refusal",
}
"""`stop_reason` by `Stop`."""
_UNSIGNED = signatures.pack(Signature(origin=Origin("openai"), data=""))
"""The signature of thinking that came without one."""
STOP = sse.encode(b'{"type":"message_stop"}', "message_stop")
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{'
_TEXT = _DELTA + b'"type":"text_delta","text":'
_THINKING = _DELTA + b'"type":"thinking_delta","thinking":'
_INPUT = _DELTA + b'"type":"input_json_delta","partial_json":'
_TAIL = b"}}\n\n"

_Open = Literal["", "text", "thinking", "tool", "held", "custom", "redacted"]


class MessagesWriter:
    """Encodes one answer. See `codec.Writer`."""

    __slots__ = (
        "_caller",
        "_head",
        "_index",
        "_kept",
        "_open",
        "_refused",
        "_signature_text",
        "_usage",
        "answer",
    )

    def __init__(self, caller: Caller) -> None:
        self.answer = b""
        self._caller = replace(caller, fields={})  # a request can be megabytes
        self._index = -1
        self._open: _Open = ""
        """The open block; "held" and "custom": tools whose input is collected."""
        self._head = b""
        """The bytes before the text in a delta of the open block."""
        self._kept: list[str] = []
        self._signature_text = _UNSIGNED
        self._refused = False
        self._usage: Usage | None = None

    def encode(self, events: Sequence[Event]) -> bytes:
        """The bytes of a stream for the next events."""
        if len(events) == 1:
            return self._event(events[0])
        return b"".join(map(self._event, events))

    def encode_text(self, text: str) -> bytes:
        """The event of one TextDelta."""
        if self._open == "text":
            return self._head + encode(text) + _TAIL
        return self._event(TextDelta(text))

    def _event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            if self._open == "text":
                return self._head + encode(event.text) + _TAIL
            return self._begin("text", _TEXT, {"type": "text", "text": ""}, event.text)
        if isinstance(event, ToolDelta):
            return self._fragment(event.text)
        if isinstance(event, ThinkingDelta):
            if self._open == "thinking":
                return self._head + encode(event.text) + _TAIL
            return self._think(event.text)
        match event:
            case Started():
                return self._started()
            case ToolOpened():
                return self._opened(event)
            case RefusalDelta():
                self._refused = True
                return self._event(TextDelta(event.text))
            case Cited():
                return self._cited(event.citation)
            case Signed():
                return self._signed(event.signature)
            case Closed():
                return self._closed()
            case Counted():
                self._usage = event.usage
            case Stopped():
                return self._stopped(event)
        return b""

    # Blocks --------------------------------------------------------------------------------------

    def _begin(self, open_: _Open, head: bytes, block: dict[str, Any], text: str) -> bytes:
        self._index += 1
        self._open = open_
        started = _event("content_block_start", index=self._index, content_block=block)
        if not head:
            return started
        self._head = head % self._index
        return started + self._head + encode(text) + _TAIL if text else started

    def _think(self, text: str) -> bytes:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        return self._begin("thinking", _THINKING, block, text)

    def _signed(self, signature: Signature) -> bytes:
        if signature.redacted and self._is_native(signature):
            return self._begin("redacted", b"", _redacted(signature), "")
        self._signature_text = _signature_text(signature)
        return b"" if self._open == "thinking" else self._think("")

    @staticmethod
    def _is_native(signature: Signature) -> bool:
        return signature.origin.dialect == "anthropic"

    def _opened(self, event: ToolOpened) -> bytes:
        block = {
            "type": "tool_use",
            "id": event.id,
            "name": _full_name(event.namespace, event.name),
            "input": {},
        }
        return self._begin("custom" if event.custom else "held", _INPUT, block, "")

    def _fragment(self, text: str) -> bytes:
        if self._open == "tool":
            return self._head + encode(text) + _TAIL
        self._kept.append(text)
        if self._open == "custom" or not (begun := "".join(self._kept)).lstrip().startswith("{"):
            return b""
        self._open = "tool"
        self._kept.clear()
        return self._head + encode(begun) + _TAIL

    def _cited(self, citation: Citation) -> bytes:
        if not citation.url or self._open != "text":
            return b""
        delta = {"type": "citations_delta", "citation": source_of(citation)}
        return _event("content_block_delta", index=self._index, delta=delta)

    def _closed(self) -> bytes:
        out = b""
        if self._open == "thinking":
            delta = {"type": "signature_delta", "signature": self._signature_text}
            out = _event("content_block_delta", index=self._index, delta=delta)
            self._signature_text = _UNSIGNED
        elif self._open in ("held", "custom"):
            value = input_of("".join(self._kept), custom=self._open == "custom")
            out = self._head + encode(bytes(value).decode()) + _TAIL
            self._kept.clear()
        self._open = ""
        return out + _event("content_block_stop", index=self._index)

    # The message ---------------------------------------------------------------------------------

    def _started(self) -> bytes:
        usage = self._usage or Usage(input=self._caller.estimate)
        message = self._message([], None, None, None, usage)
        return _event("message_start", message=message) + PING

    def _message(
        self,
        content: list[Any],
        reason: str | None,
        sequence: str | None,
        details: dict[str, Any] | None,
        usage: Usage,
    ) -> dict[str, Any]:
        message: dict[str, Any] = {
            "id": f"msg_{self._caller.id}",
            "type": "message",
            "role": "assistant",
            "model": self._caller.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
        }
        if details is not None:
            message["stop_details"] = details
        return {**message, "usage": usage_of(usage)}

    def _stopped(self, event: Stopped) -> bytes:
        reason, sequence, details = self._ending(event.reason, event.sequence, event.explanation)
        delta: dict[str, Any] = {"stop_reason": reason, "stop_sequence": sequence}
        if details is not None:
            delta["stop_details"] = details
        usage = event.usage or self._usage or Usage(input=self._caller.estimate)
        return _event("message_delta", delta=delta, usage=usage_of(usage)) + STOP

    def _ending(
        self, stop: Stop, sequence: str | None, explanation: str | None
    ) -> tuple[str, str | None, dict[str, Any] | None]:
        if stop == "stop_sequence":
            return (REASONS[stop], sequence, None) if sequence else (REASONS["end"], None, None)
        if stop == "refusal" or (stop == "end" and self._refused):
            details = {"type": "refusal", "category": None, "explanation": explanation}
            return "refusal", None, details
        return REASONS[stop], None, None

    def encode_body(self, reply: Reply) -> bytes:
        """The whole unstreamed answer."""
        content: list[dict[str, Any]] = []
        for block in reply.blocks:
            match block:
                case Text():
                    content.append(_text(block))
                case Refusal():
                    self._refused = True
                    content.append({"type": "text", "text": block.text})
                case Thinking():
                    content.append(self._thinking(block))
                case ToolCall():
                    content.append(_tool_use(block))
        ending = self._ending(reply.stop, reply.sequence, reply.explanation)
        usage = reply.usage or Usage(input=self._caller.estimate)
        return encode(self._message(content, *ending, usage))

    def _thinking(self, block: Thinking) -> dict[str, Any]:
        signature = block.signature
        if signature is None:
            return {"type": "thinking", "thinking": block.text, "signature": _UNSIGNED}
        if signature.redacted and self._is_native(signature):
            return _redacted(signature)
        return {"type": "thinking", "thinking": block.text, "signature": _signature_text(signature)}

    def encode_failure(self, content: dict[str, Any]) -> bytes:
        """The last bytes of a broken stream."""
        return sse.encode(encode(content), "error")


def usage_of(usage: Usage) -> dict[str, Any]:
    """`usage` in Anthropic's form: cached tokens are not part of the input."""
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


def _event(kind: str, **members: Any) -> bytes:
    return sse.encode(encode({"type": kind, **members}), kind)


def _full_name(namespace: str, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


def _signature_text(signature: Signature) -> str:
    return signature.data if signature.origin.dialect == "anthropic" else signatures.pack(signature)


def _redacted(signature: Signature) -> dict[str, Any]:
    return {"type": "redacted_thinking", "data": signature.data}


def _text(text: Text) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": text.text}
    if cited := [source_of(citation) for citation in text.citations if citation.url]:
        block["citations"] = cited
    return block


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": call.id,
        "name": _full_name(call.namespace, call.name),
        "input": input_of(call.arguments, custom=call.custom),
    }
