"""Correct the indexes and ids of items in a passed-through stream, and add missing items.

Clients find the item of an event by its index, some by its id, and read finished items in
`response.output_item.done` only. Events of a server with correct numbers are not changed.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Raw

from edge.dialects.passthrough import UNREADABLE, Fields, decode_fields, encode

from . import wire
from .item_matching import ADDED, DONE, ItemMarks, ItemMatcher
from .read_answer import type_of

Pair = tuple[bytes, bytes]
"""Type and members of an event, without its number."""

_OF_KINDS = (
    "response.output_text.",
    "response.refusal.",
    "response.reasoning",
    "response.function_call_arguments.",
    "response.custom_tool_call_input.",
)
"""Events that imply the item's type."""
_PART = "response.content_part."
_PREFIXES = {"message": "msg_", "reasoning": "rs_", "function_call": "fc_"}
_NULL = Raw(b"null")


class _Marks(msgspec.Struct):
    type: str = ""
    id: str | None = None
    call_id: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    output_index: int | None = None
    item_id: str | None = None
    content_index: int | None = None
    summary_index: int | None = None


_decode_marks = msgspec.json.Decoder(_Marks).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_odd_event = msgspec.json.Decoder(_Event, strict=False).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


class _Item(ItemMarks):
    """An item. number, name: the index and the id that the caller knows."""

    __slots__ = ("has_content", "name", "number")

    def __init__(self, number: int) -> None:
        super().__init__()
        self.name = ""
        self.number = number
        self.has_content = False

    @property
    def is_blank(self) -> bool:
        """Whether it has no content yet."""
        return not self.has_content


class ItemNumbering:
    """Numbers the items of one stream. odd: its marks are wrong, so every event is decoded."""

    __slots__ = (
        "_items",
        "_last",
        "_missed_beginning",
        "_named",
        "_names",
        "_next",
        "_numbers",
        "odd",
    )

    def __init__(self) -> None:
        self._items: ItemMatcher[_Item] = ItemMatcher()
        self._last: _Item | None = None
        self._named: dict[str, _Item] = {}
        """The last item with an id, whether the server's or the caller's."""
        self._names: set[str] = set()
        self._numbers: set[int] = set()
        self._next = 0
        self._missed_beginning = False
        """Whether content arrived of an item whose start did not."""
        self.odd = False

    def event(self, kind: str, raw: Raw, data: bytes) -> bytes | None:
        """The `data` of an item's event with the item's marks; None to drop the event.

        raw: the item in it. Raises one of UNREADABLE.
        """
        reported = _reported_item(raw)
        part = kind.startswith(_PART)
        if reported is None and not part and not kind.startswith(_OF_KINDS):
            return data
        marks, odd = _marks_of(data)
        event = wire.Event(
            type=kind,
            output_index=marks.output_index,
            item_id=marks.item_id,
            content_index=marks.content_index,
            summary_index=marks.summary_index,
        )
        item = self._around(event) if part else self._of(event, reported)
        if item is None:
            return None if self.odd else data
        named = reported.id if reported is not None else event.item_id
        if event.output_index == item.number and named == item.name and not odd:
            return data
        self.odd = True
        members = decode_fields(data)
        members["output_index"] = Raw(encode(item.number))
        if reported is None:
            members["item_id"] = Raw(encode(item.name))
            if part or item.kind == "message":
                members["content_index"] = Raw(encode(event.content_index or 0))
        else:
            members["item"] = Raw(encode({**decode_fields(raw), "id": item.name}))
        return encode(members)

    def _around(self, event: wire.Event) -> _Item | None:
        """The item of a part: the one it names, else the last one that began."""
        return self._named.get(event.item_id, self._last) if event.item_id else self._last

    def _of(self, event: wire.Event, reported: wire.Item | None) -> _Item | None:
        kind = type_of(event, reported)
        item, new = self._items.of(event, reported, kind)
        if new:
            item = self._add(event, reported or wire.Item(type=kind))
            self._missed_beginning = self._missed_beginning or event.type not in (ADDED, DONE)
        if item is None:
            return None
        if event.type == DONE:
            item.done = True
        elif event.type != ADDED:
            item.has_content = True
        return item

    def _add(self, event: wire.Event, reported: wire.Item) -> _Item:
        place = event.output_index
        if place is None or place in self._numbers or place < 0:
            place = self._next
        item = _Item(place)
        self._items.add(item, event, reported)
        item.name = item.id
        if not item.name or item.name in self._names:
            item.name = f"{_PREFIXES.get(reported.type, 'item_')}{uuid4().hex}"
        self._numbers.add(place)
        self._next = max(self._next, place + 1)
        self._names.add(item.name)
        self._named[item.id] = self._named[item.name] = self._last = item
        return item

    def finish(self, output: Sequence[Raw]) -> tuple[list[Raw], list[Pair]]:
        """`output` with the ids that the caller knows; and events for items not sent yet.

        Raises one of UNREADABLE.
        """
        reported = [_reported_item(raw) for raw in output]
        found, added = self._items.reported(reported)
        ours = list(output)
        late: list[Pair] = []
        for item in list(self._items):
            if (at := found.get(id(item))) is None:
                continue
            if (each := reported[at]) is not None and each.id != item.name:
                ours[at] = Raw(encode(_named(item, output[at])))
            if not item.done:
                item.done = True
                late.append(_done(item, output[at]))
        for at in added:
            each = reported[at]
            if each is None or (self._missed_beginning and each.type in wire.ACTED_ON):
                continue
            item = self._add(wire.Event(output_index=at), each)
            item.done = True
            ours[at] = Raw(encode(_named(item, output[at])))
            late += _whole(item, each.type, output[at])
        return ours, late


