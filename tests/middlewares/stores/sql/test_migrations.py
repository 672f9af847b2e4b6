"""Migrations: from an empty database to the current tables, once, also in a race."""

import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import Connection

from middlewares.stores import StoreUnavailable
from middlewares.stores.keys.sql import Database, SchemaMismatch, SqlKeyStore, needs_migration
from middlewares.stores.sql import migrations, new_sqlite
from middlewares.stores.sql.engine import connect
from middlewares.stores.sql.migrations import migrate, upgrade
from middlewares.stores.sql.new_sqlite import make_tables
from middlewares.stores.sql.tables import compatibility, metadata
from middlewares.stores.sql.tables_version import SCHEMA, read_version
from tests.middlewares.stores.future import NEXT, migrate_further
from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.samples import new_key
from tests.middlewares.stores.sql.new_tables import dump, migrated

ROOT = Path(__file__).parents[4]


@pytest.fixture(params=["sqlite", "postgres"])
async def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/a folder/100%/keys.db"
    server: Postgres = request.getfixturevalue("postgres")
    return await server.new_database()


def declared(name: str | None, kind: str, _parents: object) -> bool:
    """Indexes of expressions are not declared with the tables."""
    return not (kind == "index" and name is not None and name.endswith("_search"))


def differences(connection: Connection) -> list[object]:
    options = {"compare_type": True, "include_name": declared}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, metadata))


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
async def test_an_empty_database_becomes_what_the_code_describes(empty_url: str) -> None:
    assert await needs_migration(empty_url)
    await migrate(empty_url)
    assert not await needs_migration(empty_url)
    engine = connect(empty_url, patience=10)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_to_ask_makes_no_file(tmp_path: Path) -> None:
    assert await needs_migration(f"sqlite:///{tmp_path}/new/keys.db")
    assert list(tmp_path.iterdir()) == []


async def test_a_path_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="file"):
        await Database.open(f"sqlite:///{tmp_path}/file/keys.db")
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        await Database.open(f"sqlite:///{tmp_path}")


async def test_again_changes_nothing(empty_url: str) -> None:
    await migrate(empty_url)
    database = await Database.open(empty_url)
    kept = await SqlKeyStore(database).insert(new_key()[0])
    await migrate(empty_url)
    assert await SqlKeyStore(database).every() == [kept]
    assert await SqlKeyStore(database).revision() == 1
    await database.aclose()


def test_the_newest_migration_is_the_one_the_code_needs() -> None:
    folder = migrations.__path__[0]
    assert ScriptDirectory(folder).get_current_head() == SCHEMA
    names = sorted(path.name for path in Path(folder, "versions").glob("v*.py"))
    assert names[-1].startswith(f"v{SCHEMA}_")


def test_upgrade_needs_no_event_loop(tmp_path: Path) -> None:
    upgrade(f"sqlite:///{tmp_path}/keys.db")
    assert (tmp_path / "keys.db").stat().st_size > 0


RACER = """
import asyncio, sys
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.migrations import upgrade

async def open_and_close(url):
    await (await Database.open(url)).aclose()

print("ready", flush=True)
sys.stdin.readline()
if sys.argv[2] == "opens":
    asyncio.run(open_and_close(sys.argv[1]))
else:
    upgrade(sys.argv[1])
"""


async def test_processes_may_race(empty_url: str) -> None:
    """Some open the database, as gateways do, which makes the tables of SQLite."""
    others = ["opens" if empty_url.startswith("sqlite") else "migrates"] * 4
    racers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RACER, empty_url, how],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for how in ("migrates", *others)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    ended = [(racer.communicate(timeout=60), racer.returncode) for racer in racers]
    assert [code for _, code in ended] == [0] * 5, ended
    database = await Database.open(empty_url)
    assert (await SqlKeyStore(database).insert(new_key()[0])).revision == 1
    await database.aclose()


