"""Decode answers of a Messages upstream into events.

Theory of operation. One block is open at a time; its kind decides what a delta means:

    open \\ comes    text       thinking   signature   input      citation
    nothing         open text  open it    -           broken     -
    text            more       (1)        -           -          kept
    thinking        (1)        more       kept        -          -
    tool            (1)        (1)        -           more       -
    ignored         -          -          -           -          -

    (1) close the open block, and open the other: the server skips the start of a block
     -  nothing: an unknown delta, or one of a block that is not passed on

Ignored blocks belong to tools that the vendor runs (web search and its results, MCP), or are of an
unknown kind. Kept parts come out when the block closes: citations or the signature; for a tool
without fragments, the input that it was opened with. A block without content does not come out.

The end is `message_stop`; also the end of input, or `[DONE]`, after a stop reason.
"""

from typing import Literal

import msgspec

from edge.dialects import errors
from edge.dialects.conversation import Citation, Origin, Signature
from edge.dialects.events import (
    Cited,
    Closed,
    Counted,
    Event,
    Failed,
    Signed,
    Started,
    Stop,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
)
from edge.dialects.heartbeats import is_done, is_heartbeat
from edge.dialects.lenient_json import decode_leniently
from edge.dialects.passthrough import UNREADABLE
from edge.dialects.sse_reader import SseReader
from edge.dialects.stop_reasons import interrupted, stop_of
from edge.dialects.text_template import TextTemplate
from middlewares import sse
from middlewares.exchange import Usage

from .citations import citation_of
from .wire import (
    NEEDED,
    NULL,
    Block,
    Delta,
    Message,
    MessageUsage,
    StopDetails,
    StreamEvent,
    decode_block,
    decode_event,
    decode_message,
    decode_typed,
    is_known,
    usage_at_start,
    usage_in,
)

Kind = Literal["text", "thinking", "tool", "ignored"]

_HEAD = b"event: content_block_delta\ndata: "
_ORIGIN = Origin("anthropic")
_NOTHING = (b"null", b"{}")


