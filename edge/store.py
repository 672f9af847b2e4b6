"""A look at the stores before anything depends on them."""

from pathlib import Path
from tempfile import TemporaryFile

from middlewares.stores.database import Database

from .settings import Settings, SettingsError


async def check_store(settings: Settings) -> None:
    """See that the SQL store answers and its tables are of this version, and make those of SQLite;
    that the journal can be written, and the URL of Redis be read.

    Raises StoreUnavailable, SchemaMismatch, SettingsError and OSError, for an operator to read.
    """
    if fault := counters_fault(settings):
        raise SettingsError([fault])
    if fault := journal_fault(settings):
        raise OSError(fault)
    database = await Database.open(settings.store.sql)
    await database.aclose()


def counters_fault(settings: Settings) -> str | None:
    """What is wrong with the URL of Redis by itself."""
    location = settings.store.counters
    if location == "memory":
        return None
    from middlewares.stores.redis_link import Address

    try:
        Address(location)
    except (ValueError, OSError) as error:  # OSError: a certificate that is not there
        return f"store.counters: {location.shown}: {error}"
    return None


def journal_fault(settings: Settings) -> str | None:
    """Why the folder of the journal could not be used. Makes nothing: it should belong to whoever
    serves."""
    folder = Path(settings.store.journal)
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    try:
        TemporaryFile(dir=there).close()
    except OSError as error:
        at = "" if there == folder else f"{there}: "
        return f"store.journal: {folder} cannot be written to: {at}{error.strerror}"
    return None
