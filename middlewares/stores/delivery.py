"""How rows get into a store: past a row that it does not take, and out of dead journals."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from .journal import dead
from .ledger import Entry, LedgerStore, Rejected

_log = logging.getLogger(__name__)

LONGEST = 1000
"""Rows in one transaction, at most."""


async def deliver(store: LedgerStore, entries: Sequence[Entry]) -> None:
    """Append `entries`. One that the store rejects for what it says is logged in full instead, so
    that it does not hold up the others. Raises StoreUnavailable.
    """
    try:
        await store.append(entries)
    except Rejected:
        for entry in entries:
            try:
                await store.append([entry])
            except Rejected as raised:
                _log.error("the ledger's store rejects a row: %s: %r", raised, entry)


async def recover(
    folder: Path, store: LedgerStore, delivered: Callable[[Sequence[Entry]], None]
) -> None:
    """Bring what dead processes have left in `folder` to the store, and remove it there.

    delivered: is called with rows that are in the store. Raises StoreUnavailable, OSError; what
    is left then is recovered the next time.
    """
    for journal in dead(folder):
        try:
            segments = journal.rows()
            count = 0
            while (rows := await asyncio.to_thread(next, segments, None)) is not None:
                for start in range(0, len(rows), LONGEST):
                    batch = rows[start : start + LONGEST]
                    await deliver(store, batch)
                    delivered(batch)
                    count += len(batch)
            await asyncio.to_thread(journal.remove)
            _log.warning("recovered %d rows of a process that has died: %s", count, journal.name)
        finally:
            journal.release()
