"""Which item of an answer an event belongs to, and what a finished answer says of it.

Servers number items well, or all alike, or not at all; some give no ids, others an id that changes
from event to event. So no single mark decides. Of the open items of the event's kind those are
left to which its marks point; where several are left, nobody knows which is meant.

    event                    one is left                       several          none is left
    output_item.added        it, if it has begun just so       the same         a new item
    output_item.done         it                                the first        a new item, or one
                                                                                that was done before
    delta of a text          it; a new item if that text       none: what was   a new item
                             has ended and has no id           said follows
    everything else          it                                none             as output_item.done

An answer may hold thousands of items, so marks are looked up: an event looks at items it has a mark
in common with, and at most at `NEAR` of those that are numbered alike.

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
"""Items with a mark in common that an event is compared with: those that began last."""


class ItemMarks:
    """The marks of an item. done: it is complete. ended: those of its texts that are complete."""

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
        """Whether nothing of it has been said."""
        raise NotImplementedError


Item = TypeVar("Item", bound=ItemMarks)


class ItemMatch(NamedTuple, Generic[Item]):
    """item: None for one that is new, or that cannot be found."""

    item: Item | None
    new: bool = False


class ItemMatcher(Generic[Item]):
    """The items of one answer, in the order in which they began."""

    __slots__ = ("_ignored", "_known", "_marked", "_places")

    def __init__(self) -> None:
        self._known: list[Item] = []
        self._ignored: set[str] = set()
        self._marked = 0
        """How many of the known are in `_places`; while they are few, none is."""
        self._places: defaultdict[Hashable, list[int]] = defaultdict(list)
        """By a mark, where in `_known` the items with it are."""

    def __iter__(self) -> Iterator[Item]:
        return iter(self._known)

    def __bool__(self) -> bool:
        return bool(self._known)

    def add(self, item: Item, event: wire.Event, reported: wire.Item) -> None:
        """Remember `item`, of which `event` tells for the first time."""
        item.kind = reported.type
        item.place = event.output_index
        item.id = reported.id or event.item_id or ""
        item.call_id = reported.call_id or ""
        self._known.append(item)

    def ignore(self, reported: wire.Item) -> None:
        """Leave out all events of an item that is not passed on."""
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
        """The items that `event` may be of, in the order in which they began."""
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
        """Where in `output` the items are, by `id(item)`; and the places of those it adds."""
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
    """Items that have a mark in common, in the order in which they began."""

    __slots__ = ("_all", "_of_call")

    def __init__(self) -> None:
        self._all: deque[tuple[int, Item]] = deque()
        self._of_call: defaultdict[str, deque[tuple[int, Item]]] = defaultdict(deque)

    def add(self, number: int, item: Item) -> None:
        self._all.append((number, item))
        self._of_call[item.call_id].append((number, item))

    def first(self, call_id: str, found: dict[int, int]) -> Item | None:
        """The first item that is not found and is of no other call than `call_id`."""
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
    """The text that an event is about: its type, less what happens to it, and its place."""
    name = event.type.rpartition(".")[0]
    return name, event.content_index or event.summary_index or 0


def _fits(item: ItemMarks, event: wire.Event, reported: wire.Item | None) -> bool:
    """Whether no mark says that `event` is of another item."""
    if reported is not None and reported.call_id and item.call_id:
        return reported.call_id == item.call_id
    place = event.output_index
    return place is None or item.place is None or place == item.place


def _has_begun_so(item: ItemMarks, reported: wire.Item | None) -> bool:
    """Whether `item` is what is told of once more, as it begins."""
    if reported is not None and reported.id and item.id:
        return reported.id == item.id
    if reported is not None and reported.call_id and item.call_id:
        return True
    return item.is_blank


def _is(item: ItemMarks, event: wire.Event, reported: wire.Item | None) -> bool:
    """Whether `event` is of `item`, which is done."""
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
"""The marks by which items and what a finished answer holds are the same, the surest first."""
