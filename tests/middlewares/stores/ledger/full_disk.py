"""A disk without room, as a journal meets it."""

from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap

from middlewares.stores.ledger.journal import Journal


@contextmanager
def full_disk(journal: Journal) -> Iterator[None]:
    """Take all room of the journal's segment and of its disk; give it back at the end.

    Reaches into the journal: a disk without room cannot be had otherwise without mounting one.
    """
    room = journal._map, journal._room
    full = mmap(-1, 1)
    journal._map, journal._room = full, 1 << 60
    try:
        yield
    finally:
        full.close()
        journal._map, journal._room = room
