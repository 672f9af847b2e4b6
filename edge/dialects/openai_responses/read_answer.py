"""Decode answers of a Responses upstream into events.

Theory of operation. Items are passed on one at a time, in the order of their start; events of later
items are queued with their item (`read_items`). `item_matching` finds the item of an event; a delta
with the same marks as the one before belongs to the same item. A terminal event ends the answer,
whatever is still open; content that it holds and that was not sent is sent then.

    event                                     then
    output_item.added                         a new item; its turn comes when those before are done
    output_item.done                          its unsent content; the next item's turn
    an event of an item                       to the item, if it is its turn; else it is queued
    completed, incomplete                     all that is queued or was never sent; Stopped
    failed, cancelled, error                  Failed; also for an event without type, no heartbeat
    created, in_progress, queued              Started
    all others, `[DONE]`                      ignored: new ones appear with every version

An upstream that stops before a terminal event has broken off.
"""

from collections import deque
from collections.abc import Sequence
from typing import Literal

from msgspec import Raw

from edge.dialects import errors
from edge.dialects.events import (
    Counted,
    Event,
    Failed,
    Started,
    Stop,
    Stopped,
)
from edge.dialects.heartbeats import is_done, is_heartbeat
from edge.dialects.lenient_json import decode_leniently
from edge.dialects.passthrough import UNREADABLE
from edge.dialects.sse_reader import SseReader
from edge.dialects.stop_reasons import interrupted, stop_of
from middlewares import sse
from middlewares.exchange import Usage

from . import wire
from .item_matching import DONE, ItemMatcher
from .read_items import ItemReader, reader_of

_TEXT = "response.output_text.delta"
_ENDS = frozenset(("response.completed", "response.incomplete", "response.done"))
_BREAKS = frozenset(("response.failed", "response.cancelled", "response.error", "error"))
_OF_ITEMS = (
    "response.output_item.",
    "response.output_text.",
    "response.refusal.",
    "response.reasoning",
    "response.function_call_arguments.",
    "response.custom_tool_call_input.",
)
_NEEDED = (*_OF_ITEMS, *_ENDS, *_BREAKS)
_CALLS = ("function_call", "custom_tool_call")


