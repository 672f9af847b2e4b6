"""Dictionaries with a bound on entries, and with a time-to-live.

`BoundedMap` is an `OrderedDict`, so a lookup on the path of each request costs as much as in a
dictionary: cachetools' `LRUCache` and `TTLCache` make two to four Python calls per lookup.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedMap(OrderedDict[K, V]):
    """LRU map of at most `most` entries, the least recently used first.

    A lookup (`get`, `[]`, `in`) does not count as a use; `use`, `put` and `move_to_end` do. Entries
    are added by `put` only.

    dropped: called with each entry that `put`, `drop` and `drop_oldest` remove, but not with a
    replaced value.
    """

    __slots__ = ("_dropped", "_most")

    def __init__(self, most: int, dropped: Callable[[K, V], object] | None = None) -> None:
        super().__init__()
        if most < 1:
            raise ValueError(f"most {most}: expected at least 1")
        self._most = most
        self._dropped = dropped

    def use(self, key: K) -> V | None:
        """The value of `key`, marked as most recently used; None if there is none."""
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Set the value of `key`, marked as most recently used."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._most:
            self.drop_oldest()

    def drop(self, key: K) -> None:
        """Remove an entry, if it is there."""
        if key in self:
            value = self.pop(key)
            if self._dropped is not None:
                self._dropped(key, value)

    def drop_oldest(self) -> None:
        """Remove the least recently used entry. Raises KeyError when there is none."""
        key, value = self.popitem(last=False)
        if self._dropped is not None:
            self._dropped(key, value)


class ExpiringMap(Generic[K, V]):
    """LRU map of at most `most` entries with a time-to-live of `seconds`.

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
        """Number of entries, including expired ones."""
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value of `key`, marked as most recently used; None if there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, until: float | None = None) -> None:
        """Set the value of `key` for `seconds`, or until `until`."""
        ends = self._clock() + self._seconds if until is None else until
        self._entries.put(key, (value, ends))

    def drop(self, key: K) -> None:
        """Remove an entry, if it is there."""
        self._entries.drop(key)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
