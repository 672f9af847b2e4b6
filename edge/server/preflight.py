"""Checks of the stores before the gateway starts or a command uses them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from tempfile import TemporaryFile

from edge.config.load import Settings, SettingsError
from edge.config.secrets import Location
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.engine import is_missing
from middlewares.stores.sql.identity import remembered, same, starting
from middlewares.stores.sql.tables_version import TablesVersion


async def check_store(settings: Settings) -> TablesVersion:
    """Check that the SQL store answers with tables that this program works with (creating those of
    SQLite), that the journal can be written, and that the URL of Redis is valid.

    Returns the version of the tables.
    Raises StoreUnavailable, SchemaMismatch, SettingsError and OSError, with texts for operators.
    """
    if fault := counters_fault(settings):
        raise SettingsError([fault])
    if fault := journal_fault(settings, full=False):
        raise OSError(fault)
    folder = Path(settings.store.journal)
    await _refuse_to_make(settings.store.sql, folder)
    with named(settings.store.sql):
        database = await Database.open(settings.store.sql)
        try:
            async with database.read(checked=True) as connection:
                found = await database.confirm(connection)
            await asyncio.to_thread(starting, folder, found)
        finally:
            await database.aclose()
    return database.tables


async def open_database(settings: Settings, *, create: bool = False) -> Database:
    """Open the SQL store for a command, which may run beside a gateway. It must be the one that the
    journals belong to, if these can be read.

    create: create the SQLite file if no gateway has had one.
    Raises StoreUnavailable, SchemaMismatch.
    """
    folder = Path(settings.store.journal)
    if create:
        await _refuse_to_make(settings.store.sql, folder)
    with named(settings.store.sql):
        database = await Database.open(settings.store.sql, create=create, memory=None)
        try:
            async with database.read(checked=True) as connection:
                await asyncio.to_thread(same, folder, await database.confirm(connection))
        except BaseException:
            await database.aclose()
            raise
    return database


@contextmanager
def named(location: Location) -> Iterator[None]:
    """Add the location of the store to a StoreUnavailable that does not name it."""
    try:
        yield
    except StoreUnavailable as raised:
        if type(raised) is not StoreUnavailable or location.shown in str(raised):
            raise
        raise StoreUnavailable(f"{location.shown}: {raised}") from raised


async def _refuse_to_make(sql: str, folder: Path) -> None:
    if fault := await asyncio.to_thread(lost_database, sql, folder):
        raise StoreUnavailable(fault)


def lost_database(sql: str, folder: Path) -> str:
    """The fault when the SQLite file is missing that the journals belong to, else ""."""
    path = is_missing(sql)
    if path is None or not (store := remembered(folder)):
        return ""
    return (
        f"{path}: no such file. The journals in {folder} belong to the database {store} that was "
        "there: put it back, or create a new one with `penstock migrate` and accept that with "
        "`penstock accept-store`"
    )


def counters_fault(settings: Settings) -> str | None:
    """The fault of the URL of Redis, without connecting."""
    location = settings.store.counters
    if location == "memory":
        return None
    from middlewares.stores.redis_address import Address

    try:
        Address(location)
    except (ValueError, OSError) as error:  # OSError: a missing certificate
        return f"store.counters: {location.shown}: {error}"
    return None


def journal_fault(settings: Settings, *, full: bool = True) -> str | None:
    """The fault of a journal folder that cannot be written to. Does not create it: it should belong
    to the user who serves.

    full: a full disk is a fault too; a gateway starts without it.
    """
    fault = _unwritable(Path(settings.store.journal), full=full)
    return fault and f"store.journal: {fault}"


def objects_fault(folder: Path) -> str | None:
    """The fault of a folder of `store.objects` that cannot be written to. Does not create it."""
    fault = _unwritable(folder, full=True)
    return fault and f"store.objects: {fault}"


def _unwritable(folder: Path, *, full: bool) -> str | None:
    """Why no file can be made in a folder, or in the one where the folder will be."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    try:
        TemporaryFile(dir=there).close()
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT) and not full:
            return None
        at = "" if there == folder else f"{there}: "
        return f"{folder} cannot be written to: {at}{error.strerror}"
    return None