class ResponsesReader(SseReader):
    """Decodes one streamed answer. See `codec.AnswerDecoder`."""

    __slots__ = (
        "_called",
        "_front",
        "_hosted",
        "_items",
        "_line",
        "_started",
        "_text",
    )

    def __init__(self) -> None:
        super().__init__()
        self._front: tuple[str, str | None, int | None, ItemReader] | None = None
        """The marks of the last event, and its item, if that is the first in the queue."""
        self._items: ItemMatcher[ItemReader] = ItemMatcher()
        self._line: deque[ItemReader] = deque()
        """The items that are not done, the one at its turn first."""
        self._called = False
        self._hosted = 0
        self._started = False
        self._text = [0]

    def decode(self, block: bytes) -> list[Event]:
        # The usual block is one event of two lines.
        cut = block.find(b"\n")
        if (
            block.startswith(b"data: ", cut + 1)
            and block.startswith(b"event: ")
            and block.find(b"\n", cut + 1) == len(block) - 2
            and sse.CR not in block
            and not self._over
        ):
            out: list[Event] = []
            self._data(block[cut + 7 : -2], block[7:cut], out)
            return out
        return super().decode(block)

    def decode_end(self) -> list[Event]:
        """The events at the end of input; without a terminal event the answer has failed."""
        out: list[Event] = []
        if not self._over:
            self._fail(errors.broken("the stream ended before the response did"), out)
        return out

    def whole(self, body: bytes) -> list[Event]:
        """The events of an unstreamed answer. The decoder is used up."""
        try:
            response = wire.decode_response(body)
        except UNREADABLE:
            try:
                response = decode_leniently(wire.decode_response, body, wire.NEEDED)
            except UNREADABLE:
                return [errors.broken("the answer is not a response", body)]
        if errors.says_error(response.error):
            return [errors.failed_by(body)]
        if response.output is None or response.status in ("queued", "in_progress"):
            failed = errors.failed_by(body)
            failed.reason = f"the answer is not a finished response: {failed.reason}"
            return [failed]
        out: list[Event] = []
        self._stop(response, body, out)
        return out

    def _read_event(self, event: bytes, out: list[Event]) -> None:
        parsed = sse.parse(event)
        if parsed is not None:
            self._data(parsed.data, parsed.name.encode(), out)

    def _data(self, data: bytes, name: bytes, out: list[Event]) -> None:
        try:
            event = wire.decode_event(data)
        except UNREADABLE:
            self._unreadable(data, name, out)
        else:
            self._read(event, data, name, out)

    def _read(self, event: wire.Event, data: bytes, name: bytes, out: list[Event]) -> None:
        kind = event.type or name.decode("utf-8", "replace").strip()
        front = self._front
        if (
            front is not None
            and front[0] == kind
            and front[1] == event.item_id
            and front[2] == event.output_index
        ):
            front[3].take(event, out)
            return
        if kind in _BREAKS:
            self._break(event, data, out)
            return
        if not self._started:
            self._started = True
            out.append(Started())
        if kind in _ENDS:
            self._stop(event.response or wire.Response(), data, out)
        elif kind.startswith(_OF_ITEMS):
            event.type = kind
            try:
                self._item(event, out)
            except UNREADABLE:
                self._fail(errors.broken("an item cannot be read", data), out)
        elif not kind.startswith("response.") and self._is_failure(event, data, name):
            self._break(event, data, out)

    def _is_failure(self, event: wire.Event, data: bytes, name: bytes) -> bool:
        """Whether an event of a type outside the dialect reports a failure."""
        if name == b"error" or errors.says_error(event.error) or event.type.endswith("_error"):
            return True
        named = name.decode("utf-8", "replace")
        return not event.type and not is_heartbeat(sse.Event(named, data))

    def _unreadable(self, data: bytes, name: bytes, out: list[Event]) -> None:
        """Handle an invalid event: fail only if its type is one that is read."""
        if is_done(data) or is_heartbeat(sse.Event(name.decode("utf-8", "replace"), data)):
            return
        try:
            kind = decode_leniently(wire.decode_typed, data, wire.NEEDED).type
            if kind.startswith("response.") and not kind.startswith(_NEEDED):
                return
            event = decode_leniently(wire.decode_event, data, wire.NEEDED)
        except UNREADABLE:
            self._fail(errors.broken("an event is not of a response", data), out)
        else:
            self._read(event, data, name, out)

    # Items ---------------------------------------------------------------------------------------

    def _item(self, event: wire.Event, out: list[Event]) -> None:
        self._front = None
        reported = wire.item_of(event.item)
        if reported is not None and reported.type not in wire.ACTED_ON:
            self._hosted += event.type == DONE and reported.type in wire.HOSTED
            self._items.ignore(reported)
            return
        item, new = self._items.of(event, reported, type_of(event, reported))
        if new:
            item = self._announced(event, reported)
            self._line.append(item)
        if item is None:
            return
        if self._line[0] is not item:
            item.waiting.append(event)
            return
        self._pass(item, event, out)
        if event.type.endswith(".delta"):
            self._front = (event.type, event.item_id, event.output_index, item)
        while self._line and self._line[0].done:
            self._next(out)

    def _announced(self, event: wire.Event, reported: wire.Item | None) -> ItemReader:
        """Create the reader of a new item, also of one whose start was not sent."""
        reported = reported or wire.Item(type=type_of(event, reported))
        self._called |= reported.type in _CALLS
        item = reader_of(reported, self._text)
        self._items.add(item, event, reported)
        return item

    def _pass(self, item: ItemReader, event: wire.Event, out: list[Event]) -> None:
        if item.done:  # some servers send more after its end
            return
        if event.type != DONE:
            item.take(event, out)
            return
        reported = wire.item_of(event.item)
        if reported is not None:
            item.whole(reported, out)
        item.close(out)
        item.done = True

    def _next(self, out: list[Event]) -> None:
        """Begin the next item's turn: pass on its queued events."""
        self._line.popleft()
        if self._line:
            item = self._line[0]
            waiting, item.waiting = item.waiting, []
            for event in waiting:
                self._pass(item, event, out)

    # Endings -------------------------------------------------------------------------------------

    def _stop(self, response: wire.Response, data: bytes, out: list[Event]) -> None:
        if errors.says_error(response.error) or response.status in ("failed", "cancelled"):
            self._break(wire.Event(response=response), data, out)
            return
        reason = _reason(response)
        if reason == "failed":
            self._count(response, out)
            details = response.incomplete_details
            self._fail(interrupted(details.reason if details is not None else None), out)
            return
        if response.output is None and not self._items:
            self._fail(errors.broken("the response has no output", data), out)
            return
        if not self._started:
            out.append(Started())
        try:
            self._rest([_acted_on(raw) for raw in response.output or ()], out)
        except UNREADABLE:
            self._fail(errors.broken("an item cannot be read", data), out)
            return
        self._over = True
        usage = wire.usage_in(response)
        if hosted := max(self._hosted, wire.hosted_in(data)):
            usage = usage or Usage()
            usage.hosted = hosted
        elif usage is not None and not usage.tokens:
            usage = None
        reason = reason or ("tool_use" if self._called else "end")
        out.append(Stopped(reason, usage=usage))

    def _rest(self, output: Sequence[wire.Item | None], out: list[Event]) -> None:
        """Pass on everything queued, and unsent content of `output`."""
        finished, added = self._items.reported(output)
        done = [item for item in self._items if item.done]
        while self._line:
            item = self._line[0]
            reported = output[finished[id(item)]] if id(item) in finished else None
            if not item.done:
                if reported is not None:
                    item.whole(reported, out)
                item.close(out)
            self._next(out)
        for item in done:
            if id(item) in finished and (reported := output[finished[id(item)]]) is not None:
                item.missed(reported, out)
        for place in added:
            reported = output[place]
            if reported is None or (_is_text(reported) and not self._lacks_text(output)):
                continue
            late = reader_of(reported, self._text)
            late.whole(reported, out)
            late.close(out)
            self._called |= reported.type in _CALLS

    def _lacks_text(self, output: Sequence[wire.Item | None]) -> bool:
        """Whether `output` holds more text than was sent: messages may have been merged."""
        parts = [
            part for reported in output if reported is not None for part in _parts_of(reported)
        ]
        return self._text[0] < sum(len(part.text or "") for part in parts)

    def _break(self, event: wire.Event, data: bytes, out: list[Event]) -> None:
        """Handle a reported failure, which may include usage."""
        if event.response is not None:
            self._count(event.response, out)
        self._fail(errors.failed_by(data), out)

    def _count(self, response: wire.Response, out: list[Event]) -> None:
        usage = wire.usage_in(response)
        if usage is not None and self._started:
            out.append(Counted(usage))

    def _fail(self, failed: Failed, out: list[Event]) -> None:
        self._over = True
        out.append(failed)


def _acted_on(raw: Raw) -> wire.Item | None:
    item = wire.item_of(raw)
    return item if item is not None and item.type in wire.ACTED_ON else None


def _is_text(reported: wire.Item) -> bool:
    return reported.type == "message" and not any(part.refusal for part in _parts_of(reported))


def _parts_of(reported: wire.Item) -> Sequence[wire.Part]:
    return (reported.content if reported.type == "message" else None) or ()


def type_of(event: wire.Event, reported: wire.Item | None) -> str:
    """The type of the item that an event belongs to."""
    if reported is not None:
        return reported.type
    kind = event.type.removeprefix("response.")
    if kind.startswith("reasoning"):
        return "reasoning"
    if kind.startswith("function_call"):
        return "function_call"
    return "custom_tool_call" if kind.startswith("custom_tool_call") else "message"


def _reason(response: wire.Response) -> Stop | Literal["failed"] | None:
    """The reason of an incomplete response; None if it is complete."""
    if response.status != "incomplete":
        return None
    details = response.incomplete_details
    return stop_of(details.reason if details is not None else None) or "end"


def read(body: bytes) -> list[Event]:
    """Decode a whole unstreamed answer into events."""
    return ResponsesReader().whole(body)
