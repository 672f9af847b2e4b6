"""How rows get into a store: past a row that it does not take, and out of dead journals."""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from middlewares.stores.errors import StoreUnavailable

from .base import Entry, LedgerStore, RowRejected, storable
from .journal import dead

_log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode

LONGEST = 1000
"""Rows in one transaction, at most."""
_AGAIN = 0.05
"""Seconds after which it is looked whether another process still recovers."""

ASIDE = "rejected.jsonl"
"""File in the folder of the journals: rows that the store does not take, one JSON object each."""


async def deliver(store: LedgerStore, entries: Sequence[Entry], folder: Path | None = None) -> None:
    """Append `entries`. A row that the store does not take is set aside: logged in full and added
    to `ASIDE` in `folder`, so that it holds up no other.

    Such a row is one that the store rejects, or one that fails, in whatever way, beside another
    that is taken. Raises StoreUnavailable, and what was raised where no row is taken.
    """
    try:
        return await store.append(entries)
    except StoreUnavailable:
        raise
    except RowRejected:
        failed: Exception | None = None
    except Exception as raised:
        if len(entries) == 1:
            raise
        failed = raised
    refused: list[tuple[Entry, Exception]] = []
    for entry in entries:
        try:
            await store.append([entry])
        except StoreUnavailable:
            raise
        except Exception as raised:
            refused.append((entry, raised))
    if failed is not None and len(refused) == len(entries):
        raise failed
    for entry, reason in refused:
        _set_aside(entry, reason, folder)


def _set_aside(entry: Entry, reason: Exception, folder: Path | None) -> None:
    _log.error("the ledger's store refuses a row, so it is set aside: %s: %r", reason, entry)
    if folder is None:
        return
    try:
        row = _encode(msgspec.structs.asdict(storable(entry)))
    except (TypeError, ValueError, RecursionError):
        row = _encode(repr(entry))
    try:
        with open(folder / ASIDE, "ab", opener=_private) as file:
            file.write(row + b"\n")
    except OSError as raised:
        _log.error("cannot set a row aside in %s: %s", folder / ASIDE, raised)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def recover(
    folder: Path, store: LedgerStore, delivered: Callable[[Sequence[Entry]], None]
) -> None:
    """Bring what dead processes have left in `folder` to the store, and remove it there.

    delivered: is called with rows that are in the store. Raises StoreUnavailable, OSError; what
    is left then is recovered the next time. Waits until no other process recovers from `folder`:
    a journal that another holds, and then fails to deliver, would pass for one that is not there.
    """
    async with _alone(folder):
        await _recover(folder, store, delivered)


@asynccontextmanager
async def _alone(folder: Path) -> AsyncIterator[None]:
    """The lock of the folder itself, among all processes."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_AGAIN)
        yield
    finally:
        os.close(file)


async def _recover(
    folder: Path, store: LedgerStore, delivered: Callable[[Sequence[Entry]], None]
) -> None:
    for journal in dead(folder):
        try:
            segments = journal.rows()
            count = 0
            while (rows := await asyncio.to_thread(next, segments, None)) is not None:
                for start in range(0, len(rows), LONGEST):
                    batch = rows[start : start + LONGEST]
                    await deliver(store, batch, folder)
                    delivered(batch)
                    count += len(batch)
            await asyncio.to_thread(journal.remove)
            if count:  # else another process was here just before
                _log.warning("recovered %d rows of a dead process: %s", count, journal.name)
        finally:
            journal.release()
