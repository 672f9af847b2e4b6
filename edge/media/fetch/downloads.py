"""Fetched files that are used again: bounded in number, bytes and age."""

from collections.abc import Callable
from time import monotonic

from edge.media.forms.spool import MEMORY, Spool
from middlewares.bounded_map import BoundedMap


class Download(Spool):
    """A fetched file. Several requests may read it at once, so it is deleted when nothing refers to
    it any more, and `close` does nothing.

    name: of the file, "" if unknown.
    """

    __slots__ = ("name",)

    def __init__(self, *, memory: int = MEMORY, name: str = "") -> None:
        super().__init__(memory=memory)
        self.name = name

    def close(self) -> None:
        """Nothing: others may read it."""

    def __del__(self) -> None:
        super().close()


class Downloads:
    """Files by key, dropped the least recently used first.

    most: files. most_bytes: of all files. seconds: age.
    """

    __slots__ = ("_clock", "_entries", "_most_bytes", "_seconds", "size")

    def __init__(
        self,
        most: int,
        most_bytes: int,
        *,
        seconds: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._entries: BoundedMap[bytes, tuple[Download, float]] = BoundedMap(most, self._dropped)
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._clock = clock
        self.size = 0

    def get(self, key: bytes) -> Download | None:
        """The file of `key`, None if there is none or it is too old."""
        entry = self._entries.use(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            self._entries.drop(key)
            return None
        return entry[0]

    def put(self, key: bytes, spool: Download) -> None:
        """Keep a file, unless it alone is larger than all may be together."""
        self._entries.drop(key)
        if spool.size > self._most_bytes:
            return
        self._entries.put(key, (spool, self._clock() + self._seconds))
        self.size += spool.size
        while self.size > self._most_bytes:
            self._entries.drop_oldest()

    def clear(self) -> None:
        """Drop all files."""
        while self._entries:
            self._entries.drop_oldest()

    def _dropped(self, _key: bytes, entry: tuple[Download, float]) -> None:
        self.size -= entry[0].size
