"""The files of a running gateway are taken away, replaced and destroyed: no row is lost."""

import asyncio
import json
import os
import resource
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from middlewares.pricing import NANO
from middlewares.stores.sql.identity import MEMORY
from tests.middlewares.stores.redis_server import RedisServer
from tests.middlewares.stores.sqlite_files import new_sqlite

from .conftest import Start
from .ledger import Row, paid, rows, standing
from .program import DEADLINE, Gateway, Program, until
from .wire import CHAT, ask, bearer, chat, line, request

SIDES = ("-wal", "-shm")
SQL_AWAY = ("penstock_sql_up", ())


def backup(database: Path, to: Path) -> None:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


class BilledRequests:
    """Requests by their ids, to be found in the ledger once each."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.gateway = gateway
        self.key = key
        self.workers = len(gateway.workers)
        self.served: list[str] = []

    async def ask(self, count: int) -> None:
        """So many requests are answered. One of several workers may not know the key yet."""
        wanted = len(self.served) + count
        async with asyncio.timeout(DEADLINE):
            while len(self.served) < wanted:
                body = chat("Hello [[sim tokens=5]]", "chat")
                reply = await ask(self.gateway.url, CHAT, body, bearer(self.key))
                if reply.status == 200:
                    self.served.append(reply.header("x-request-id"))
                else:
                    assert (reply.status, self.workers) == (503, 2), reply.body

    async def balance(self) -> list[Row]:
        """Every request has its row once there is time for it, and no other row is there."""
        found: list[Row] = []
        async with asyncio.timeout(DEADLINE):
            while set(self.served) - {row.id for row in found}:
                with suppress(sqlite3.Error):  # not put right yet
                    found = await rows(self.gateway.sql)
                await asyncio.sleep(0.05)
        assert Counter(row.id for row in found) == Counter(self.served)
        return found

    async def up(self, value: float) -> None:
        """Until every worker says that the store is there, or that it is not."""
        await asyncio.to_thread(
            until, lambda: self.gateway.metrics()[SQL_AWAY] == value, what=f"sql_up {value}"
        )


def removed(database: Path, saved: Path) -> None:
    """The files of the database are removed, as by `rm penstock.db*`."""
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()


def garbage(database: Path, saved: Path) -> None:
    """All of the file is overwritten; it is the same file, of the same length."""
    with database.open("r+b") as file:
        file.write(os.urandom(database.stat().st_size))


def emptied(database: Path, saved: Path) -> None:
    os.truncate(database, 0)


def replaced(database: Path, saved: Path) -> None:
    """A copy of some moments ago takes its place, beside the side files of the other."""
    shutil.copy(saved, database.with_suffix(".new"))
    database.with_suffix(".new").rename(database)


def wal_removed(database: Path, saved: Path) -> None:
    database.with_name(f"{database.name}-wal").unlink()


def shm_removed(database: Path, saved: Path) -> None:
    database.with_name(f"{database.name}-shm").unlink()


def wal_emptied(database: Path, saved: Path) -> None:
    os.truncate(database.with_name(f"{database.name}-wal"), 0)


def renamed(database: Path, saved: Path) -> None:
    database.parent.rename(database.parent.with_name("elsewhere"))


def folder_removed(database: Path, saved: Path) -> None:
    shutil.rmtree(database.parent)


def _nothing(database: Path, saved: Path) -> None:
    """It comes back by itself."""


def _sides_are_back(database: Path, saved: Path) -> None:
    """Opened before, as we do to read it, it is another database than the gateway's."""
    until(lambda: all(database.with_name(f"{database.name}{side}").exists() for side in SIDES))


def _restored(database: Path, saved: Path) -> None:
    database.parent.mkdir(exist_ok=True)
    replaced(database, saved)


def _copied(database: Path, saved: Path) -> None:
    """A good one is written into the same file."""
    shutil.copy(saved, database)


def _renamed_back(database: Path, saved: Path) -> None:
    database.parent.with_name("elsewhere").rename(database.parent)


