"""The group `stores`: the SQL store. Nothing is written to it, and no lock of it is held."""

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from edge.config.load import Settings
from edge.management import keys, teams
from edge.server.preflight import lost_database, open_database
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.keys.sql import SqlKeyStore
from middlewares.stores.sql.engine import FAILURES, connect, file_of, reading, unavailable
from middlewares.stores.sql.identity import WrongStore
from middlewares.stores.sql.tables_version import SCHEMA, SchemaMismatch, read_version
from middlewares.stores.teams.sql import SqlTeamStore

from . import clock, disk
from .finding import Finding, of_sentence
from .probe import PATIENCE, Findings, Probe, in_thread
from .subject import Subject

WHAT = "store.sql"
_POSTGRES = (
    "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())::float8,"
    " pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',"
    " coalesce(has_table_privilege(to_regclass('ledger'), 'INSERT'), true)"
)
"""Version, time, whether it only reads, and whether we may write."""


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe of the database, and one of the keys and teams in it."""
    file = file_of(subject.settings.store.sql)
    if file is not None:
        yield Probe(WHAT, lambda: _sqlite(subject.settings, file))
    else:
        yield Probe(WHAT, lambda: _postgres(subject.settings), outward=True)


async def _sqlite(settings: Settings, file: Path) -> Findings:
    location = settings.store.sql
    if fault := await in_thread(partial(lost_database, location, Path(settings.store.journal))):
        yield Finding("error", WHAT, fault)
        return
    if kind := await in_thread(partial(disk.shared_file_system, file)):
        yield Finding(
            "warning",
            WHAT,
            f"{file} is on {kind}: locks of SQLite do not hold between machines",
            "move it to a disk of this machine, or use PostgreSQL",
        )
    if low := await in_thread(partial(disk.space, WHAT, file.parent)):
        yield low
        if low.state == "error":
            return
    if not await in_thread(file.exists):
        folder = disk.existing(file.parent)
        if not os.access(folder, os.W_OK | os.X_OK):
            yield Finding("error", WHAT, f"{file} cannot be created: {folder} is not writable")
            return
        yield Finding("ok", WHAT, f"{location.shown} will be created at the first start")
        return
    finding, old = await _version(settings, migrates=True)
    yield finding
    if finding.state == "error":
        return
    for path in (file, file.parent):  # the -wal and -shm files are made in the folder
        if not os.access(path, os.W_OK):
            yield Finding(
                "error",
                WHAT,
                f"{path} is not writable for this user",
                "run the check as the user who serves, or change the owner of the file",
            )
    if not old:
        async for finding in _unusable(settings):
            yield finding


async def _postgres(settings: Settings) -> Findings:
    location = settings.store.sql
    before = time.time()
    try:
        async with _row(location) as row:
            version, theirs, reads_only, may_write = row
    except StoreUnavailable as error:
        yield _down(settings, str(error))
        return
    yield clock.against(WHAT, theirs, before)
    if reads_only:
        yield Finding(
            "error",
            WHAT,
            f"{location.shown} only reads: it is a replica, or its transactions are read-only",
            "name the primary server",
        )
    if not may_write:
        yield Finding(
            "error", WHAT, "the user may not write to the table `ledger`", "GRANT it INSERT"
        )
    finding, _ = await _version(settings, migrates=False, server=f"PostgreSQL {version}")
    yield finding
    if finding.state == "error":
        return
    async for finding in _unusable(settings):
        yield finding


async def _version(
    settings: Settings, *, migrates: bool, server: str = "SQLite"
) -> tuple[Finding, bool]:
    """The finding of the version of the tables, and whether they are old.

    migrates: whether a start migrates them.
    """
    location = settings.store.sql
    try:
        tables = await read_version(location)
        state = tables.state
    except SchemaMismatch as error:
        return Finding("error", WHAT, f"{location.shown}: {error}"), False
    except (StoreUnavailable, OSError) as error:
        return _down(settings, str(error)), False
    if state == "newer":
        said = f"{location.shown}: {tables}, {server}"
        hint = "run the newer version of the program once the roll-out or the rollback is over"
        return Finding("warning", WHAT, said, hint), False
    old = state == "old"
    if old and not migrates:
        said = f"{location.shown} needs `penstock migrate`"
        return Finding("error", WHAT, said, "run `penstock migrate`"), True
    said = "will be migrated at the next start" if old else f"is current (tables {SCHEMA})"
    return Finding("ok", WHAT, f"{location.shown} {said}, {server}"), old


def _down(settings: Settings, reason: str) -> Finding:
    shown = settings.store.sql.shown
    said = reason if shown in reason else f"{shown}: {reason}"
    return Finding("error", WHAT, said, _hint(reason))


def _hint(reason: str) -> str:
    for text, hint in (
        ("InvalidPassword", "check the user and the password in store.sql"),
        ("password authentication", "check the user and the password in store.sql"),
        ("InvalidCatalogName", "create the database, or check its name in store.sql"),
        ("does not exist", "create the database, or check its name in store.sql"),
        ("Connect call failed", "start the server, or check host and port in store.sql"),
        ("refused", "start the server, or check host and port in store.sql"),
        ("name lookup", "check the host in store.sql"),
        ("not a database", "put the right file there, or restore a backup"),
        ("malformed", "restore a backup"),
    ):
        if text in reason:
            return hint
    return ""


@asynccontextmanager
async def _row(location: str) -> AsyncIterator[Any]:
    """The row of `_POSTGRES`. Raises StoreUnavailable."""
    engine = connect(location, patience=PATIENCE - 0.5)
    try:
        async with reading(engine).connect() as connection:
            found = (await connection.exec_driver_sql(_POSTGRES)).one()
    except FAILURES as raised:
        raise unavailable(raised) from raised
    finally:
        await engine.dispose()
    yield found


async def _unusable(settings: Settings) -> Findings:
    """Warnings about keys and teams that the configuration does not fit."""
    plans = {plan.id for plan in settings.plans}
    try:
        database = await open_database(settings)
    except (StoreUnavailable, SchemaMismatch, WrongStore) as error:
        yield Finding("error", WHAT, str(error))
        return
    try:
        found = [team async for team in teams.every(SqlTeamStore(database))]
        sentences = [
            *keys.unusable(await keys.every(SqlKeyStore(database)), plans, time.time()),
            *teams.unusable(found, plans),
        ]
    except StoreUnavailable as error:
        yield Finding("error", WHAT, str(error))
        return
    finally:
        await database.aclose()
    for sentence in sentences:
        yield of_sentence("warning", sentence)
