"""Match events to the items of an answer, and items to the finished answer.

Servers number items correctly, or all alike, or not at all; some send no ids, others an id that
changes from event to event. So no single mark decides. The candidates are the open items of the
event's kind that its marks do not exclude; with several candidates the item is unknown.

    event                    one candidate                     several          none
    output_item.added        it, if it began in the same way   the same         a new item
    output_item.done         it                                the first        a new item, or one
                                                                                that is done already
    delta of a text          it; a new item if that text       none: its text   a new item
                             has ended and has no id           comes later
    everything else          it                                none             as output_item.done

An answer may hold thousands of items, so marks are indexed: an event is compared with items that
share a mark with it, and at most at `NEAR` of those that are numbered alike.

Source: OpenAI API, "Streaming events". What servers do instead: theopenco/llmgateway#2908,
teabranch/open-responses-server#63, lemonade-sdk/lemonade#3607.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from . import wire

ADDED = "response.output_item.added"
DONE = "response.output_item.done"
_DELTA = ".delta"
NEAR = 64
"""The most items with a common mark that an event is compared with: the latest ones."""


class ItemMarks:
    """The marks of an item. done: it is complete. ended: its complete texts."""

    __slots__ = ("call_id", "done", "ended", "id", "kind", "place")

    def __init__(self) -> None:
        self.kind = ""
        self.id = ""
        self.call_id = ""
        self.place: int | None = None
        self.done = False
        self.ended: set[tuple[str, int]] = set()

    @property
    def is_blank(self) -> bool:
        """Whether it has no content yet."""
        raise NotImplementedError


Item = TypeVar("Item", bound=ItemMarks)


class ItemMatch(NamedTuple, Generic[Item]):
    """item: None if it is new or unknown."""

    item: Item | None
    new: bool = False


class ItemMatcher(Generic[Item]):
    """The items of one answer, in the order of their start."""

    __slots__ = ("_ignored", "_known", "_marked", "_places")

    def __init__(self) -> None:
        self._known: list[Item] = []
        self._ignored: set[str] = set()
        self._marked = 0
        """How many known items are in `_places`; none while they are few."""
        self._places: defaultdict[Hashable, list[int]] = defaultdict(list)
        """Positions in `_known`, by mark."""

    def __iter__(self) -> Iterator[Item]:
        return iter(self._known)

    def __bool__(self) -> bool:
        return bool(self._known)

    def add(self, item: Item, event: wire.Event, reported: wire.Item) -> None:
        """Add `item`, which `event` reports for the first time."""
        item.kind = reported.type
        item.place = event.output_index
        item.id = reported.id or event.item_id or ""
        item.call_id = reported.call_id or ""
        self._known.append(item)

    def ignore(self, reported: wire.Item) -> None:
        """Ignore all events of an item that is not passed on."""
        if reported.id:
            self._ignored.add(reported.id)

    def of(self, event: wire.Event, reported: wire.Item | None, kind: str) -> ItemMatch[Item]:
        """The item that `event` belongs to. reported: the item in it. kind: the item's type."""
        if event.item_id in self._ignored:
            return ItemMatch(None)
        near = self._known if len(self._known) <= NEAR else self._near(event, reported, kind)
        alike = [item for item in near if item.kind == kind and _fits(item, event, reported)]
        id_ = _id_of(event, reported)
        open_ = [item for item in alike if not item.done]
        if id_:
            open_ = [item for item in open_ if item.id == id_] or open_
        if event.type == ADDED:
            begun = [item for item in open_ if _has_begun_so(item, reported)]
            return ItemMatch(begun[-1]) if begun else ItemMatch(None, new=True)
        if open_ and event.type == DONE:
            return ItemMatch(open_[0])
        if len(open_) > 1:
            return ItemMatch(None)
        if event.type.endswith(_DELTA):
            return self._of_delta(event, alike, open_)
        if open_:
            open_[0].ended.add(_text_of(event))
            return ItemMatch(open_[0])
        return (
            ItemMatch(None)
            if any(_is(item, event, reported) for item in alike)
            else ItemMatch(None, new=True)
        )

    def _near(self, event: wire.Event, reported: wire.Item | None, kind: str) -> list[Item]:
        """The items that `event` may belong to, in the order of their start."""
        for at in range(self._marked, len(self._known)):
            item = self._known[at]
            for mark in (
                ("kind", item.kind),
                ("place", item.kind, item.place),
                ("id", item.kind, item.id),
                ("call", item.kind, item.call_id),
            ):
                self._places[mark].append(at)
        self._marked = len(self._known)
        place = event.output_index
        marks: list[Hashable] = [("kind", kind)]
        if place is not None:
            marks = [("place", kind, place), ("place", kind, None)]
        if id_ := _id_of(event, reported):
            marks.append(("id", kind, id_))
        if reported is not None and reported.call_id:
            marks.append(("call", kind, reported.call_id))
        found = {at for mark in marks for at in self._places.get(mark, ())[-NEAR:]}
        return [self._known[at] for at in sorted(found)]

    def _of_delta(self, event: wire.Event, alike: list[Item], open_: list[Item]) -> ItemMatch[Item]:
        id_ = event.item_id
        if open_:
            [item] = open_
            ended = item.ended and item.id != id_ and _text_of(event) in item.ended
            return ItemMatch(None, new=True) if ended else ItemMatch(item)
        return (
            ItemMatch(None)
            if id_ and any(item.id == id_ for item in alike)
            else ItemMatch(None, new=True)
        )

    def reported(self, output: Sequence[wire.Item | None]) -> tuple[dict[int, int], list[int]]:
        """Positions of the items in `output`, by `id(item)`; and positions of additional items."""
        left = {at: reported for at, reported in enumerate(output) if reported is not None}
        found: dict[int, int] = {}
        for ours, theirs in _SAME:
            if not left or len(found) == len(self._known):
                break
            alike: defaultdict[Hashable, _Alike[Item]] = defaultdict(_Alike)
            for number, item in enumerate(self._known):
                if id(item) not in found and (mark := ours(item)) not in _NO_MARK:
                    alike[item.kind, mark].add(number, item)
            for at, reported in list(left.items()):
                group = alike.get((reported.type, theirs(reported, at)))
                match = group.first(reported.call_id or "", found) if group is not None else None
                if match is not None:
                    found[id(match)] = at
                    del left[at]
        return found, list(left)