def items_of(response: Fields) -> list[Raw]:
    """The output of a response; [] without one. Raises one of UNREADABLE."""
    output = response.get("output", _NULL)
    return [] if bytes(output) == b"null" else _decode_list(output)


def _marks_of(data: bytes) -> tuple[_Event, bool]:
    """The marks of an event, and whether they are quoted numbers. Raises one of UNREADABLE."""
    try:
        return _decode_event(data), False
    except msgspec.ValidationError:
        return _decode_odd_event(data), True


def _reported_item(raw: Raw) -> wire.Item | None:
    if bytes(raw) == b"null":
        return None
    try:
        marks = _decode_marks(raw)
    except UNREADABLE:
        return None
    return wire.Item(type=marks.type, id=marks.id, call_id=marks.call_id)


def _members(**values: Any) -> bytes:
    return encode(values)[1:-1]


def _done(item: _Item, raw: Raw) -> Pair:
    return DONE.encode(), _members(output_index=item.number, item=_named(item, raw))


def _named(item: _Item, raw: Raw) -> Fields:
    return {**decode_fields(raw), "id": Raw(encode(item.name))}


def _whole(item: _Item, kind: str, raw: Raw) -> Iterator[Pair]:
    """All events of an item that none has been sent of."""
    members = _named(item, raw)
    begun = {**members, "status": "in_progress"}
    at = {"item_id": item.name, "output_index": item.number}
    texts: list[Pair] = []
    if kind == "message":
        begun["content"] = []
        texts = [*_parts(at, members.get("content", _NULL))]
    elif kind == "function_call":
        begun["arguments"] = ""
        text = members.get("arguments", Raw(b'""'))
        texts = [
            (b"response.function_call_arguments.delta", _members(**at, delta=text)),
            (b"response.function_call_arguments.done", _members(**at, arguments=text)),
        ]
    yield ADDED.encode(), _members(output_index=item.number, item=begun)
    yield from texts
    yield _done(item, raw)


def _parts(at: dict[str, Any], content: Raw) -> Iterator[Pair]:
    if bytes(content) == b"null":
        return
    for place, raw in enumerate(_decode_list(content)):
        part = decode_fields(raw)
        where = {**at, "content_index": place}
        name = "refusal" if "refusal" in part else "text"
        kind = b"response.refusal" if name == "refusal" else b"response.output_text"
        text = part.get(name, Raw(b'""'))
        yield b"response.content_part.added", _members(**where, part={**part, name: ""})
        yield kind + b".delta", _members(**where, delta=text)
        yield kind + b".done", _members(**where, **{name: text})
        yield b"response.content_part.done", _members(**where, part=part)
