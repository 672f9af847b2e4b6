"""The book: no row is lost, whatever dies or does not answer, and none is there twice."""

import asyncio
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from middlewares.limits import Budget, Window
from middlewares.stores import StoreUnavailable
from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.keys.sql import Database
from middlewares.stores.ledger.base import Entry, LedgerStore, RowRejected
from middlewares.stores.ledger.delivery import recover
from middlewares.stores.ledger.journal import Journal
from middlewares.stores.ledger.memory import MemoryLedgerStore
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.ledger.writer import LedgerWriter
from tests.middlewares.stores.entries import credit, use
from tests.middlewares.stores.postgres_server import Postgres
from tests.waiting import DEADLINE, until

from .full_disk import full_disk

ROOT = Path(__file__).parents[4]
FIVE = {"5h": 1.0}


class WatchedLedger(MemoryLedgerStore):
    """A ledger that writes down what it was asked, and can be made to fail or to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.failing: Exception | None = None
        self.going = asyncio.Event()
        self.going.set()
        self.rejected: set[str] = set()
        self.asked = 0

    async def append(self, entries: Sequence[Entry]) -> None:
        self.asked += 1
        await self.going.wait()
        if self.failing is not None:
            raise self.failing
        if self.rejected.intersection(entry.id for entry in entries):
            raise RowRejected("not this one")
        self.batches.append([entry.id for entry in entries])
        await super().append(entries)

    @property
    def order(self) -> list[str]:
        return [id_ for batch in self.batches for id_ in batch]


@asynccontextmanager
async def started(
    store: LedgerStore, folder: Path | None, **options: Any
) -> AsyncIterator[LedgerWriter]:
    ledger_writer = LedgerWriter(store, folder, **{"period": 0.005, "tending": 3600.0, **options})
    await ledger_writer.start()
    try:
        async with asyncio.timeout(DEADLINE):
            yield ledger_writer
    finally:
        await ledger_writer.aclose()


def ids(entries: Sequence[Entry]) -> list[str]:
    return [entry.id for entry in entries]


async def everything(store: LedgerStore) -> list[Entry]:
    return (await store.page(limit=10**6))[::-1]


async def test_rows_are_written_in_order_and_reported(tmp_path: Path) -> None:
    store = WatchedLedger()
    shown: list[Entry] = []

    async def committed(entries: Sequence[Entry]) -> None:
        assert {entry.id for entry in entries} <= set(store.order)
        shown.extend(entries)

    rows = [use() for _ in range(2500)]
    async with started(store, tmp_path, committed=committed) as ledger_writer:
        for row in rows:
            ledger_writer.open(row)
        assert (ledger_writer.pending, ledger_writer.under_way) == (0, 2500)
        for row in rows[:2400]:
            ledger_writer.close(row)
        for row in rows[2400:]:
            ledger_writer.void(row.id)
        assert (ledger_writer.pending, ledger_writer.under_way) == (2400, 0)
        await ledger_writer.flush()
        assert (ledger_writer.pending, ledger_writer.written) == (0, 2400)
        assert store.order == ids(rows[:2400])
        assert max(map(len, store.batches)) <= 1000
        assert shown == rows[:2400]
    assert list(tmp_path.iterdir()) == []
    await ledger_writer.aclose()


async def test_without_a_journal(ledger_store: LedgerStore) -> None:
    row = use()
    async with started(ledger_store, None) as ledger_writer:
        ledger_writer.open(row)
        ledger_writer.void("never opened")
        ledger_writer.close(row)
        await ledger_writer.flush()
        assert await everything(ledger_store) == [row]


async def test_it_has_to_be_started(tmp_path: Path) -> None:
    ledger_writer = LedgerWriter(MemoryLedgerStore(), tmp_path / "folder")
    with pytest.raises(RuntimeError, match="start"):
        ledger_writer.open(use())
    with pytest.raises(RuntimeError, match="start"):
        await ledger_writer.flush()
    await ledger_writer.aclose()
    await ledger_writer.start()
    with pytest.raises(RuntimeError, match="twice"):
        await ledger_writer.start()
    await ledger_writer.aclose()
    with pytest.raises(ValueError, match=r"period 0.*more than 0"):
        LedgerWriter(MemoryLedgerStore(), None, period=0)


async def test_a_store_that_fails_is_tried_until_it_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = WatchedLedger()
    rows = [use() for _ in range(50)]
    async with started(store, tmp_path) as ledger_writer:
        store.failing = StoreUnavailable("it is away")
        for row in rows[:25]:
            ledger_writer.close(row)
        await until(lambda: ledger_writer.store_failures >= 3)
        for row in rows[25:]:
            ledger_writer.close(row)
        store.failing = RuntimeError("something else")
        before = ledger_writer.store_failures
        await until(lambda: ledger_writer.store_failures > before)
        assert (ledger_writer.pending, store.order) == (50, [])
        store.failing = None
        await ledger_writer.flush()
        assert store.order == ids(rows)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "cannot write rows to the ledger's store, so they wait: it is away",
        "rows are written to the ledger's store again",
    ]


async def test_a_row_that_the_store_rejects_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = WatchedLedger()
    rows = [use() for _ in range(10)]
    store.rejected = {rows[4].id}
    async with started(store, None) as ledger_writer:
        for row in rows:
            ledger_writer.close(row)
        await ledger_writer.flush()
    assert store.order == ids(rows[:4] + rows[5:])
    assert caplog.text.count("refuses a row") == 1
    assert repr(rows[4]) in caplog.text


async def test_row_that_fails_alone_in_a_way_of_its_own_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a driver says of a bad value is not always what the store knows as such."""

    class Fussy(WatchedLedger):
        async def append(self, entries: Sequence[Entry]) -> None:
            if any(entry.asked == "bad" for entry in entries):
                raise RuntimeError("an error of the driver's own")
            await super().append(entries)

    store = Fussy()
    rows = [use(asked="bad" if number == 4 else "m") for number in range(10)]
    async with started(store, tmp_path) as ledger_writer:
        for row in rows:
            ledger_writer.close(row)
        await ledger_writer.flush()
        assert ledger_writer.pending == 0
    assert store.order == ids(rows[:4] + rows[5:])
    aside = tmp_path / "rejected.jsonl"
    (line,) = aside.read_text().splitlines()
    assert msgspec.json.decode(line)["id"] == rows[4].id
    assert aside.stat().st_mode & 0o777 == 0o600
    assert caplog.text.count("set aside") == 1
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".journal"]


