"""Ledger writer of a process: takes rows on the hot path and writes them to the ledger.

Theory of operation. `open`, `close` and `void` write to the journal (see there) and return; one
task writes the rows to the store in the order in which they were closed, some hundred at a time.
While the store does not answer rows wait, in memory and, when they are many, only in the journal; a
row that it does not take is set aside (`delivery`).
A second task tells `committed` of what is in the store, so that counters which do not answer hold
up no row. A third recovers the journals of processes that have died. A row may be written more
than once; the store keeps the first. A fourth begins a journal where there could be none, or where
somebody has removed it; until then nothing is opened.
"""

import asyncio
import logging
import os
from asyncio import FIRST_COMPLETED
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from middlewares.backoff import Backoff
from middlewares.shared import Shared
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.outage import LastTries, Outage

from .base import Entry, LedgerStore
from .delivery import LONGEST, deliver, recover
from .journal import Journal, closed

_log = logging.getLogger(__name__)

Committed = Callable[[Sequence[Entry]], Awaitable[None]]

_BATCH = 1000
_SEGMENT = 8 << 20
_IN_MEMORY = 50_000
_SLACK = 1 << 20
"""Bytes of a segment that are left when the next one should begin, for when it cannot."""
_AGAIN = 64 << 10
"""Bytes after which that is tried again."""
_MOST = 200_000
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_RECOVERY = 30.0
_PATIENCE = 5.0
_TENDING = 0.5


class _Chunk:
    """Rows that were closed while one segment was written to, and are not in the store."""

    __slots__ = ("away", "ended", "file", "rows", "segment", "unwritten")

    def __init__(self, segment: int) -> None:
        self.segment = segment
        self.rows: list[Entry] = []
        self.unwritten: list[Entry] = []
        """Those of them that the journal could not take."""
        self.away = 0
        """How many rows are in the journal only."""
        self.ended = 0.0
        """Unix seconds at which the request of the first of these ended."""
        self.file: int | None = None
        """Descriptor of the segment then, which may be removed from its folder."""

    def __len__(self) -> int:
        return self.away + len(self.rows)


def _first(raised: Exception) -> Exception:
    """What the system said, without what was said of it since."""
    return raised.__cause__ if isinstance(raised.__cause__, OSError) else raised


