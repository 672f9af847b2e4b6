"""Encode answers for a caller of Responses.

Theory of operation. An answer is a list of items, each sent as a sequence of events
(`output_items`). The open item decides what an event does:

    event             open            then
    text, refusal     a message       more of it, in a part of that kind
                      anything else   finish it, begin a message
    thinking, signed  a reasoning     more of it
                      anything else   finish it, begin a reasoning
    ToolOpened        anything        finish it, begin a call
    Closed            a reasoning     finish it
                      anything else   finish it when something else begins
    Stopped           anything        finish it, with the status of the stop reason

So consecutive texts are one message, since citations split a sentence into several blocks; and the
last item gets its status before it is finished. Every event has a number, and the finished answer
holds the items as they were sent. An unstreamed answer is the end of a stream that is not sent.
"""

from collections.abc import Callable, Iterable, Sequence
from time import time
from typing import Any

from edge.dialects.codec import Caller
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
    unfold,
)
from middlewares.exchange import Usage

from .failure_events import EventNumbering, failing
from .output_items import CallItem, MessageItem, OutputItem, Pair, ReasoningItem
from .response_object import ResponseObject

DECLINED = "The model declined to answer."

_INCOMPLETE = {
    "length": "max_output_tokens",
    "pause": "max_output_tokens",
    "refusal": "content_filter",
}
"""The reason of an incomplete answer, by `Stop`; for others the answer is complete."""


class ResponsesWriter:
    """Encodes one answer. See `codec.Writer`. clock: Unix seconds."""

    __slots__ = (
        "_clock",
        "_closed",
        "_created",
        "_done",
        "_finished_length",
        "_id",
        "_open",
        "_refused",
        "_response",
        "_started",
        "_stream",
        "answer",
    )

    def __init__(self, caller: Caller, clock: Callable[[], float] = time) -> None:
        self.answer = b""
        self._clock = clock
        self._created = caller.created
        self._id = caller.id
        self._response = ResponseObject(caller)
        self._stream = EventNumbering()
        self._started = False
        self._open: OutputItem | None = None
        self._closed = False
        """Whether the open item may be finished."""
        self._done: list[bytes] = []
        self._finished_length = 0
        """Characters of text in the finished items."""
        self._refused = False

    def encode(self, events: Sequence[Event]) -> bytes:
        """The SSE events for the next events."""
        if len(events) == 1:
            return self._event(events[0])
        return b"".join(map(self._event, events))

    def encode_text(self, text: str) -> bytes:
        """The events of one TextDelta."""
        return self._event(TextDelta(text))

    def _event(self, event: Event) -> bytes:
        kind = type(event)
        item = self._open
        if kind is TextDelta and type(item) is MessageItem and item.kind == "text":
            self._closed = False
            return self._stream.event(item.delta, item.say(event.text))  # type: ignore[union-attr]
        if kind is ToolDelta and type(item) is CallItem:
            return self._stream.event(item.delta, item.say(event.text))  # type: ignore[union-attr]
        match event:
            case TextDelta():
                return self._speak("text", event.text)
            case RefusalDelta():
                self._refused = True
                return self._speak("refusal", event.text)
            case ThinkingDelta():
                out, thought = self._thought()
                out += self._encode_pairs(thought.part())
                return out + self._stream.event(thought.delta, thought.say(event.text))
            case Signed():
                out, thought = self._thought()
                thought.signature = event.signature
                return out
            case ToolOpened():
                return self._call(event)
            case Cited() if isinstance(item, MessageItem):
                return self._encode_pairs(item.cite(event.citation, self._finished_length))
            case Closed():
                return self._close()
            case Started():
                return self._start()
            case Stopped():
                return self._stopped(event)
        return b""

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        running = b'"response":' + self._response.running()
        return self._encode_pairs(
            ((b"response.created", running), (b"response.in_progress", running)),
        )

    def _encode_pairs(self, pairs: Iterable[Pair]) -> bytes:
        return b"".join([self._stream.event(kind, members) for kind, members in pairs])

    def _named(self, prefix: str) -> tuple[str, int]:
        place = len(self._done)
        return f"{prefix}_{self._id}{place:02x}", place

    def _begin(self, item: OutputItem) -> bytes:
        self._open = item
        self._closed = False
        return self._encode_pairs(item.opened())

    def _speak(self, kind: str, text: str) -> bytes:
        out = b""
        item = self._open
        if not isinstance(item, MessageItem):
            out = self._finish("completed")
            item = MessageItem(*self._named("msg"))
            out += self._begin(item)
        self._closed = False
        if item.kind != kind:
            out += self._encode_pairs(item.part(kind))
        return out + self._stream.event(item.delta, item.say(text))

    def _thought(self) -> tuple[bytes, ReasoningItem]:
        if isinstance(self._open, ReasoningItem):
            return b"", self._open
        out = self._finish("completed")
        thought = ReasoningItem(*self._named("rs"))
        return out + self._begin(thought), thought

    def _call(self, event: ToolOpened) -> bytes:
        out = self._finish("completed")
        call = CallItem(
            *self._named("ctc" if event.custom else "fc"),
            call_id=event.id,
            name=event.name,
            namespace=event.namespace,
            custom=event.custom,
        )
        return out + self._begin(call)

    def _close(self) -> bytes:
        self._closed = True
        if isinstance(self._open, ReasoningItem):
            return self._finish("completed")
        if isinstance(self._open, MessageItem):
            self._open.block_end()
        return b""

    def _finish(self, status: str) -> bytes:
        item, self._open = self._open, None
        if item is None:
            return b""
        out = self._encode_pairs(item.finished(status))
        self._done.append(item.whole)
        if isinstance(item, MessageItem):
            self._finished_length += item.length()
        return out

    def _stopped(self, event: Stopped) -> bytes:
        out = self._start()
        if event.reason == "refusal" and not self._refused:
            out += self._speak("refusal", event.explanation or DECLINED)
        reason = _INCOMPLETE.get(event.reason)
        usage = event.usage or Usage()
        if reason is None:
            out += self._finish("completed")
            at = max(self._created, int(self._clock()))
            self.answer = self._response.completed(self._done, usage, at)
            return out + self._stream.event(b"response.completed", b'"response":' + self.answer)
        out += self._finish("incomplete")
        self.answer = self._response.incomplete(self._done, usage, reason)
        return out + self._stream.event(b"response.incomplete", b'"response":' + self.answer)

    def encode_body(self, reply: Reply) -> bytes:
        """The whole unstreamed answer."""
        self.encode(list(unfold(reply)))
        return self.answer

    def encode_failure(self, content: dict[str, Any]) -> bytes:
        """The last bytes of a broken stream. Incomplete items are left out."""
        out = self._start()
        if self._closed:
            out += self._finish("completed")
        return out + failing(
            self._stream,
            content,
            lambda code, message: self._response.failed(self._done, code, message),
        )