async def test_all_rows_that_fail_wait_for_the_store(tmp_path: Path) -> None:
    """If none is taken it is not the rows that are at fault."""
    store = WatchedLedger()
    store.failing = RuntimeError("whatever")
    async with started(store, tmp_path) as ledger_writer:
        for row in [use() for _ in range(3)]:
            ledger_writer.close(row)
        await until(lambda: ledger_writer.store_failures >= 2)
        assert ledger_writer.pending == 3
        store.failing = None
        await ledger_writer.flush()
    assert not (tmp_path / "rejected.jsonl").exists()


async def test_journal_with_rows_beyond_64_bits_is_recovered_with_all_others(
    tmp_path: Path, sql_url: str
) -> None:
    """Rows that an upstream's count of 2^64 - 1 left behind, in the journal of a dead process."""
    folder = tmp_path / "journal"
    huge = [use(account="odd", input=2**64 - 1, cost=2**64 - 1, starts=FIVE) for _ in range(2)]
    text = use(account="odd", asked="a\0b", starts=FIVE)
    good = [use(account="good", cost=3, starts=FIVE) for _ in range(2)]
    journal = Journal(folder)
    for row in (huge[0], good[0], text, huge[1], good[1]):
        journal.close(row)
    journal.aclose(keep=True)
    database = await Database.open(sql_url)
    store = SqlLedgerStore(database)
    async with started(store, folder) as ledger_writer:
        assert ledger_writer.recovered == 5
        ledger_writer.close(use(account="good", cost=4, starts=FIVE))
        await ledger_writer.flush()
    spent, _ = await store.spent("good", 9.0, ())
    assert spent.spent == {"5h": 10}
    spent, _ = await store.spent("odd", 9.0, ())
    assert spent.spent == {"5h": 2**63 - 1}
    assert [row.requests for row in await store.sums("odd", 0.0, 1e12)] == [3]
    await database.aclose()
    assert not list(folder.iterdir())