class LedgerWriter(Shared):
    """Rows of requests under way, kept if this process dies.

    folder: of the journals, made if it is not there; several processes may share it. None keeps
        no journal: what is not in the store when the process ends is gone.
    committed: called with all rows that are in the store, also those of dead processes; called
        again until it does not raise.
    period: seconds for which rows are gathered.

    Make it in the process that uses it, not before a fork. `start` before the first request,
    `aclose` after the last. Counts: `written` and `recovered` rows, `store_failures`,
    `journal_failures` and `committed_failures`.
    """

    def __init__(
        self,
        store: LedgerStore,
        folder: Path | None,
        *,
        committed: Committed | None = None,
        period: float = 0.2,
        segment: int = _SEGMENT,
        in_memory: int = _IN_MEMORY,
        recovery: float = _RECOVERY,
        patience: float = _PATIENCE,
        tending: float = _TENDING,
        most: int = _MOST,
    ) -> None:
        """segment: bytes after which a new one is begun. in_memory: rows above which those of
        older segments are left in the journal. recovery: seconds between two looks for dead
        processes. patience: seconds that `start` and `aclose` may wait for the store. tending:
        seconds between two checks of the journal's own files. most: rows that may wait without a
        journal, and rows that have not been reported to the counters.
        """
        for name, value in (("period", period), ("recovery", recovery), ("segment", segment)):
            if value <= 0:
                raise ValueError(f"{name} {value}: expected more than 0")
        self._store = store
        self._folder = folder
        self._committed = committed
        self._period = period
        self._segment = segment
        self._in_memory = in_memory
        self._recovery = recovery
        self._patience = patience
        self._tending = tending
        self._most = most
        self.journal: Journal | None = None
        """The journal of this process; None without a folder, and while its files are gone."""
        self._removed: Journal | None = None
        """The journal while its files are gone."""
        self._turn_at = segment
        self._chunks: deque[_Chunk] = deque([_Chunk(0)])
        self._last = self._chunks[0]
        self._closed = 0
        self._arrived = asyncio.Event()
        self._enough = asyncio.Event()
        self._untold: deque[Sequence[Entry]] = deque()
        self._to_tell = asyncio.Event()
        self._handed = 0
        self._reported = 0
        self._tried = 0
        self._progress = asyncio.Event()
        self._hurries = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._recovering = asyncio.Lock()
        self._recoveries: set[asyncio.Task[None]] = set()
        self._next_recovery: asyncio.Task[None] | None = None
        self._last_tries = LastTries()
        self._store_outage = Outage(
            _log,
            "cannot write rows to the ledger's store, so they wait",
            "rows are written to the ledger's store again",
        )
        self._journal_outage = Outage(
            _log, "cannot write the journal", "the journal is written again"
        )
        self._committed_outage = Outage(
            _log,
            "cannot report written rows to the counters",
            "written rows are reported to the counters again",
        )
        self._recovery_outage = Outage(
            _log,
            "cannot recover rows of dead processes",
            "rows of dead processes are recovered again",
        )
        self.written = 0
        self.recovered = 0
        self.store_failures = 0
        self.journal_failures = 0
        self.committed_failures = 0

    @property
    def pending(self) -> int:
        """Rows that are not in the store yet."""
        return sum(map(len, self._chunks))

    def oldest_age(self, now: float) -> float:
        """Seconds at `now` (Unix seconds) since the request of the oldest row ended that is not in
        the store yet; 0.0 without one."""
        for chunk in self._chunks:
            if chunk.away:
                return max(0.0, now - chunk.ended)
            if chunk.rows:
                return max(0.0, now - chunk.rows[0].ended_at)
        return 0.0

    @property
    def in_memory(self) -> int:
        """Rows that are not in the store yet and are held in memory, not left in the journal."""
        return sum(len(chunk.rows) for chunk in self._chunks)

    @property
    def under_way(self) -> int:
        """Entries that were opened and neither closed nor made void; 0 without a journal."""
        journal = self.journal or self._removed
        return 0 if journal is None else journal.under_way

    @property
    def usable(self) -> bool:
        """Whether entries can be opened, as far as the journal is concerned."""
        return self._folder is None or (self.journal is not None and not self._journal_outage.on)

    @property
    def delivers(self) -> bool:
        """Whether the store has taken the rows that it was given last."""
        return not self._store_outage.on

    async def start(self) -> None:
        """Begin a journal, and recover those of the dead; waits for that while the store answers.

        While the folder cannot be used there is no journal, and `open` raises.
        """
        if self._tasks:
            raise RuntimeError("LedgerWriter.start was called twice")
        if self._folder is not None:
            try:
                self._begin(self._folder)
            except StoreUnavailable as raised:
                self._journal_outage.failed(_first(raised))
        self._tasks = [asyncio.create_task(self._write_rows(), name="book-writer")]
        if self._committed is not None:
            self._tasks.append(
                asyncio.create_task(self._tell(self._committed), name="book-committed")
            )
        if self._folder is not None:
            task = asyncio.create_task(self._tend(self._folder), name="book-journal")
            self._tasks.append(task)
            looked = asyncio.Event()
            task = asyncio.create_task(self._look_for_dead(self._folder, looked), name="book-dead")
            self._tasks.append(task)
            try:
                async with asyncio.timeout(self._patience):
                    await looked.wait()
            except TimeoutError:
                _log.warning("still recovering rows of dead processes")

    def open(self, entry: Entry) -> None:
        """Keep what the row will be should this process die. Raises StoreUnavailable: then nothing
        may be done that costs anything."""
        if self._handed - self._reported > self._most:
            raise StoreUnavailable("too many rows have not been reported to the counters")
        journal = self.journal
        if journal is None:
            if self._folder is not None:
                if not self._tasks:
                    raise RuntimeError("LedgerWriter.start was not called, or aclose was")
                return self._begin(self._folder).open(entry)
            if len(self._last.rows) > self._most:
                raise StoreUnavailable("too many rows wait for the ledger's store")
            return
        try:
            journal.open(entry)
        except StoreUnavailable as raised:
            if not self._turn(journal):  # a disk that was full may have room again
                self._journal_outage.failed(_first(raised))
                raise
            journal.open(entry)
        if self._journal_outage.on:
            self._journal_outage.worked()
        if journal.size > self._turn_at:
            self._turn(journal)

    def close(self, entry: Entry) -> None:
        """The row of a request that is over, opened or not. Does not raise."""
        chunk = self._last
        rows = chunk.rows
        rows.append(entry)
        self._closed += 1
        if len(rows) == 1:
            self._arrived.set()
        elif len(rows) == _BATCH:
            self._enough.set()
        journal = self.journal
        if journal is not None:
            try:
                journal.close(entry)
            except Exception as raised:  # the money is spent: the row is kept here
                chunk.unwritten.append(entry)
                self._failed(raised)
            if journal.size > self._turn_at:
                self._turn(journal)
        elif self._removed is not None:
            self._removed.forget(entry.id)

    def void(self, entry_id: str) -> None:
        """An opened entry comes to nothing: there will be no row. Does not raise."""
        journal = self.journal
        if journal is not None:
            try:
                journal.void(entry_id)
            except OSError as raised:
                self._failed(raised)
            if journal.size > self._turn_at:
                self._turn(journal)
        elif self._removed is not None:
            self._removed.forget(entry_id)

    def written_elsewhere(self, entries: Sequence[Entry]) -> None:
        """Report to `committed` what another writer has put into the ledger's store."""
        self._hand_over(entries)

    async def flush(self) -> None:
        """Wait until all rows closed so far are in the store, and `committed` was asked once.

        Waits for as long as the store does not answer.
        """
        if not self._tasks:
            raise RuntimeError("LedgerWriter.start was not called, or aclose was")
        wanted = self._closed
        self._hurries += 1
        self._enough.set()
        try:
            while self._closed - self.pending < wanted:
                await self._progress.wait()
            handed = self._handed
            while self._committed is not None and self._tried < handed:
                await self._progress.wait()
        finally:
            self._hurries -= 1

    async def recover_now(self) -> None:
        """Bring the rows of processes that have died to the store, before it is asked what was
        spent. Raises StoreUnavailable when it does not take them, or has not in time.
        """
        folder = self._folder
        if folder is None or not self._tasks:
            return
        recovery = self._next_recovery
        if recovery is None:
            recovery = asyncio.create_task(self._recover(folder), name="book-recover-now")
            self._next_recovery = recovery
            self._recoveries.add(recovery)
            recovery.add_done_callback(self._recoveries.discard)
        await asyncio.wait((recovery,), timeout=self._patience)
        if not recovery.done() or recovery.cancelled():
            raise StoreUnavailable("still recovering rows of a dead process")
        raised = recovery.exception()
        if isinstance(raised, StoreUnavailable):  # all else is said where it is tried each time
            raise StoreUnavailable(f"rows of a process that has died wait: {raised}") from None

    async def _recover(self, folder: Path) -> None:
        """Recover one at a time: a second run would take the journals that the first has locked."""
        async with self._recovering:
            if asyncio.current_task() is self._next_recovery:
                self._next_recovery = None  # later callers need another run
            await recover(folder, self._store, self._recovered)

    async def aclose(self) -> None:
        """Write what is left, for a bounded time, and stop. Idempotent.

        What could not be written stays in the journal, for the next process to recover; so a store
        that fails is asked only a few times more.
        """
        if not self._tasks:
            return
        self._last_tries.begin()
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self.flush(), name="book-flush")]
        if self.journal is not None:  # the next process has what does not get to the store
            over = self._last_tries.over.wait()
            waits.append(asyncio.create_task(over, name="book-last-tries"))
        try:
            await asyncio.wait(waits, timeout=self._patience, return_when=FIRST_COMPLETED)
            whole = waits[0].done()
        finally:
            for wait in waits:
                wait.cancel()
        if not whole:
            _log.error(
                "%d rows are not in the ledger's store; %s",
                self.pending,
                "they are lost" if self.journal is None else "the journal has them",
            )
        tasks, self._tasks = [*self._tasks, *self._recoveries], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._removed is not None and self._folder is not None:
            with suppress(StoreUnavailable):
                self._begin(self._folder)
        journal, self.journal = self.journal or self._removed, None
        self._removed = None
        for chunk in self._chunks:
            if chunk.file is not None:
                os.close(chunk.file)
                chunk.file = None
        if journal is not None:
            journal.aclose(keep=bool(self.pending or journal.under_way))

    def _failed(self, raised: Exception) -> None:
        self.journal_failures += 1
        self._journal_outage.failed(_first(raised))

    def _begin(self, folder: Path) -> Journal:
        """Have a journal where there is none, or again where its files are gone.

        Raises StoreUnavailable.
        """
        journal = self._removed
        if journal is None:
            journal = Journal(folder, self._segment + _SLACK)
            self._turn_at = self._segment
            self._last.segment = journal.segment
        else:
            try:
                journal.begin_again([row for chunk in self._chunks for row in chunk.rows])
            except OSError as raised:
                raise StoreUnavailable(f"cannot write the journal: {raised}") from raised
            self._turned(journal)
        self.journal, self._removed = journal, None
        self._journal_outage.worked()
        return journal

    async def _tend(self, folder: Path) -> None:
        """Notice a journal whose files somebody has removed, and what works again."""
        while True:
            await asyncio.sleep(self._tending)
            journal = self.journal
            try:
                if journal is not None and journal.is_gone():
                    _log.error("the journal %s was removed; starting another", folder)
                    self.journal, self._removed = None, journal
                if self.journal is None:
                    self._begin(folder)
                elif self._journal_outage.on:
                    self.journal.turn()
                    self._turned(self.journal)
                    self._journal_outage.worked()
            except (StoreUnavailable, OSError) as raised:
                self._journal_outage.failed(_first(raised))

    def _turn(self, journal: Journal) -> bool:
        """Begin a new segment, if there is room for one."""
        try:
            journal.turn()
        except OSError as raised:
            self._failed(raised)
            self._turn_at = journal.size + _AGAIN
            return False
        self._turned(journal)
        return True

    def _turned(self, journal: Journal) -> None:
        self._turn_at = journal.size + self._segment
        full = self._last
        self._last = _Chunk(journal.segment)
        self._chunks.append(self._last)
        self._arrived.set()
        if self.in_memory > self._in_memory and full is not self._chunks[0]:
            try:
                full.file = os.open(journal.path(full.segment), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # removed just now, or too many are open: they stay
                return
            full.away = len(full.rows) - len(full.unwritten)
            full.ended = full.rows[0].ended_at if full.rows else 0.0
            full.rows = full.unwritten

    async def _write_rows(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            await self._gathered()
            try:
                await self._write_some(self._chunks[0])
            except Exception as raised:  # of whatever kind, the rows must get there
                self.store_failures += 1
                self._store_outage.failed(raised)
                self._last_tries.failed()
                await self._last_tries.rest(backoff.pause())
            else:
                self._store_outage.worked()
                backoff.reset()
                self._made_progress()

    async def _gathered(self) -> None:
        """Wait for rows, and a little for more."""
        while len(self._chunks) == 1 and not self._last.rows:
            self._arrived.clear()
            await self._arrived.wait()
        if len(self._chunks) == 1 and len(self._last.rows) < _BATCH and not self._hurries:
            self._enough.clear()
            try:
                async with asyncio.timeout(self._period):
                    await self._enough.wait()
            except TimeoutError:
                pass

    async def _write_some(self, chunk: _Chunk) -> None:
        journal = self.journal or self._removed
        if chunk.file is not None:
            chunk.rows = await asyncio.to_thread(closed, chunk.file) + chunk.rows
            chunk.away = 0
            file, chunk.file = chunk.file, None
            os.close(file)
        batch = chunk.rows[:LONGEST]
        if batch:
            await deliver(self._store, batch, self._folder)
            del chunk.rows[: len(batch)]
            self.written += len(batch)
            self._hand_over(batch)
        if chunk is not self._last and not chunk.rows:
            if journal is not None:
                await asyncio.to_thread(journal.path(chunk.segment).unlink, missing_ok=True)
            self._chunks.popleft()

    def _hand_over(self, entries: Sequence[Entry]) -> None:
        if self._committed is not None:
            self._untold.append(entries)
            self._handed += len(entries)
            self._to_tell.set()

    async def _tell(self, committed: Committed) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            if not self._untold:
                self._to_tell.clear()
                await self._to_tell.wait()
            batch: list[Entry] = []
            parts = 0
            for rows in self._untold:
                if len(batch) + len(rows) > LONGEST and batch:
                    break
                batch += rows
                parts += 1
            try:
                await committed(batch)
            except Exception as raised:  # whatever it is, what they hold must become spent
                self.committed_failures += 1
                self._committed_outage.failed(raised)
                self._tried = max(self._tried, self._reported + len(batch))
                self._made_progress()
                await asyncio.sleep(backoff.pause())
                continue
            self._committed_outage.worked()
            backoff.reset()
            for _ in range(parts):
                self._untold.popleft()
            self._reported += len(batch)
            self._tried = max(self._tried, self._reported)
            self._made_progress()

    async def _look_for_dead(self, folder: Path, looked: asyncio.Event) -> None:
        while True:
            try:
                await self._recover(folder)
            except Exception as raised:  # the journals are still there
                self._recovery_outage.failed(raised)
                looked.set()
                await asyncio.sleep(min(self._recovery, _LONGEST_PAUSE))
            else:
                self._recovery_outage.worked()
                looked.set()
                await asyncio.sleep(self._recovery)

    def _recovered(self, entries: Sequence[Entry]) -> None:
        self.recovered += len(entries)
        self._hand_over(entries)

    def _made_progress(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()