Deed = Callable[[Path, Path], None]
DEEDS: dict[str, tuple[Deed, Deed]] = {
    "removed": (removed, _restored),
    "garbage": (garbage, _restored),
    "garbage-copied": (garbage, _copied),
    "emptied": (emptied, _restored),
    "replaced": (replaced, _nothing),
    "wal-removed": (wal_removed, _sides_are_back),
    "shm-removed": (shm_removed, _sides_are_back),
    "wal-emptied": (wal_emptied, _nothing),
    "folder-renamed": (renamed, _renamed_back),
    "folder-removed": (folder_removed, _restored),
}


def deployment(start: Start, document: dict[str, Any], folder: Path, **store: Any) -> Gateway:
    """A gateway whose database has a folder of its own; with Redis, it has two workers."""
    (folder / "sql").mkdir(parents=True)
    document["store"] = {"sql": f"sqlite:///{folder}/sql/penstock.db", **store}
    document["server"] = {"workers": 2 if store else 1}
    return start(document, folder=folder)


async def test_a_database_that_is_taken_away_loses_no_row(
    start: Start, simulator: Program, tmp_path: Path, redis_server: RedisServer
) -> None:
    """One after the other, on one gateway with two workers; requests go on all the while."""
    shared = {"counters": redis_server.url(), "counters_timeout": "5s"}
    document = paid(simulator.url)
    gateway = await asyncio.to_thread(deployment, start, document, tmp_path / "gateway", **shared)
    database = tmp_path / "gateway/sql/penstock.db"
    billed = BilledRequests(gateway, await asyncio.to_thread(gateway.new_key, "k"))
    await billed.ask(10)
    for name, (deed, repair) in DEEDS.items():
        await billed.balance()
        saved = tmp_path / f"{name}.db"
        backup(database, saved)
        await billed.ask(5)
        await billed.balance()
        deed(database, saved)
        await billed.ask(5)
        if repair not in (_nothing, _sides_are_back):
            await billed.up(0)
            await billed.ask(5)
        repair(database, saved)
        await billed.ask(5)
        await billed.balance()
        await billed.up(1)
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], name


