"""Files of two callers in a real folder and database, and an internet with one server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.media.fetch.fetcher import Fetcher
from edge.media.fetch.rules import FetchRules
from edge.media.library import Files
from edge.media.objects import Objects
from edge.media.resolve import Resolver
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database
from tests.middlewares.stores.sqlite_files import new_sqlite


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(new_sqlite(tmp_path / "penstock.db"))
    yield opened
    await opened.aclose()


@pytest.fixture
async def files(tmp_path: Path, database: Database, clock: Clock) -> AsyncIterator[Files]:
    objects = Objects(f"file:{tmp_path}/objects")
    opened = Files(SqlFileStore(database), objects, SqlSecretStore(database), clock=clock)
    yield opened
    await opened.aclose()


@pytest.fixture
async def resolver(files: Files) -> AsyncIterator[Resolver]:
    """It fetches nothing: `fetch` of a test replaces it."""
    fetcher = Fetcher(FetchRules(enabled=False))
    yield Resolver(files, fetcher)
    await fetcher.aclose()