class MessagesReader(SseReader):
    """Decodes one streamed answer. See `codec.AnswerDecoder`."""

    __slots__ = (
        "_answered",
        "_block_sent",
        "_citations",
        "_explanation",
        "_input",
        "_open",
        "_ordinary",
        "_reason",
        "_sequence",
        "_signature",
        "_started",
        "_usage",
        "_usage_sent",
    )

    def __init__(self) -> None:
        super().__init__()
        self._answered = False
        """Whether the answer has any block, passed on or not."""
        self._open: Kind | None = None
        self._ordinary = TextTemplate(b'"text"')
        self._block_sent = False
        """Whether a part of the open block has been passed on."""
        self._citations: list[Citation] = []
        self._signature = ""
        self._input = ""
        self._started = False
        self._reason: Stop | None = None
        self._sequence: str | None = None
        self._explanation: str | None = None
        self._usage_sent: MessageUsage | None = None
        self._usage: Usage | None = None

    def decode_end(self) -> list[Event]:
        """The events at the end of input."""
        out: list[Event] = []
        if not self._over:
            if self._reason is None:
                self._fail(errors.broken("the stream ended before message_stop"), out)
            else:
                self._stop(out)
        return out

    def whole(self, body: bytes) -> list[Event]:
        """The events of an unstreamed answer. The decoder is used up."""
        out: list[Event] = []
        try:
            message = decode_message(body)
        except UNREADABLE:
            try:
                message = decode_leniently(decode_message, body, NEEDED)
            except UNREADABLE:
                return [errors.broken("the answer is not a message", body)]
        if message.type == "error" or errors.says_error(message.error):
            return [errors.failed_by(body)]
        if message.content is None:
            failed = errors.failed_by(body)
            failed.reason = f"the answer has no content: {failed.reason}"
            return [failed]
        self._greet(out)
        self._count(usage_in(message.usage), out)
        for raw in message.content:
            try:
                self._begin(_block_of(bytes(raw)), out)
            except UNREADABLE:
                if is_known(raw):
                    return [errors.broken("a block is not as it should be", bytes(raw))]
            self._close(out)
            if self._over:
                return out
        self._ended(message.stop_reason, message.stop_sequence, message.stop_details, out)
        if not self._over:
            self._stop(out)
        return out

    def decode_text(self, block: bytes) -> str:
        """See `codec.AnswerDecoder`."""
        return self._ordinary.text(block) if self._open == "text" and self._block_sent else ""

    def _read_event(self, event: bytes, out: list[Event]) -> None:
        if self._open == "text" and (text := self._ordinary.text(event)):
            self._block_sent = True
            out.append(TextDelta(text))
            return
        if (
            event.startswith(_HEAD)
            and event.endswith(b"\n\n")
            and event.count(b"\n") == 3
            and sse.CR not in event
        ):
            name, data = "content_block_delta", event[len(_HEAD) : -2]
        else:
            parsed = sse.parse(event)
            if parsed is None:
                return
            name, data = parsed
        try:
            read = decode_event(data)
        except UNREADABLE:
            self._strange(name, data, out)
        else:
            self._read(read, name, data, out)
            delta = read.delta
            if (
                self._ordinary.lessons
                and self._open == "text"
                and delta is not None
                and delta.type == "text_delta"
                and delta.text
            ):
                self._ordinary.learn(event, delta.text)

    def _read(self, read: StreamEvent, name: str, data: bytes, out: list[Event]) -> None:
        kind = read.type or name
        if kind == "content_block_delta":
            if read.delta is not None:
                self._delta(read.delta, data, out)
        elif is_failure(kind, name, read.error):
            self._fail(errors.failed_by(data), out)
        elif kind in ("", "message"):
            if not is_heartbeat(sse.Event(name, data)):
                self._fail(errors.failed_by(data), out)
        else:
            self._turn(kind, read, data, out)

    def _turn(self, kind: str, read: StreamEvent, data: bytes, out: list[Event]) -> None:
        """Handle any event other than a delta of a block."""
        match kind:
            case "message_start":
                self._start(read.message or Message(), out)
            case "content_block_start" if read.content_block is not None:
                self._begin(read.content_block, out)
            case "content_block_stop":
                self._close(out)
            case "message_delta":
                self._close(out)
                self._count(usage_in(read.usage), out)
                if (delta := read.delta) is not None:
                    self._ended(delta.stop_reason, delta.stop_sequence, delta.stop_details, out)
            case "message_stop":
                self._stop(out)

    def _strange(self, name: str, data: bytes, out: list[Event]) -> None:
        """Fail on an invalid event, unless its kind is unknown or it has no content."""
        if is_done(data):
            if self._reason is not None:
                self._stop(out)
            return
        if is_heartbeat(sse.Event(name, data)):
            return
        try:
            if not is_known(data):
                typed = decode_leniently(decode_typed, data)
                if is_failure(typed.type, name, typed.error):
                    self._fail(errors.failed_by(data), out)
                elif b'"content_block"' in data:
                    self._begin(Block(), out)
                return
            read = decode_leniently(decode_event, data, NEEDED)
        except UNREADABLE:
            self._fail(errors.broken("a frame is not a Messages event", data), out)
        else:
            self._read(read, name, data, out)

    # Blocks --------------------------------------------------------------------------------------

    def _delta(self, delta: Delta, data: bytes, out: list[Event]) -> None:
        kind = delta.type
        if self._open == "ignored":
            return
        if kind == "text_delta":
            if delta.text:
                self._text(delta.text, out)
        elif kind == "input_json_delta":
            if self._open == "tool":
                if delta.partial_json:
                    self._input = ""
                    out.append(ToolDelta(delta.partial_json))
            elif self._open is None:
                self._fail(errors.broken("a tool's input without the tool", data), out)
        elif kind == "thinking_delta":
            if delta.thinking:
                self._think(delta.thinking, out)
        elif kind == "signature_delta":
            if self._open == "thinking" and delta.signature:
                self._signature = delta.signature
        elif kind == "citations_delta" and self._open == "text" and delta.citation is not None:
            self._citations.append(citation_of(delta.citation))

    def _begin(self, block: Block, out: list[Event]) -> None:
        self._close(out)
        self._greet(out)
        match block.type:
            case "text":
                self._open = "text"
                self._citations += map(citation_of, block.citations or ())
                if block.text:
                    self._text(block.text, out)
            case "thinking":
                self._open = "thinking"
                self._signature = block.signature or ""
                if block.thinking:
                    self._think(block.thinking, out)
            case "redacted_thinking":
                self._open = "ignored"
                if block.data:
                    self._block_sent = True
                    out.append(Signed(Signature(origin=_ORIGIN, data=block.data, redacted=True)))
            case "tool_use":
                self._open = "tool"
                if not block.name:
                    self._fail(errors.broken("a tool call without a name"), out)
                    return
                given = bytes(block.input)
                if given not in _NOTHING:
                    try:
                        self._input = msgspec.json.format(given, indent=-1).decode()
                    except UNREADABLE:
                        self._fail(errors.broken("a tool's input cannot be read", given), out)
                        return
                self._block_sent = True
                out.append(ToolOpened(block.id or "", block.name))
            case _:
                self._open = "ignored"
                self._answered = self._answered or bool(block.type)

    def _text(self, text: str, out: list[Event]) -> None:
        if self._open != "text":
            self._switch("text", out)
        self._block_sent = True
        out.append(TextDelta(text))

    def _think(self, text: str, out: list[Event]) -> None:
        if self._open != "thinking":
            self._switch("thinking", out)
        self._block_sent = True
        out.append(ThinkingDelta(text))

    def _switch(self, kind: Kind, out: list[Event]) -> None:
        self._close(out)
        self._greet(out)
        self._open = kind

    def _close(self, out: list[Event]) -> None:
        if self._open is None or self._over:
            return
        if self._open == "text":
            if self._block_sent:
                out.extend(map(Cited, self._citations))
            self._citations.clear()
        elif self._open == "thinking" and self._signature:
            self._block_sent = True
            out.append(Signed(Signature(origin=_ORIGIN, data=self._signature)))
            self._signature = ""
        elif self._open == "tool" and self._input:
            out.append(ToolDelta(self._input))
            self._input = ""
        if self._block_sent:
            self._answered = True
            out.append(Closed())
        self._open = None
        self._block_sent = False

    # The message ---------------------------------------------------------------------------------

    def _greet(self, out: list[Event]) -> None:
        if not self._started:
            self._started = True
            out.append(Started())

    def _start(self, message: Message, out: list[Event]) -> None:
        self._greet(out)
        self._count(usage_at_start(message.usage), out)

    def _count(self, usage: MessageUsage | None, out: list[Event]) -> None:
        if usage is None:
            return
        self._usage_sent = usage.after(self._usage_sent)
        counted = self._usage_sent.normal()
        if counted.tokens:
            self._usage = counted
            if self._open is None and self._started:
                out.append(Counted(counted))

    def _ended(
        self,
        reason: str | None,
        sequence: str | None,
        details: StopDetails | None,
        out: list[Event],
    ) -> None:
        stop = stop_of(reason)
        if stop is None:
            return
        if stop == "failed":
            self._fail(interrupted(reason), out)
            return
        self._reason = stop
        if stop == "stop_sequence":
            self._sequence = sequence
        if details is not None:
            self._explanation = details.explanation

    def _stop(self, out: list[Event]) -> None:
        self._close(out)
        if not self._answered and self._reason is None:
            self._fail(errors.broken("the answer ended before it began"), out)
            return
        self._over = True
        self._greet(out)
        reason = self._reason or "end"
        explanation = self._explanation if reason == "refusal" else None
        out.append(Stopped(reason, self._sequence, explanation, self._usage))

    def _fail(self, failed: Failed, out: list[Event]) -> None:
        self._over = True
        out.append(failed)


def read(body: bytes) -> list[Event]:
    """Decode a whole unstreamed answer into events."""
    return MessagesReader().whole(body)


def _block_of(data: bytes) -> Block:
    """A block of an unstreamed answer. A null is left out."""
    try:
        return decode_block(data)
    except UNREADABLE:
        if data == b"null":
            return Block()
        return decode_leniently(decode_block, data, NEEDED)


def is_failure(kind: str, name: str, error: msgspec.Raw) -> bool:
    """Whether an event reports a failure. name: of its `event:` line."""
    return (
        kind == "error"
        or name == "error"
        or kind.endswith("_error")
        or (error is not NULL and errors.says_error(error))
    )