@pytest.fixture(params=["sqlite", "postgres"])
async def sql(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with tables and without rows."""
    if request.param == "sqlite":
        return new_sqlite(tmp_path / "sql/penstock.db")
    url: str = await request.getfixturevalue("postgres").migrated_database()
    return url


TABLES = ("ledger", "ledger_totals", "api_keys", "revisions", "identity")


class Contents:
    """What a database holds, to be put in the place of what it holds later, under a gateway."""

    def __init__(self, sql: str, saved: Path) -> None:
        self.sql = sql
        self._saved = saved
        self._rows: dict[str, list[Any]] = {}

    async def save(self) -> "Contents":
        if self.sql.startswith("sqlite"):
            backup(Path(self.sql.removeprefix("sqlite:///")), self._saved)
        else:
            connection = await asyncpg.connect(self.sql)
            for table in TABLES:
                self._rows[table] = [
                    tuple(row) for row in await connection.fetch(f"SELECT * FROM {table}")
                ]
            await connection.close()
        return self

    async def put(self) -> None:
        if self.sql.startswith("sqlite"):
            _restored(Path(self.sql.removeprefix("sqlite:///")), self._saved)
            return
        connection = await asyncpg.connect(self.sql)
        async with connection.transaction():
            for table in TABLES:
                await connection.execute(f"DELETE FROM {table}")
                await connection.copy_records_to_table(table, records=self._rows[table])
        await connection.close()


async def test_an_empty_database_in_the_place_of_the_right_one_is_not_trusted(
    start: Start, simulator: Program, sql: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Known keys go on, rows wait for the right one or for a word, and it is said once."""
    document = {**paid(simulator.url), "store": {"sql": sql}}
    gateway = await asyncio.to_thread(start, document)
    billed = BilledRequests(gateway, await asyncio.to_thread(gateway.new_key, "k"))
    await billed.ask(3)
    await billed.balance()
    right = await Contents(sql, tmp_path / "right.db").save()
    if sql.startswith("sqlite"):
        new_sqlite(tmp_path / "empty.db")
        empty = Contents(sql, tmp_path / "empty.db")
    else:
        other = await request.getfixturevalue("postgres").migrated_database()
        empty = await Contents(other, tmp_path).save()
        empty.sql = sql

    await empty.put()
    await billed.ask(3)  # not one of them is a 401
    await billed.up(0)
    await billed.ask(3)
    assert await rows(sql) == []
    stranger = await ask(gateway.url, CHAT, chat("Hello", "chat"), bearer("sk-penstock-live-no"))
    assert stranger.status == 503
    await right.put()
    await billed.up(1)
    await billed.balance()
    said = await asyncio.to_thread(
        until,
        lambda: [line for line in gateway.log if "accept-store" in str(line.get("event"))],
        what="what is to be done",
    )
    assert sorted(line["logger"].rsplit(".")[-1] for line in said) == sorted(
        {line["logger"].rsplit(".")[-1] for line in said}
    )
    assert "is another database" in said[0]["event"]

    await empty.put()
    await billed.up(0)
    billed.served.clear()
    await billed.ask(3)
    assert "ok: " in await asyncio.to_thread(gateway.run, "accept-store")
    await billed.up(1)
    await billed.balance()
    await asyncio.to_thread(
        until, lambda: gateway.get("/v1/models", headers=bearer(billed.key)).status_code == 401
    )
    billed.key = await asyncio.to_thread(gateway.new_key, "again")
    await billed.ask(2)
    await billed.balance()
    assert await asyncio.to_thread(gateway.stop) == 0

    await right.put()
    with pytest.raises(AssertionError, match="run `penstock accept-store`"):
        await asyncio.to_thread(start, document, folder=gateway.folder)
    await asyncio.to_thread(gateway.run, "accept-store")
    again = await asyncio.to_thread(start, document, folder=gateway.folder)
    assert len(await rows(again.sql)) == 3


async def test_an_older_state_of_the_database_is_not_trusted(
    start: Start, simulator: Program, sql: str, tmp_path: Path
) -> None:
    """It knows no revocation of later; rows that this process has written are written again."""
    document = {**paid(simulator.url), "store": {"sql": sql}}
    gateway = await asyncio.to_thread(start, document)
    billed = BilledRequests(gateway, await asyncio.to_thread(gateway.new_key, "k"))
    await billed.ask(3)
    await billed.balance()
    older = await Contents(sql, tmp_path / "older.db").save()
    await billed.ask(3)
    await billed.balance()
    await older.put()
    await billed.balance()  # without a word, and without another request

    gone = await asyncio.to_thread(gateway.new_key, "gone")
    assert (await ask(gateway.url, "/v1/models", headers=bearer(gone))).status == 200
    newer = await Contents(sql, tmp_path / "newer.db").save()
    await asyncio.to_thread(gateway.run, "keys", "revoke", "gone")
    await asyncio.to_thread(
        until, lambda: gateway.get("/v1/models", headers=bearer(gone)).status_code == 401
    )
    await newer.put()
    await billed.up(0)
    await billed.ask(3)
    assert (await ask(gateway.url, "/v1/models", headers=bearer(gone))).status == 401
    await asyncio.to_thread(gateway.run, "accept-store")
    await billed.up(1)
    await billed.balance()
    await asyncio.to_thread(
        until, lambda: gateway.get("/v1/models", headers=bearer(gone)).status_code == 200
    )


SMALL = (6 << 20, resource.RLIM_INFINITY)
"""Bytes of a file: less than a segment of the journal needs. To it, the disk is full."""
LARGE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@contextmanager
def small_files() -> Iterator[None]:
    """What is started meanwhile can make no large file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL[0], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit_files(gateway: Gateway, size: tuple[int, int]) -> None:
    for process in (psutil.Process(gateway.process.pid), *gateway.workers):
        process.rlimit(resource.RLIMIT_FSIZE, size)


async def refuses_what_costs(gateway: Gateway, key: str) -> None:
    reply = await ask(gateway.url, CHAT, chat("Hello", "chat"), bearer(key))
    assert (reply.status, reply.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert int(reply.header("retry-after")) >= 1
    assert gateway.get("/v1/models", headers=bearer(key)).status_code == 200
    assert gateway.get("/readyz").status_code == 503
    assert gateway.metrics()["penstock_journal_up", ()] == 0


def ready(gateway: Gateway) -> bool:
    with suppress(httpx.HTTPError):  # of a connection to a worker that was killed
        return gateway.get("/readyz").status_code == 200
    gateway.forget_connections()
    return False


def answers(gateway: Gateway) -> bool:
    with suppress(httpx.HTTPError):
        return gateway.get("/livez").status_code == 200
    gateway.forget_connections()
    return False


async def test_a_full_disk_of_the_journal_stops_no_worker(start: Start, simulator: Program) -> None:
    """At the start, and when a worker is replaced: it serves what costs nothing, and recovers."""
    document = paid(simulator.url)
    with small_files():
        gateway = await asyncio.to_thread(start, document)
    billed = BilledRequests(gateway, await asyncio.to_thread(gateway.new_key, "k"))
    await refuses_what_costs(gateway, billed.key)
    limit_files(gateway, LARGE)
    await asyncio.to_thread(until, lambda: ready(gateway))
    await billed.ask(3)

    limit_files(gateway, SMALL)
    (worker,) = gateway.workers
    worker.kill()
    worker.wait(DEADLINE)
    await asyncio.to_thread(
        until, lambda: any(other.pid != worker.pid for other in gateway.workers)
    )
    await asyncio.to_thread(until, lambda: answers(gateway))
    await refuses_what_costs(gateway, billed.key)
    limit_files(gateway, LARGE)
    await asyncio.to_thread(until, lambda: ready(gateway))
    await billed.ask(3)
    await billed.balance()
    said = await asyncio.to_thread(
        until,
        lambda: (
            [text for text in said_of_journal(gateway) if "written again" in text]
            and said_of_journal(gateway)
        ),
        what="that the journal is written again",
    )
    assert (
        3 <= len(said) <= 4
    )  # once each way of each worker; the last line of a killed one may miss
    assert said[-1] == "the journal is written again"


def said_of_journal(gateway: Gateway) -> list[str]:
    starts = ("cannot write the journal", "the journal is written")
    texts = [str(line["event"]) for line in gateway.log]
    return [text for text in texts if text.startswith(starts)]


async def test_a_journal_that_is_removed_is_made_again(start: Start, simulator: Program) -> None:
    """Also a stream that had begun before has its row, though everything is killed after."""
    document = paid(simulator.url)
    gateway = await asyncio.to_thread(start, document)
    folder = gateway.folder / "journal"
    billed = BilledRequests(gateway, await asyncio.to_thread(gateway.new_key, "k"))
    await billed.ask(3)
    async with line(gateway.url) as connection:
        running = chat("Hello [[sim tokens=40 fault=hold:20]]", "chat", stream=True)
        await connection.send(request(CHAT, running, bearer(billed.key)))
        reply = await connection.head()
        assert reply.status == 200
        billed.served.append(reply.header("x-request-id"))
        shutil.rmtree(folder)
        await billed.ask(3)
        await asyncio.to_thread(until, lambda: any(folder.glob("*.journal")))
        await billed.ask(3)
        gateway.signal_group(SIGKILL)
    gateway.kill()
    again = await asyncio.to_thread(start, document, folder=gateway.folder)
    billed.gateway = again
    found = await billed.balance()
    assert Counter(row.ended for row in found) == {"completed": 9, "lost": 1}


async def test_a_period_from_before_a_clock_was_set_back_does_not_count(
    start: Start, simulator: Program, tmp_path: Path, redis_server: RedisServer
) -> None:
    """The ledger has a row of tomorrow, by which the cap is spent for as long as it counts."""
    plan = {"id": "metered", "windows": [{"length": "5h", "credits": "1.00"}]}
    document = paid(simulator.url, plan)
    database = tmp_path / "gateway/sql/penstock.db"
    shared = {"counters": redis_server.url(), "counters_timeout": "5s"}
    gateway = await asyncio.to_thread(deployment, start, document, tmp_path / "gateway", **shared)
    key = await asyncio.to_thread(gateway.new_key, "k", plan="metered")
    account = json.loads(await asyncio.to_thread(gateway.run, "keys", "show", "k", "--json"))["id"]
    tomorrow = time.time() + 86_400
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "INSERT INTO ledger_totals VALUES (?, '5h', ?, ?, ?)",
            (account, tomorrow, tomorrow, NANO),
        )
    billed = BilledRequests(gateway, key)
    await billed.ask(2)
    await billed.balance()
    assert 0 < (await standing(gateway, key)).used < NANO
    assert await asyncio.to_thread(gateway.stop) == 0
    document = paid(simulator.url, plan)
    again = await asyncio.to_thread(
        start, {**document, "store": {"sql": gateway.sql}}, folder=gateway.folder
    )  # with counters in memory, made from the ledger
    billed.gateway = again
    await billed.ask(1)
    assert 0 < (await standing(again, key)).used < NANO


async def test_all_of_var_is_removed_under_a_gateway(
    start: Start, simulator: Program, tmp_path: Path
) -> None:
    """Database and journal in one folder, as they are by default."""
    var = tmp_path / "gateway/var"
    database = var / "penstock.db"
    document = paid(simulator.url)
    document["store"] = {"sql": f"sqlite:///{database}", "journal": str(var / "journal")}
    var.parent.mkdir()
    gateway = await asyncio.to_thread(start, document, folder=var.parent)
    billed = BilledRequests(gateway, await asyncio.to_thread(gateway.new_key, "k"))
    await billed.ask(4)
    await billed.balance()
    backup(database, tmp_path / "saved.db")
    await billed.ask(4)
    shutil.rmtree(var)
    await billed.ask(4)
    await billed.up(0)
    await asyncio.to_thread(until, (var / "journal" / MEMORY).exists)
    with pytest.raises(AssertionError, match="no such file"):
        await asyncio.to_thread(gateway.make_key, "other")
    assert not database.exists()
    shutil.copy(tmp_path / "saved.db", database)
    await billed.up(1)
    await billed.ask(2)
    await billed.balance()
    gateway.signal_group(SIGKILL)
    gateway.kill()
    billed.gateway = await asyncio.to_thread(start, document, folder=var.parent)
    await billed.ask(1)
    await billed.balance()


async def test_rows_of_a_worker_that_dies_while_the_database_is_away_are_recovered(
    start: Start, simulator: Program, tmp_path: Path, redis_server: RedisServer
) -> None:
    """Another worker takes its place meanwhile, and SIGTERM ends all of it."""
    shared = {"counters": redis_server.url(), "counters_timeout": "5s"}
    document = paid(simulator.url)
    gateway = await asyncio.to_thread(deployment, start, document, tmp_path / "gateway", **shared)
    database = tmp_path / "gateway/sql/penstock.db"
    billed = BilledRequests(gateway, await asyncio.to_thread(gateway.new_key, "k"))
    await billed.ask(6)
    await billed.balance()
    backup(database, tmp_path / "saved.db")
    removed(database, tmp_path / "saved.db")
    await billed.up(0)
    await billed.ask(6)
    first, second = gateway.workers
    for worker in (first, second):  # one after the other: their grants are shared
        worker.kill()
        worker.wait(DEADLINE)
        await asyncio.to_thread(
            until,
            lambda: (
                {first.pid, second.pid} & {one.pid for one in gateway.workers}
                in (set(), {second.pid})
                and len(gateway.workers) == 2
            ),
            what="a new worker",
        )
    await asyncio.to_thread(until, lambda: answers(gateway))
    assert not database.exists()
    shutil.copy(tmp_path / "saved.db", database)
    await billed.up(1)
    await billed.ask(4)
    await billed.balance()
    assert "still recovering" not in gateway.stderr  # they served at once

    backup(database, tmp_path / "saved.db")
    removed(database, tmp_path / "saved.db")
    await billed.up(0)
    await billed.ask(4)
    assert await asyncio.to_thread(gateway.stop) == 0
    shutil.copy(tmp_path / "saved.db", database)
    billed.gateway = await asyncio.to_thread(start, document, folder=gateway.folder)
    await billed.balance()
