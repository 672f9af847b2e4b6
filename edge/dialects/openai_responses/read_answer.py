"""Answers of an upstream that speaks Responses, read into events.

Theory of operation. Items are passed on one at a time, in the order in which they were announced;
events of an item that is not at its turn wait with it (`read_items`). A terminal event ends the
answer, whatever is still open; items of which it tells for the first time are passed on whole.

    event                                     then
    output_item.added                         a new item; its turn comes when those before are done
    output_item.done                          what of it was not said; the next item's turn
    an event of an item                       to the item, if it is its turn; else it waits
    completed, incomplete                     all that waits, what was never told; Stopped
    failed, cancelled, error                  Failed
    created, in_progress, queued              Started
    all others, `[DONE]`                      nothing: new ones come with every version

An upstream that stops talking before a terminal event has broken off.
"""

from collections.abc import Sequence

from msgspec import Raw

from edge.dialects import failures
from edge.dialects.neutral import Counted, Event, Failed, Started, Stop, Stopped
from edge.dialects.passthrough import UNREADABLE
from middlewares import sse
from middlewares.exchange import Usage

from . import wire
from .read_items import Call, Item, reader_of

_TEXT = "response.output_text.delta"
_ENDS = frozenset(("response.completed", "response.incomplete", "response.done"))
_BREAKS = frozenset(("response.failed", "response.cancelled", "response.error", "error"))
_BEGINS = frozenset(("response.created", "response.in_progress", "response.queued"))
_OF_ITEMS = (
    "response.output_item.",
    "response.output_text.",
    "response.refusal.",
    "response.reasoning",
    "response.function_call_arguments.",
    "response.custom_tool_call_input.",
)
_REASONS: dict[str | None, Stop] = {"max_output_tokens": "length", "content_filter": "refusal"}