async def test_failing_counters_delay_no_row_and_hear_of_it_in_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = WatchedLedger()
    shown: list[Entry] = []
    failing = True

    async def committed(entries: Sequence[Entry]) -> None:
        if failing:
            raise ConnectionError("no counters")
        shown.extend(entries)

    rows = [use() for _ in range(3)]
    async with started(store, None, committed=committed) as ledger_writer:
        for row in rows:
            ledger_writer.close(row)
            await ledger_writer.flush()
        await until(lambda: ledger_writer.committed_failures >= 3)
        assert store.order == ids(rows)
        assert shown == []
        failing = False
        await until(lambda: shown == rows)
    assert caplog.text.count("cannot report written rows") == 1
    assert caplog.text.count("are reported to the counters again") == 1


async def test_segments_go_when_their_rows_are_in_the_store(tmp_path: Path) -> None:
    store = WatchedLedger()
    rows = [use() for _ in range(400)]
    long = use(ended="lost")

    def segments() -> list[str]:
        return sorted(path.name.split(".")[1] for path in tmp_path.glob("*.journal"))

    async with started(store, tmp_path, segment=4096) as ledger_writer:
        ledger_writer.open(long)
        store.going.clear()
        for row in rows:
            ledger_writer.open(row)
            ledger_writer.close(row)
        assert len(segments()) > 10
        assert segments()[0] == "000001"
        store.going.set()
        await ledger_writer.flush()
        await until(lambda: len(segments()) == 1)
        assert store.order == ids(rows)
        # The one that is left has what is open, though that was opened in the first.
        assert [path.read_bytes().count(long.id.encode()) for path in tmp_path.glob("*.journal")]
        voided = 0
        while segments()[0] == segments()[-1] and voided < 200:  # nothing but refusals turns too
            refused = use()
            ledger_writer.open(refused)
            ledger_writer.void(refused.id)
            voided += 1
        await until(lambda: len(segments()) == 1)
        with forgotten(ledger_writer):
            pass
    async with started(store, tmp_path) as ledger_writer:
        assert ledger_writer.recovered >= 1
    assert set(store.order) == {*ids(rows), long.id}


@contextmanager
def forgotten(ledger_writer: LedgerWriter) -> Iterator[None]:
    """Let go of the book's journal as its process's death would."""
    yield
    assert ledger_writer.journal is not None
    ledger_writer.journal.aclose(keep=True)


async def test_rows_too_many_for_memory_wait_in_the_journal(tmp_path: Path) -> None:
    store = WatchedLedger()
    rows = [use() for _ in range(3000)]
    async with started(store, tmp_path, segment=16384, in_memory=200) as ledger_writer:
        store.failing = StoreUnavailable("away")
        for row in rows:
            ledger_writer.open(row)
            ledger_writer.close(row)
        assert ledger_writer.in_memory < 600
        assert ledger_writer.pending == 3000
        await until(lambda: ledger_writer.store_failures > 0)
        store.failing = None
        await ledger_writer.flush()
        assert store.order == ids(rows)
        assert ledger_writer.pending == 0


async def test_rows_of_a_segment_that_somebody_removed_are_written_all_the_same(
    tmp_path: Path,
) -> None:
    store = WatchedLedger()
    rows = [use() for _ in range(300)]
    async with started(store, tmp_path, segment=4096, in_memory=10) as ledger_writer:
        store.failing = StoreUnavailable("away")
        for row in rows:
            ledger_writer.open(row)
            ledger_writer.close(row)
        assert ledger_writer.in_memory < 300
        _, left_in_the_journal, *_ = sorted(tmp_path.glob("*.journal"))
        left_in_the_journal.unlink()
        store.failing = None
        await ledger_writer.flush()
        assert store.order == ids(rows)


async def test_a_journal_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = WatchedLedger()
    rows = [use() for _ in range(3)]
    async with started(store, tmp_path) as ledger_writer:
        for row in rows:
            ledger_writer.open(row)
        journal = ledger_writer.journal
        assert journal is not None
        with full_disk(journal):
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match="a segment is full"):
                    ledger_writer.open(use())
            ledger_writer.close(rows[0])
            ledger_writer.void(rows[1].id)
            await ledger_writer.flush()
            assert store.order == [rows[0].id]
            assert ledger_writer.journal_failures == 5
        ledger_writer.open(use(id="later"))
        ledger_writer.close(rows[2])
        ledger_writer.void("later")
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    assert "cannot write the journal: " in caplog.text
    assert "the journal is written again" in caplog.text


