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

Source: OpenAI API, "Streaming events". What servers do instead: theopenco/llmgateway#2908,
teabranch/open-responses-server#63, lemonade-sdk/lemonade#3607.
"""

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from . import wire

ADDED = "response.output_item.added"
DONE = "response.output_item.done"
_DELTA = ".delta"


class Marked:
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


Item = TypeVar("Item", bound=Marked)


class Found(NamedTuple, Generic[Item]):
    """item: None for one that is new, or that cannot be found."""

    item: Item | None
    new: bool = False


class Items(Generic[Item]):
    """The items of one answer, in the order in which they began."""

    __slots__ = ("_ignored", "_known")

    def __init__(self) -> None:
        self._known: list[Item] = []
        self._ignored: set[str] = set()

    def __iter__(self) -> Iterator[Item]:
        return iter(self._known)

    def __bool__(self) -> bool:
        return bool(self._known)

    def add(self, item: Item, event: wire.Event, told: wire.Item) -> None:
        """Remember `item`, of which `event` tells for the first time."""
        item.kind = told.type
        item.place = event.output_index
        item.id = told.id or event.item_id or ""
        item.call_id = told.call_id or ""
        self._known.append(item)

    def ignore(self, told: wire.Item) -> None:
        """Leave out all events of an item that is not passed on."""
        if told.id:
            self._ignored.add(told.id)

    def of(self, event: wire.Event, told: wire.Item | None, kind: str) -> Found[Item]:
        """The item that `event` belongs to. told: the item in it. kind: the item's type."""
        if event.item_id in self._ignored:
            return Found(None)
        alike = [item for item in self._known if item.kind == kind and _fits(item, event, told)]
        id_ = _id_of(event, told)
        open_ = [item for item in alike if not item.done]
        if id_:
            open_ = [item for item in open_ if item.id == id_] or open_
        if event.type == ADDED:
            begun = [item for item in open_ if _has_begun_so(item, told)]
            return Found(begun[-1]) if begun else Found(None, new=True)
        if open_ and event.type == DONE:
            return Found(open_[0])
        if len(open_) > 1:
            return Found(None)
        if event.type.endswith(_DELTA):
            return self._of_delta(event, alike, open_)
        if open_:
            open_[0].ended.add(_text_of(event))
            return Found(open_[0])
        return (
            Found(None) if any(_is(item, event, told) for item in alike) else Found(None, new=True)
        )

    def _of_delta(self, event: wire.Event, alike: list[Item], open_: list[Item]) -> Found[Item]:
        id_ = event.item_id
        if open_:
            [item] = open_
            ended = item.ended and item.id != id_ and _text_of(event) in item.ended
            return Found(None, new=True) if ended else Found(item)
        return (
            Found(None) if id_ and any(item.id == id_ for item in alike) else Found(None, new=True)
        )

    def told(self, output: Sequence[wire.Item | None]) -> tuple[dict[int, int], list[int]]:
        """Where in `output` the items are, by `id(item)`; and the places of those it adds."""
        left = {at: told for at, told in enumerate(output) if told is not None}
        unmatched = list(self._known)
        found: dict[int, int] = {}
        for matches in (_same_id, _same_call, _same_place, _same_kind):
            for at, told in list(left.items()):
                for item in unmatched:
                    if item.kind == told.type and matches(item, told, at):
                        found[id(item)] = at
                        del left[at]
                        unmatched.remove(item)
                        break
        return found, list(left)


def _id_of(event: wire.Event, told: wire.Item | None) -> str:
    return event.item_id or (told.id if told is not None else None) or ""


def _text_of(event: wire.Event) -> tuple[str, int]:
    """The text that an event is about: its type, less what happens to it, and its place."""
    name = event.type.rpartition(".")[0]
    return name, event.content_index or event.summary_index or 0


def _fits(item: Marked, event: wire.Event, told: wire.Item | None) -> bool:
    """Whether no mark says that `event` is of another item."""
    if told is not None and told.call_id and item.call_id:
        return told.call_id == item.call_id
    place = event.output_index
    return place is None or item.place is None or place == item.place


def _has_begun_so(item: Marked, told: wire.Item | None) -> bool:
    """Whether `item` is what is told of once more, as it begins."""
    if told is not None and told.id and item.id:
        return told.id == item.id
    if told is not None and told.call_id and item.call_id:
        return True
    return item.is_blank


def _is(item: Marked, event: wire.Event, told: wire.Item | None) -> bool:
    """Whether `event` is of `item`, which is done."""
    id_ = _id_of(event, told)
    if id_ and item.id:
        return id_ == item.id
    if told is not None and told.call_id and item.call_id:
        return True
    return event.output_index is not None or event.type != DONE


def _same_id(item: Marked, told: wire.Item, at: int) -> bool:
    return bool(told.id) and told.id == item.id and not _other_call(item, told)


def _same_call(item: Marked, told: wire.Item, at: int) -> bool:
    return bool(told.call_id) and told.call_id == item.call_id


def _same_place(item: Marked, told: wire.Item, at: int) -> bool:
    return item.place == at and not _other_call(item, told)


def _same_kind(item: Marked, told: wire.Item, at: int) -> bool:
    return not _other_call(item, told)


def _other_call(item: Marked, told: wire.Item) -> bool:
    return bool(told.call_id and item.call_id) and told.call_id != item.call_id
