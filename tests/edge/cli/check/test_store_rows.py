"""The rows of stores: SQLite, PostgreSQL, Redis, the journal and stored objects."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.cli.check import disk, redis_store
from edge.cli.check.clock import against
from tests.edge.cli.commands import Checked
from tests.edge.media.s3_servers import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server, seaweed
from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Check
from .servers import Answer, closed_port, scripted


def of(checked: Checked, what: str) -> list[str]:
    return [line for line in checked.lines if f" {what}: " in line]


# SQLite


@pytest.fixture
def store(tmp_path: Path, check: Check) -> dict[str, Any]:
    """A configuration with a current SQLite file."""
    from edge.cli import main

    tables = {"store": {"sql": f"sqlite:///{tmp_path}/var/penstock.db"}, "auth": {"mode": "none"}}
    check(**tables)
    before = os.umask(0o022)
    with pytest.raises(SystemExit):
        main(["migrate", "--config", str(tmp_path / "penstock.json")])
    os.umask(before)
    return tables


def test_sqlite_current_is_ok(check: Check, store: dict[str, Any]) -> None:
    (row,) = of(check("--only", "stores", **store), "store.sql")
    assert row.startswith("ok store.sql: sqlite:///") and "is current (tables " in row


def test_sqlite_that_others_write_to_is_read_beside_them(
    check: Check, store: dict[str, Any], tmp_path: Path
) -> None:
    """A transaction of a gateway neither holds the check up nor is disturbed by it."""
    file = tmp_path / "var/penstock.db"
    writer = sqlite3.connect(file, isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("CREATE TABLE mark (x)")
        names = sorted(path.name for path in file.parent.iterdir())
        checked = check("--only", "stores", **store)
        assert checked.status == 0, checked.lines
        writer.execute("COMMIT")
        assert sorted(path.name for path in file.parent.iterdir()) == names
        assert writer.execute("SELECT count(*) FROM mark").fetchone() == (0,)
    finally:
        writer.close()


def test_sqlite_newer_than_the_program_is_an_error(
    check: Check, store: dict[str, Any], tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "var/penstock.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.execute("UPDATE compatibility SET oldest_program = '9998'")
    database.close()
    checked = check("--only", "stores", **store)
    assert checked.status == 1
    assert "newer than this program" in of(checked, "store.sql")[0]


def test_sqlite_newer_and_compatible_is_a_warning(
    check: Check, store: dict[str, Any], tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "var/penstock.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    checked = check("--only", "stores", **store)
    assert checked.status == 0
    (row,) = of(checked, "store.sql")
    assert row.startswith("warning ")
    assert "version 9999, newer than this program" in row and "works with them, SQLite" in row


def test_sqlite_of_another_user_is_an_error(
    check: Check, store: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = tmp_path / "var/penstock.db"
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != denied and allowed(path, mode))
    checked = check("--only", "stores", **store)
    assert checked.status == 1
    assert checked.of(f"error store.sql: {denied} is not writable for this user")


# PostgreSQL


def on_postgres(url: str) -> dict[str, Any]:
    return {"store": {"sql": url}}


def test_postgres(check: Check, postgres: Postgres, tmp_path: Path) -> None:
    url = asyncio.run(postgres.new_database())
    checked = check("--only", "stores", **on_postgres(url))
    assert checked.status == 1
    assert "needs `penstock migrate`" in of(checked, "store.sql")[0]
    assert checked.hints.splitlines()[0] == "run `penstock migrate`"
    from edge.cli import main

    before = os.umask(0o022)
    with pytest.raises(SystemExit):
        main(["migrate", "--config", str(tmp_path / "penstock.json")])
    os.umask(before)
    checked = check(**on_postgres(url))
    assert checked.status == 0
    said = [line for line in of(checked, "store.sql") if "agrees" not in line]
    assert len(said) == 1 and "is current" in said[0] and "PostgreSQL " in said[0]
    assert check("--only", "clock", **on_postgres(url)).lines == [
        "ok store.sql: agrees with the clock of this machine"
    ]
    reading = f"{url}{'&' if '?' in url else '?'}options=-c%20default_transaction_read_only%3Don"
    checked = check("--only", "stores", **on_postgres(reading))
    assert checked.status == 1
    assert "only reads" in of(checked, "store.sql")[0]


def test_postgres_down_is_an_error(check: Check) -> None:
    checked = check(**on_postgres(f"postgresql://u:hunter2@127.0.0.1:{closed_port()}/db"))
    assert checked.status == 1
    (row,) = of(checked, "store.sql")
    assert row.startswith("error store.sql: postgresql://***@127.0.0.1:")
    assert "start the server" in checked.hints


def test_network_is_not_used_offline(check: Check) -> None:
    tables = {
        "store": {
            "sql": "postgresql://u@no-such-host.invalid/db",
            "counters": "redis://no-such-host.invalid/0",
            "objects": "s3://bucket/x",
        },
        "upstreams": [
            {"name": "up", "dialect": "openai", "base_url": "https://no-such-host.invalid/v1"}
        ],
    }
    checked = check("--offline", **tables)
    assert checked.status == 0
    assert checked.of("note --offline") == [
        "note --offline: not checked, since it needs the network: store.sql, store.counters, "
        "store.objects, upstreams.up"
    ]


# Redis


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    running = RedisServer(folder, "hunter2-redis")
    yield running
    running.stop()
    shutil.rmtree(folder)


def test_redis(check: Check, redis_server: RedisServer) -> None:
    tables = {"store": {"counters": redis_server.url()}}
    checked = check("--only", "stores", **tables)
    good, note = of(checked, "store.counters")
    assert checked.status == 0
    assert good.startswith("ok store.counters: unix://***@") and " answers, " in good
    assert note.startswith("note store.counters: it has no append-only file")
    assert "ok store.counters: agrees" in check("--only", "clock", **tables).lines[0]
    with redis_server.client() as client:
        client.config_set("maxmemory", "4gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert not client.keys()
    checked = check("--only", "stores", **tables)
    assert checked.of("warning store.counters: maxmemory-policy is allkeys-lru: at 4.0 GiB")
    assert "set maxmemory-policy noeviction" in checked.hints
    assert check("--only", "stores", "--strict", **tables).status == 1


@pytest.mark.parametrize(
    ("info", "rows"),
    [
        ({"aof_enabled": "1"}, []),
        ({"aof_enabled": "1", "role": "slave"}, ["error it is a replica, which takes no writes"]),
        ({"aof_enabled": "1", "loading": "1"}, ["error it is still loading its data"]),
        (
            {"aof_enabled": "1", "maxmemory": "1000", "used_memory": "950"},
            ["warning 950 bytes of 1000 bytes (maxmemory) are used"],
        ),
        (
            {"aof_enabled": "1", "aof_last_write_status": "err"},
            ["error it cannot write its append-only file"],
        ),
        (
            {"aof_enabled": "1", "rdb_last_bgsave_status": "err"},
            ["warning its last snapshot failed; by default it then refuses writes"],
        ),
        (
            {"aof_enabled": "1", "maxmemory_policy": "volatile-ttl"},
            [
                "warning maxmemory-policy is volatile-ttl: once `maxmemory` is set it removes "
                "keys, and with them limits, reservations and what was spent"
            ],
        ),
    ],
)
def test_redis_info_becomes_rows(info: dict[str, str], rows: list[str]) -> None:
    found = redis_store.of_info(info)
    assert [f"{finding.state} {finding.detail}" for finding in found] == rows


# Folders


def test_disk_file_system_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    place = tmp_path / "a folder" / "journal"
    parent = str(tmp_path.resolve()).replace(" ", r"\040")
    mounts.write_text(
        f"/dev/a / ext4 rw 0 0\nserver:/x {parent} nfs4 rw 0 0\nshort line\n"
        f"tmpfs {parent}/other tmpfs rw 0 0\n"
    )
    assert disk.shared_file_system(place, mounts) == "nfs4"
    assert disk.shared_file_system(Path("/"), mounts) == ""
    (tmp_path / "other").mkdir()
    assert disk.in_memory(tmp_path / "other/deep", mounts)
    assert not disk.in_memory(place, mounts)
    assert disk.file_system(place, tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("free", "state"), [(1 << 20, "error"), (500 << 20, "warning"), (2 << 30, "")]
)
def test_disk_with_little_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(disk, "free", lambda path: free)
    found = disk.space("store.journal", tmp_path)
    assert (found.state if found else "") == state
    assert found is None or f"{free >> 20}.0 MiB are free" in found.detail


def test_journal_on_a_disk_of_others_is_a_warning(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "shared_file_system", lambda path: "nfs4")
    checked = check("--only", "stores")
    assert checked.of("warning store.journal: ")[0].endswith(
        "nfs4, which other machines can write to"
    )
    assert checked.of("warning store.sql: ")


def test_journal_in_memory_is_a_note(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "in_memory", lambda path: True)
    assert check("--only", "stores").of("note store.journal: ")


def test_journal_on_a_full_disk_is_an_error(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free", lambda path: 0)
    checked = check("--only", "stores")
    assert checked.status == 1
    assert {line.split(":")[0] for line in checked.of("error")} == {
        "error store.sql",
        "error store.journal",
        "error store.objects",
    }


# Objects


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3Server]:
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    running = seaweed(folder)
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("change", "said", "hint"),
    [
        ({}, "can be written to and read", ""),
        ({"objects_access_key": "wrong-canary"}, "access key is not known", "objects_access_key"),
        (
            {"objects_secret_key": "wrong-canary"},
            "does not fit the access key",
            "objects_secret_key",
        ),
    ],
)
def test_bucket(
    check: Check, bucket: S3Server, change: dict[str, str], said: str, hint: str
) -> None:
    given = {
        "objects": f"s3://{BUCKET}/check",
        "objects_endpoint": bucket.url,
        "objects_region": "us-east-1",
        "objects_access_key": ACCESS_KEY,
        "objects_secret_key": SECRET_KEY,
    }
    checked = check("--only", "stores", store={**given, **change})
    (row,) = of(checked, "store.objects")
    assert said in row and hint in checked.hints, checked
    assert checked.status == (1 if change else 0)
    assert bucket.keys("check/") == set()


@pytest.mark.parametrize(
    ("status", "code", "said", "hint"),
    [
        (404, "NoSuchBucket", "there is no such bucket", "create it"),
        (400, "AuthorizationHeaderMalformed", "in another region", "objects_region"),
        (301, "PermanentRedirect", "in another region", "objects_region"),
        (403, "AccessDenied", "access is denied", "s3:PutObject"),
        (403, "RequestTimeTooSkewed", "the clock of this machine is wrong", "NTP"),
        (403, "InvalidAccessKeyId", "the access key is not known", "objects_access_key"),
    ],
)
def test_bucket_that_refuses_says_why(
    check: Check, status: int, code: str, said: str, hint: str
) -> None:
    text = f"<Error><Code>{code}</Code><AWSAccessKeyId>canary-7</AWSAccessKeyId></Error>"
    with scripted() as server:
        server.otherwise = Answer(text.encode(), status)
        given = {
            "objects": "s3://media/x",
            "objects_endpoint": server.url,
            "objects_region": "us-east-1",
            "objects_access_key": "canary-7",
            "objects_secret_key": "hunter2",
        }
        checked = check("--only", "stores", store=given)
    (row,) = checked.of("error store.objects")
    assert said in row and hint in checked.hints


# Clocks


@pytest.mark.parametrize(
    ("theirs", "state", "said"),
    [
        (101.0, "ok", "agrees"),
        (99.0, "ok", "agrees"),
        (110.0, "warning", "8.0 s ahead"),
        (50.0, "error", "50.0 s behind"),
        (9_000.0, "error", "2.5 h ahead"),
    ],
)
def test_clock_allows_for_the_time_of_the_question(
    monkeypatch: pytest.MonkeyPatch, theirs: float, state: str, said: str
) -> None:
    monkeypatch.setattr("edge.cli.check.clock.time.time", lambda: 102.0)
    found = against("x", theirs, before=100.0)
    assert (found.state, found.group) == (state, "clock")
    assert said in found.detail