async def test_a_folder_that_cannot_be_used_refuses_until_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "journal"
    folder.touch()
    store = WatchedLedger()
    async with started(store, folder, tending=0.01) as ledger_writer:
        assert not ledger_writer.usable
        with pytest.raises(StoreUnavailable, match="cannot write the journal"):
            ledger_writer.open(use())
        ledger_writer.close(free := use())
        await ledger_writer.flush()
        folder.unlink()
        await until(lambda: ledger_writer.usable)
        ledger_writer.open(row := use())
        ledger_writer.close(row)
        await ledger_writer.flush()
        assert store.order == ids([free, row])
    said = [record for record in caplog.records if "the journal" in record.message]
    assert [record.levelno for record in said] == [logging.ERROR, logging.WARNING]


LEFT = """
import asyncio, os, shutil, signal, sys
from pathlib import Path
from middlewares.stores.ledger.writer import LedgerWriter
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.ledger.memory import MemoryLedgerStore
from tests.middlewares.stores.entries import use

folder = Path(sys.argv[1])

class Away(MemoryLedgerStore):
    async def append(self, entries):
        raise StoreUnavailable("away")

async def main():
    writer = LedgerWriter(Away(), folder, tending=0.01, segment=4096)
    await writer.start()
    rows = [use(id=f"row-{n:03}") for n in range(60)]
    for row in rows[:50]:
        writer.open(row)
    for row in rows[:30]:
        writer.close(row)
    if sys.argv[2] == "folder":
        shutil.rmtree(folder)
    else:
        next(folder.glob("*.lock")).unlink()
    writer.void(rows[49].id)
    writer.close(rows[48])
    name = writer.journal.name
    while writer.journal is None or writer.journal.name == name:
        await asyncio.sleep(0.01)
    writer.open(rows[59])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("what", ["folder", "lock"])
async def test_a_journal_that_somebody_removed_is_begun_again_with_all_it_had(
    tmp_path: Path, what: str
) -> None:
    """Nothing but the files is left of the process, and they have each row once."""
    folder = tmp_path / "journal"
    killed = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEFT, str(folder), what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "was removed; starting another" in killed.stderr
    store = WatchedLedger()
    async with started(store, folder):
        pass
    assert sorted(set(store.order)) == [f"row-{n:03}" for n in (*range(49), 59)]
    assert [path.name for path in folder.iterdir()] == []


async def test_oldest_age_is_that_of_the_first_row_that_is_not_in_the_store(
    tmp_path: Path,
) -> None:
    """Also where rows were left in the journal, and not in memory."""
    store = WatchedLedger()
    async with started(store, tmp_path, segment=4096, in_memory=10) as ledger_writer:
        assert ledger_writer.oldest_age(500.0) == 0
        store.failing = StoreUnavailable("away")
        for number in range(300):
            ledger_writer.close(msgspec.structs.replace(use(), ended_at=100.0 + number))
            assert ledger_writer.oldest_age(500.0) == 400.0
        assert ledger_writer.in_memory < ledger_writer.pending == 300
        assert ledger_writer.oldest_age(99.0) == 0  # a clock that was set back
        store.failing = None
        await ledger_writer.flush()
        assert ledger_writer.oldest_age(500.0) == 0


async def test_what_the_journal_did_not_take_stays_in_memory(tmp_path: Path) -> None:
    store = WatchedLedger()
    rows = [use() for _ in range(300)]
    async with started(store, tmp_path, segment=4096, in_memory=10) as ledger_writer:
        store.failing = StoreUnavailable("away")
        journal = ledger_writer.journal
        assert journal is not None
        for number, row in enumerate(rows):
            ledger_writer.open(row)
            if number % 50 == 7:
                with full_disk(journal):
                    ledger_writer.close(row)
            else:
                ledger_writer.close(row)
        assert ledger_writer.pending == 300
        store.failing = None
        await ledger_writer.flush()
        assert sorted(set(store.order)) == ids(rows)


async def test_too_much_that_cannot_be_written_refuses_what_is_new() -> None:
    store = WatchedLedger()
    async with started(store, None, most=10) as ledger_writer:
        store.failing = StoreUnavailable("away")
        for _ in range(11):
            ledger_writer.open(use())
            ledger_writer.close(use())
        with pytest.raises(StoreUnavailable, match="too many rows wait"):
            ledger_writer.open(use())
        store.failing = None
        await ledger_writer.flush()
        ledger_writer.open(use())


async def test_aclose_leaves_to_the_next_what_it_cannot_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = WatchedLedger()
    store.failing = StoreUnavailable("away")
    rows = [use() for _ in range(5)]
    async with started(store, tmp_path, patience=0.05) as ledger_writer:
        for row in rows:
            ledger_writer.open(row)
            ledger_writer.close(row)
    assert "5 rows are not in the ledger's store; the journal has them" in caplog.text
    store.failing = None
    async with started(store, tmp_path) as ledger_writer:
        assert ledger_writer.recovered == 5
    assert store.order == ids(rows)
    assert list(tmp_path.iterdir()) == []


async def test_dead_processes_are_recovered_once_and_reported(
    ledger_store: LedgerStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[Entry] = []
    folder = tmp_path / "journal"

    async def committed(entries: Sequence[Entry]) -> None:
        shown.extend(entries)

    mine = [use(ended="lost", starts={"5h": 1.0}) for _ in range(20)]
    already = use(id=mine[0].id, cost=50, starts={"5h": 1.0})
    await ledger_store.append([already])
    for part in (mine[:10], mine[10:]):
        journal = Journal(folder)
        for row in part:
            journal.open(row)
        journal.close(use(id=part[0].id, cost=50, starts={"5h": 1.0}))
        journal.void(part[1].id)
        journal.aclose(keep=True)
    async with (
        started(ledger_store, folder, committed=committed, recovery=0.01),
        started(ledger_store, folder, committed=committed, recovery=0.01),
    ):
        await until(lambda: caplog.text.count("recovered 9 rows") == 2)
        await until(lambda: len(shown) == 18)
    found = {row.id: row for row in await everything(ledger_store)}
    assert set(found) == {row.id for row in mine} - {mine[1].id, mine[11].id}
    assert [row.id for row in found.values() if row.cost == 50] == [mine[0].id, mine[10].id]
    assert sorted(ids(shown)) == sorted(found)
    assert (await ledger_store.spent("key_1", 2.0, ()))[0].spent == {"5h": 2 * 50 + 16 * 7}
    assert list(folder.iterdir()) == []


async def test_the_dead_wait_for_a_store_that_is_away(tmp_path: Path) -> None:
    store = WatchedLedger()
    row = use(ended="lost")
    journal = Journal(tmp_path)
    journal.open(row)
    journal.aclose(keep=True)
    store.failing = StoreUnavailable("away")
    async with started(store, tmp_path, patience=0.05, recovery=0.01) as ledger_writer:
        assert ledger_writer.recovered == 0
        store.failing = None
        await until(lambda: ledger_writer.recovered == 1)
    assert store.order == [row.id]


async def test_recover_now_another_process_has_the_journals_waits_for_it(tmp_path: Path) -> None:
    """Else rows that it then cannot deliver would be in no sum."""
    held, free = WatchedLedger(), WatchedLedger()
    held.going.clear()
    row = use(ended="lost")
    journal = Journal(tmp_path)
    journal.open(row)
    journal.aclose(keep=True)
    other = asyncio.create_task(recover(tmp_path, held, lambda _rows: None))
    await until(lambda: other.done() or held.asked > 0)
    async with started(free, tmp_path, patience=0.05, recovery=3600.0) as ledger_writer:
        with pytest.raises(StoreUnavailable, match="still recovering"):
            await ledger_writer.recover_now()
        held.failing = StoreUnavailable("away")
        held.going.set()
        with pytest.raises(StoreUnavailable):
            await other
        await until(lambda: ledger_writer.recovered == 1)
        await ledger_writer.recover_now()
    assert (held.order, free.order) == ([], [row.id])


async def test_start_and_end_store_that_says_it_is_away_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that replaces a dead one serves at once, and one that has to stop does."""
    store = WatchedLedger()
    store.failing = StoreUnavailable("away")
    dead, row = use(ended="lost"), use()
    journal = Journal(tmp_path)
    journal.open(dead)
    journal.aclose(keep=True)
    async with asyncio.timeout(DEADLINE):
        async with started(store, tmp_path, patience=10 * DEADLINE) as ledger_writer:
            ledger_writer.open(row)
            ledger_writer.close(row)
    assert "still recovering" not in caplog.text
    assert "1 rows are not in the ledger's store; the journal has them" in caplog.text
    store.failing = None
    async with started(store, tmp_path) as ledger_writer:
        assert ledger_writer.recovered == 2
    assert sorted(store.order) == sorted([dead.id, row.id])