class ResponsesReader:
    """One streamed answer. See `sides.Reader`."""

    __slots__ = ("_called", "_items", "_line", "_over", "_seen", "_started", "_text")

    def __init__(self) -> None:
        self._items: dict[int | str, Item] = {}
        self._line: list[Item] = []
        """The items that are not done, that at its turn in front."""
        self._seen: set[str] = set()
        self._called = False
        self._over = False
        self._started = False
        self._text = [0]

    def feed(self, block: bytes) -> list[Event]:
        """The events in a block of whole SSE events."""
        out: list[Event] = []
        if self._over:
            return out
        # Nearly every block is one event of two lines.
        cut = block.find(b"\n")
        if (
            block.startswith(b"data: ", cut + 1)
            and block.startswith(b"event: ")
            and block.find(b"\n", cut + 1) == len(block) - 2
            and b"\r" not in block
        ):
            self._data(block[cut + 7 : -2], block[7:cut], out)
            return out
        for event in sse.split(block):
            parsed = sse.parse(event)
            if parsed is not None and not self._over:
                self._data(parsed.data, parsed.name.encode(), out)
        return out

    def end(self) -> list[Event]:
        """The upstream has ended; without a terminal event it has broken off."""
        out: list[Event] = []
        if not self._over:
            self._fail(failures.broken("the stream ended before the response did"), out)
        return out

    def whole(self, body: bytes) -> list[Event]:
        """The events of an unstreamed answer. The reader is used up."""
        try:
            response = wire.decode_response(body)
        except UNREADABLE:
            return [failures.broken("the answer is not a response", body)]
        if _is_error(response.error):
            return [failures.failed_by(body)]
        if response.output is None or response.status in ("queued", "in_progress"):
            return [failures.broken("the answer is not a finished response", body)]
        out: list[Event] = []
        self._stop(response, body, out)
        return out

    def _data(self, data: bytes, name: bytes, out: list[Event]) -> None:
        try:
            event = wire.decode_event(data)
        except UNREADABLE:
            self._unreadable(data, out)
            return
        kind = event.type or name.decode("utf-8", "replace").strip()
        if kind in _BREAKS or (not kind and _is_error(event.error)):
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
                self._fail(failures.broken("an item cannot be read", data), out)

    def _unreadable(self, data: bytes, out: list[Event]) -> None:
        """An event we have no use for may be of any shape; one we need may not."""
        text = data.strip()
        if not text or text == b"[DONE]":
            return
        try:
            kind = wire.decode_typed(text).type
        except UNREADABLE:
            kind = _TEXT
        if kind in _ENDS or kind in _BREAKS or kind.startswith(_OF_ITEMS):
            self._fail(failures.broken("an event is not of a response", data), out)

    # Items ---------------------------------------------------------------------------------------

    def _item(self, event: wire.Event, out: list[Event]) -> None:
        told = wire.item_of(event.item)
        key: int | str | None = event.output_index
        if key is None:
            key = event.item_id or (told.id if told is not None else None) or 0
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = self._announced(event, told)
            if not item.done:
                self._line.append(item)
        if told is not None and told.id:
            self._seen.add(told.id)
        if item.done:
            return
        if self._line[0] is not item:
            item.waiting.append(event)
            return
        self._pass(item, event, out)
        while self._line and self._line[0].done:
            self._next(out)

    def _announced(self, event: wire.Event, told: wire.Item | None) -> Item:
        """The reader of an item that begins, also of one whose beginning was never told."""
        if told is None:
            told = wire.Item(type=_type_by(event.type))
        self._called |= told.type in ("function_call", "custom_tool_call")
        return reader_of(told.type, told, self._text)

    def _pass(self, item: Item, event: wire.Event, out: list[Event]) -> None:
        if item.done:  # what some server sends behind its end
            return
        if event.type != "response.output_item.done":
            item.take(event, out)
            return
        told = wire.item_of(event.item)
        if told is not None:
            item.whole(told, out)
        item.close(out)
        item.done = True

    def _next(self, out: list[Event]) -> None:
        """It is the next item's turn: pass on what waits with it."""
        self._line.pop(0)
        if self._line:
            item = self._line[0]
            waiting, item.waiting = item.waiting, []
            for event in waiting:
                self._pass(item, event, out)

    # Endings -------------------------------------------------------------------------------------

    def _stop(self, response: wire.Response, data: bytes, out: list[Event]) -> None:
        if _is_error(response.error) or response.status in ("failed", "cancelled"):
            self._break(wire.Event(response=response), data, out)
            return
        if not self._started:
            out.append(Started())
        try:
            self._rest([wire.item_of(raw) for raw in response.output or ()], out)
        except UNREADABLE:
            self._fail(failures.broken("an item cannot be read", data), out)
            return
        self._over = True
        usage = response.usage.normal() if response.usage is not None else None
        out.append(Stopped(self._reason(response), usage=None if usage == Usage() else usage))

    def _rest(self, output: Sequence[wire.Item | None], out: list[Event]) -> None:
        """All that waits, and items that are told of for the first time."""
        places = {id(item): place for place, item in self._items.items()}
        while self._line:
            item = self._line[0]
            if not item.done:
                place = places[id(item)]
                told = None
                if isinstance(place, int) and 0 <= place < len(output):
                    told = output[place]
                if told is not None:
                    item.whole(told, out)
                item.close(out)
            self._next(out)
        for place, told in enumerate(output):
            if told is None or place in self._items or (told.id or "") in self._seen:
                continue
            late = reader_of(told.type, told, self._text)
            late.whole(told, out)
            late.close(out)
            self._called |= isinstance(late, Call)

    def _reason(self, response: wire.Response) -> Stop:
        if response.status == "incomplete":
            details = response.incomplete_details
            return _REASONS.get(details.reason if details is not None else None, "end")
        return "tool_use" if self._called else "end"

    def _break(self, event: wire.Event, data: bytes, out: list[Event]) -> None:
        """The upstream says that it failed; it may say what that cost."""
        usage = event.response.usage if event.response is not None else None
        if usage is not None and self._started:
            out.append(Counted(usage.normal()))
        self._fail(failures.failed_by(data), out)

    def _fail(self, failed: Failed, out: list[Event]) -> None:
        self._over = True
        out.append(failed)


def _type_by(event: str) -> str:
    """The type of the item that an event of this type belongs to."""
    kind = event.removeprefix("response.")
    if kind.startswith("reasoning"):
        return "reasoning"
    if kind.startswith("function_call"):
        return "function_call"
    return "custom_tool_call" if kind.startswith("custom_tool_call") else "message"


def _is_error(error: Raw) -> bool:
    return error is not wire.NULL and bytes(error) != b"null"


def read(body: bytes) -> list[Event]:
    """A whole unstreamed answer as events."""
    return ResponsesReader().whole(body)
