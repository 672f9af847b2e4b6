"""Dictionaries with a bound on entries, and on their time.

`BoundedMap` is an `OrderedDict`, so that a look-up on the path of each request costs what a look-up
in a dictionary costs: cachetools' `LRUCache` and `TTLCache` make two to four Python calls of each.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedMap(OrderedDict[K, V]):
    """At most `most` entries, the least recently used first; beyond that the first one is dropped.

    A look-up (`get`, `[]`, `in`) is no use; `use`, `put` and `move_to_end` are. Entries are added
    by `put` alone.

    dropped: called with each entry that `put`, `drop` and `drop_oldest` take away, but for one that
    is replaced.
    """

    __slots__ = ("_dropped", "_most")

    def __init__(self, most: int, dropped: Callable[[K, V], object] | None = None) -> None:
        super().__init__()
        if most < 1:
            raise ValueError(f"most {most}: expected at least 1")
        self._most = most
        self._dropped = dropped

    def use(self, key: K) -> V | None:
        """The value of `key`, which is the most recently used now; None where there is none."""
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Set the value of `key`, which is the most recently used now."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.drop_oldest()

    def drop(self, key: K) -> None:
        """Take an entry away, if it is there."""
        if key in self:
            value = self.pop(key)
            if self._dropped is not None:
                self._dropped(key, value)

    def drop_oldest(self) -> None:
        """Take the least recently used entry away. Raises KeyError when there is none."""
        key, value = self.popitem(last=False)
        if self._dropped is not None:
            self._dropped(key, value)


class ExpiringMap(Generic[K, V]):
    """At most `most` entries, each for `seconds` after it was put; of more, those used last.

    clock: seconds.
    """

    __slots__ = ("_clock", "_entries", "_seconds")

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        if not seconds >= 0:
            raise ValueError(f"seconds {seconds}: expected 0 or more")
        self._entries: BoundedMap[K, tuple[V, float]] = BoundedMap(most)
        self._seconds = seconds
        self._clock = clock

    def __len__(self) -> int:
        """Entries, those included whose time is over."""
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value of `key`, which is the most recently used now; None where there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, until: float | None = None) -> None:
        """Set the value of `key` from now on, for `seconds` or until then."""
        ends = self._clock() + self._seconds if until is None else until
        self._entries.put(key, (value, ends))

    def drop(self, key: K) -> None:
        """Take an entry away, if it is there."""
        self._entries.drop(key)

    def clear(self) -> None:
        """Take all entries away."""
        self._entries.clear()