async def test_end_store_that_fails_for_a_moment_gets_the_rows(tmp_path: Path) -> None:
    class Once(WatchedLedger):
        async def append(self, entries: Sequence[Entry]) -> None:
            if not self.failures:
                self.failures += 1
                raise StoreUnavailable("a connection was lost")
            await super().append(entries)

        failures = 0

    store = Once()
    row = use()
    async with started(store, tmp_path, period=3600.0) as ledger_writer:
        ledger_writer.open(row)
        ledger_writer.close(row)
    assert store.order == [row.id]
    assert list(tmp_path.iterdir()) == []


async def test_account_is_restored_only_with_rows_of_processes_that_have_died(
    tmp_path: Path,
) -> None:
    """A store that can be read and takes no rows: what a killed worker served waits in its journal,
    and no process holds it any more."""
    store = WatchedLedger()
    row = use(starts=FIVE, cost=70)
    journal = Journal(tmp_path)
    journal.close(row)
    journal.aclose(keep=True)
    store.failing = StoreUnavailable("read-only")
    counters = MemoryCounters()
    async with started(store, tmp_path, patience=0.05, recovery=3600.0) as ledger_writer:
        accounts = Accounts(counters, store, recover=ledger_writer.recover_now)
        budget = Budget(windows=(Window("5h", 18_000.0, 100),))
        asked = [accounts.status(row.account, budget) for _ in range(10)]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(answer, StoreUnavailable) and "has died" in str(answer)
        store.failing = None
        assert await accounts.status(row.account, budget)
        assert store.order == [row.id]
        assert ledger_writer.recovered == 1
        await accounts.aclose()


