"""A look at the SQL store before anything depends on it."""

from middlewares.stores.database import Database

from .settings import Settings


async def check_store(settings: Settings) -> None:
    """See that the SQL store answers and its tables are of this version; make those of SQLite.

    Raises StoreUnavailable and SchemaMismatch, for an operator to read.
    """
    database = await Database.open(settings.store.sql)
    await database.aclose()