async def test_a_new_sqlite_file_is_for_its_owner_only(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/keys.db")
    try:
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    finally:
        await database.aclose()
    assert modes == dict.fromkeys(("keys.db", "keys.db-wal", "keys.db-shm"), 0o600)


async def test_sqlite_is_migrated_when_opened(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path}/new/folder/keys.db")
    assert await SqlKeyStore(database).every() == []
    async with database.read() as connection:
        mode = await connection.exec_driver_sql("PRAGMA journal_mode")
        assert mode.scalar_one() == "wal"
        assert (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar_one() == 5000
        assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar_one() == 1
    await database.aclose()


def test_new_sqlite_file_has_the_tables_that_all_migrations_make(tmp_path: Path) -> None:
    """If they differ: `python -m tests.middlewares.stores.sql.new_tables`."""
    path = tmp_path / "new.db"
    path.touch()
    assert make_tables(path)
    wanted = migrated(tmp_path)
    assert dump(path) == wanted
    assert not make_tables(path)
    assert dump(path) == wanted
    with closing(sqlite3.connect(path)) as file:
        ((identity,),) = file.execute("SELECT id FROM identity").fetchall()
    assert len(bytes.fromhex(identity)) == 8


async def test_sqlite_file_with_other_tables_is_migrated_and_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE other (id INTEGER)")
    database = await Database.open(f"sqlite:///{path}")
    assert database.tables.version == SCHEMA
    async with database.read() as connection:
        assert (await connection.exec_driver_sql("SELECT * FROM other")).all() == []
    await database.aclose()


async def test_script_that_fails_leaves_an_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "broken.sql"
    script.write_text(f"{new_sqlite.SCRIPT.read_text()}\nCREATE TABLE teams (id INTEGER);\n")
    monkeypatch.setattr(new_sqlite, "SCRIPT", script)
    url = f"sqlite:///{tmp_path}/keys.db"
    with pytest.raises(StoreUnavailable, match="table teams already exists"):
        await Database.open(url)
    assert (await read_version(url)).version is None
    monkeypatch.undo()
    await (await Database.open(url)).aclose()


async def test_postgresql_is_not_and_the_error_says_what_to_do(postgres: Postgres) -> None:
    url = await postgres.new_database()
    with pytest.raises(SchemaMismatch, match="Run `penstock migrate`"):
        await Database.open(url)


@pytest.mark.parametrize("says", [True, False])
async def test_tables_newer_than_the_program_are_left_alone(empty_url: str, says: bool) -> None:
    """Also those that do not say with which programs they work."""
    await migrate(empty_url)
    engine = connect(empty_url, patience=10)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        if says:
            await connection.execute(compatibility.update(), {"oldest_program": "9998"})
        else:
            await connection.execute(text("DROP TABLE compatibility"))
    await engine.dispose()
    needed = ", and need 9998" if says else ""
    for look in (Database.open, needs_migration, migrate):
        with pytest.raises(
            SchemaMismatch, match=rf"9999, newer than .* \({SCHEMA}\){needed}\. Run"
        ):
            await look(empty_url)


async def test_compatible_tables_newer_than_the_program_are_used_and_not_migrated(
    empty_url: str, tmp_path: Path
) -> None:
    await migrate(empty_url)
    assert await migrate_further(empty_url, tmp_path / "next") == NEXT
    assert not await needs_migration(empty_url)
    found = await migrate(empty_url)
    assert found == await read_version(empty_url)
    assert (found.version, found.oldest_program, found.state) == (NEXT, SCHEMA, "newer")
    assert str(found) == (
        f"the tables are of version {NEXT}, newer than this program ({SCHEMA}), "
        "which works with them"
    )
    database = await Database.open(empty_url)
    assert database.tables == found
    kept = await SqlKeyStore(database).insert(new_key()[0])
    assert await SqlKeyStore(database).every() == [kept]
    await database.aclose()


async def test_incompatible_migration_outlives_the_compatible_ones_around_it(
    empty_url: str, tmp_path: Path
) -> None:
    after = await migrate_further(empty_url, tmp_path / "after", compatible=False)
    found = await read_version(empty_url)
    assert (found.version, found.oldest_program) == (after, NEXT)
    with pytest.raises(SchemaMismatch, match=f"and need {NEXT}"):
        await Database.open(empty_url)


def test_each_migration_says_the_oldest_program() -> None:
    scripts = ScriptDirectory(migrations.__path__[0]).walk_revisions()
    said = {one.revision: getattr(one.module, "oldest_program", "") for one in scripts}
    assert {number for number, oldest in said.items() if not oldest} == {
        f"{number:04}"
        for number in range(1, 15)  # before the first that says it
    }
    for number, oldest in said.items():
        assert not oldest or "0015" <= oldest <= number, number


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x.db?mode=ro",
        "sqlite:relative.db",
        "mysql://root:s3cret-canary@db/x",
        "s3cret-canary",
        "",
    ],
)
async def test_other_urls_are_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected sqlite:///PATH") as raised:
        await Database.open(url)
    assert "s3cret" not in str(raised.value)


async def test_a_password_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = "postgresql://penstock:s3cret-canary@127.0.0.1:1/penstock?sslmode=disable"
    for look in (Database.open, needs_migration, migrate):
        with pytest.raises(StoreUnavailable, match="Connect") as raised:
            await look(url)
        assert "s3cret" not in str(raised.value)
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("module", "unloaded"),
    [
        ("middlewares.stores", {"sqlalchemy", "alembic", "aiosqlite", "asyncpg"}),
        ("middlewares.auth", {"sqlalchemy", "alembic", "prometheus_client", "structlog"}),
        (
            "middlewares.stores.keys.sql, middlewares.stores.alerts.sql",
            {"alembic", "sqlalchemy.dialects.postgresql", "prometheus_client", "structlog"},
        ),
    ],
)
def test_start_loads_no_module_that_is_not_used(module: str, unloaded: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not unloaded & set(ran.stdout.split())