async def test_unreadable_journal_keeps_no_account_from_being_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said by the recovery that goes on all the time."""
    async with started(WatchedLedger(), tmp_path) as ledger_writer:

        async def denied(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("middlewares.stores.ledger.writer.recover", denied)
        await ledger_writer.recover_now()
    await ledger_writer.recover_now()


CHILD = """
import asyncio, os, random, sys
from pathlib import Path
from middlewares.stores.ledger.writer import LedgerWriter
from middlewares.stores.keys.sql import Database
from middlewares.stores.ledger.sql import SqlLedgerStore
from tests.middlewares.stores.entries import use

async def main():
    url, folder, name = sys.argv[1:]
    chance = random.Random(name)
    database = await Database.open(url)
    options = {"period": 0.003, "segment": 20_000, "recovery": 0.05}
    writer = LedgerWriter(SqlLedgerStore(database), Path(folder), **options)
    await writer.start()
    going, number = [], 0
    while True:
        for _ in range(chance.randrange(30)):
            number += 1
            row = use(id=f"{name}-{number:06d}", ended="lost", starts={"5h": 1.0}, cost=1)
            writer.open(row)
            os.write(1, f"open {row.id}\\n".encode())
            going.append(row)
        chance.shuffle(going)
        for row in going[chance.randrange(10):]:
            going.remove(row)
            if chance.random() < 0.1:
                os.write(1, f"void {row.id}\\n".encode())  # done, there is no trace of it
                writer.void(row.id)
            else:
                writer.close(use(id=row.id, starts={"5h": 1.0}, cost=5))
                os.write(1, f"close {row.id}\\n".encode())
        await asyncio.sleep(0)