class _Alike(Generic[Item]):
    """Items with a common mark, in the order of their start."""

    __slots__ = ("_all", "_of_call")

    def __init__(self) -> None:
        self._all: deque[tuple[int, Item]] = deque()
        self._of_call: defaultdict[str, deque[tuple[int, Item]]] = defaultdict(deque)

    def add(self, number: int, item: Item) -> None:
        self._all.append((number, item))
        self._of_call[item.call_id].append((number, item))

    def first(self, call_id: str, found: dict[int, int]) -> Item | None:
        """The first item that is not matched and does not belong to another call than `call_id`."""
        first: tuple[int, Item] | None = None
        for line in (self._of_call[call_id], self._of_call[""]) if call_id else (self._all,):
            while line and id(line[0][1]) in found:
                line.popleft()
            if line and (first is None or line[0][0] < first[0]):
                first = line[0]
        return None if first is None else first[1]


def _id_of(event: wire.Event, reported: wire.Item | None) -> str:
    return event.item_id or (reported.id if reported is not None else None) or ""


def _text_of(event: wire.Event) -> tuple[str, int]:
    """The text of an event: its type without the last part, and its index."""
    name = event.type.rpartition(".")[0]
    return name, event.content_index or event.summary_index or 0


def _fits(item: ItemMarks, event: wire.Event, reported: wire.Item | None) -> bool:
    """Whether no mark of `event` excludes `item`."""
    if reported is not None and reported.call_id and item.call_id:
        return reported.call_id == item.call_id
    place = event.output_index
    return place is None or item.place is None or place == item.place


def _has_begun_so(item: ItemMarks, reported: wire.Item | None) -> bool:
    """Whether the start of `item` is reported again."""
    if reported is not None and reported.id and item.id:
        return reported.id == item.id
    if reported is not None and reported.call_id and item.call_id:
        return True
    return item.is_blank


def _is(item: ItemMarks, event: wire.Event, reported: wire.Item | None) -> bool:
    """Whether `event` belongs to `item`, which is done."""
    id_ = _id_of(event, reported)
    if id_ and item.id:
        return id_ == item.id
    if reported is not None and reported.call_id and item.call_id:
        return True
    return event.output_index is not None or event.type != DONE


_NO_MARK = ("", None)
_SAME: tuple[
    tuple[Callable[[ItemMarks], Hashable], Callable[[wire.Item, int], Hashable]],
    ...,
] = (
    (lambda item: item.id, lambda reported, at: reported.id),
    (lambda item: item.call_id, lambda reported, at: reported.call_id),
    (lambda item: item.place, lambda reported, at: at),
    (lambda item: True, lambda reported, at: True),
)
"""Marks that match items with the finished answer, the most reliable first."""
