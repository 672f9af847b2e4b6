"""Values that are kept while they fit into a bound of bytes."""

from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import Generic, TypeVar

import msgspec

V = TypeVar("V")


class Kept(msgspec.Struct, Generic[V], eq=False):
    """A place for a value. value: None once it had to make room for others. size: bytes."""

    value: V | None
    size: int


class KeptValues(Generic[V]):
    """The places of values of at most `most` bytes together; the least recently used are emptied.

    Used by the event loop and by one worker thread.
    """

    __slots__ = ("_lock", "_most", "_places", "size")

    def __init__(self, most: int) -> None:
        self.size = 0
        self._most = most
        self._places: OrderedDict[int, Kept[V]] = OrderedDict()
        self._lock = Lock()

    def __iter__(self) -> Iterator[Kept[V]]:
        """The places that have a value."""
        return iter(list(self._places.values()))

    def add(self, value: V, size: int) -> Kept[V]:
        """A place for `value`. It is empty if the value alone takes more than a quarter of all."""
        place: Kept[V] = Kept(value, size)
        if size > self._most // 4:
            place.value = None
            return place
        with self._lock:
            self._places[id(place)] = place
            self.size += size
            while self.size > self._most:
                _, oldest = self._places.popitem(last=False)
                self.size -= oldest.size
                oldest.value = None
        return place

    def use(self, place: Kept[V]) -> V | None:
        """The value in `place`, marked as most recently used."""
        with self._lock:
            value = place.value
            if value is not None:
                self._places.move_to_end(id(place))
            return value

    def drop(self, place: Kept[V]) -> None:
        """Empty `place`."""
        with self._lock:
            if self._places.pop(id(place), None) is not None:
                self.size -= place.size
                place.value = None