asyncio.run(main())
"""


async def test_killed_at_any_moment_no_row_is_lost_or_twice(
    sqlite_url: str, tmp_path: Path, full: bool
) -> None:
    """Two processes at a time on one folder, killed 8 or 24 times, each recovering the others."""
    chance = random.Random(11)
    folder = tmp_path / "journal"
    said: dict[str, str] = {}
    children: list[subprocess.Popen[bytes]] = []

    def child(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", CHILD, sqlite_url, str(folder), name]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)

    def read_and_kill(process: "subprocess.Popen[bytes]", lines: int) -> None:
        assert process.stdout is not None
        with process:
            heard = [process.stdout.readline() for _ in range(lines)]
            os.kill(process.pid, signal.SIGKILL)
            heard += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        for line in heard:
            if line.endswith(b"\n"):
                what, id_ = line.decode().split()
                said[id_] = what

    try:
        children.append(child("k00"))
        for number in range(1, 25 if full else 9):
            children.append(child(f"k{number:02d}"))
            await asyncio.to_thread(read_and_kill, children[-2], 1 + chance.randrange(1500))
        await asyncio.to_thread(read_and_kill, children[-1], 500)
    finally:
        for process in children:
            process.kill()
    database = await Database.open(sqlite_url)
    store = SqlLedgerStore(database)
    async with started(store, folder):
        pass
    rows = await everything(store)
    spent, _ = await store.spent("key_1", 2.0, ())
    await database.aclose()
    assert list(folder.iterdir()) == []
    found = {row.id: row.cost for row in rows}
    assert len(found) == len(rows)
    assert len(said) > (5000 if full else 1000)
    # What was said last is what is there, but for the one act each child was killed under.
    must = {id_ for id_, what in said.items() if what != "void"}
    assert must <= set(found)
    shown = {"open": 1, "close": 5}
    other = [id_ for id_ in found if shown.get(said.get(id_, "void")) != found[id_]]
    assert len(other) <= 25
    assert {id_[:3] for id_ in other} <= {f"k{number:02d}" for number in range(25)}
    assert spent.spent == {"5h": sum(found.values())}


async def test_postgresql_stops_and_comes_back(
    postgres: Postgres, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = await Database.open(postgres_url)
    store = SqlLedgerStore(database)
    rows = [use(starts={"5h": 1.0}) for _ in range(60)]
    async with started(store, tmp_path) as ledger_writer:
        ledger_writer.close(rows[0])
        await ledger_writer.flush()
        postgres.stop()
        try:
            for row in rows[1:30]:
                ledger_writer.open(row)
                ledger_writer.close(row)
            await until(lambda: ledger_writer.store_failures >= 2)
            for row in rows[30:]:
                ledger_writer.open(row)
                ledger_writer.close(row)
        finally:
            postgres.start()
        await ledger_writer.flush()
        assert (await store.spent("key_1", 2.0, ()))[0].spent == {"5h": 60 * 7}
    assert await everything(store) == rows
    assert caplog.text.count("cannot write rows") == 1
    await database.aclose()


async def test_sqlite_locked_by_another(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("middlewares.stores.sql.sqlite_writer.BUSY", 0.02)
    database = await Database.open(sqlite_url)
    store = SqlLedgerStore(database)
    rows = [use() for _ in range(40)] + [credit(5)]
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as other:
        async with started(store, tmp_path / "journal") as ledger_writer:
            other.execute("BEGIN IMMEDIATE")
            for row in rows:
                ledger_writer.open(row)
                ledger_writer.close(row)
            await until(lambda: ledger_writer.store_failures >= 2)
            assert await everything(store) == []
            other.rollback()
            await ledger_writer.flush()
    assert await everything(store) == rows
    await database.aclose()


async def test_many_take_turns_at_one_sqlite_file(sqlite_url: str, tmp_path: Path) -> None:
    databases = [await Database.open(sqlite_url) for _ in range(3)]
    rows = [use(starts={"5h": 1.0}, cost=1) for _ in range(900)]

    async def keep(database: Database, mine: list[Entry]) -> None:
        async with started(SqlLedgerStore(database), tmp_path / "journal") as ledger_writer:
            for row in mine:
                ledger_writer.open(row)
                ledger_writer.close(row)
                if row.id.endswith("0"):
                    await asyncio.sleep(0)

    await asyncio.gather(*[keep(each, rows[n::3]) for n, each in enumerate(databases)])
    store = SqlLedgerStore(databases[0])
    assert await everything(store) == rows
    assert (await store.spent("key_1", 2.0, ()))[0].spent == {"5h": 900}
    for database in databases:
        await database.aclose()
