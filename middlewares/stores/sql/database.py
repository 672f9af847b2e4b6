"""One SQL database: whether its tables work with this program, and whether it is that of before."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from middlewares.shared import Shared
from middlewares.stores.errors import StoreUnavailable

from .engine import FAILURES, connect, file_of, is_missing, make, reading, unavailable
from .identity import OLD_TABLES, DatabaseState, Identity, WrongStore
from .new_sqlite import make_tables
from .sqlite_file import NotUsable, SqliteFile
from .tables_version import SchemaMismatch, TablesVersion, read_version

_log = logging.getLogger(__name__)

_CLOSING = 10.0
"""Seconds for what is asked just now, when the database is closed."""
_FRESH = 0.1
"""Seconds for which a check of SQLite's files is valid, where no money depends on it."""
_PAUSE = 0.2
"""Seconds between two attempts to open a SQLite file that could not be."""
FOUND_SQLITE = (
    "SELECT (SELECT id FROM identity),"
    " (SELECT value FROM revisions WHERE name = 'keys'),"
    " (SELECT value FROM revisions WHERE name = 'credits'),"
    " ?1 = '' OR EXISTS (SELECT 1 FROM ledger WHERE id = ?1),"
    " ?2 = '' OR EXISTS (SELECT 1 FROM ledger WHERE id = ?2)"
)
"""What makes a `DatabaseState`, for the two ids of `Identity.witnesses`. One statement, one
moment."""
_FOUND_POSTGRES = FOUND_SQLITE.replace("?1", "$1::text").replace("?2", "$2::text")
_UNKNOWN_TABLE = ("no such table", "UndefinedTableError")


class Database(Shared):
    """An open database whose tables work with this program. Shared by the stores of one process.

    A SQLite file that was removed, replaced or damaged, and a database that is another than before
    (`identity`), count as a database that does not answer.
    """

    def __init__(self, url: str, *, patience: float, memory: Path | None) -> None:
        path = file_of(url)
        self._url = url
        self._patience = patience
        self._file = None if path is None else SqliteFile(path)
        self._engine = connect(url, patience=patience)
        self._reading = reading(self._engine)
        self._releasing: list[Callable[[], None]] = []
        self._users = 0
        self._unused = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._looked = 0.0
        self._reason = ""
        self.identity: Identity[Any] = Identity(memory)
        self.tables = TablesVersion(None)
        """The version of the tables when `open` opened them."""
        self.up = True
        """Whether it did what it was asked for last."""

    @classmethod
    async def open(
        cls, url: str, *, patience: float = 2.0, create: bool = True, memory: Path | None = None
    ) -> "Database":
        """Connect to `sqlite:///PATH`, whose tables are made or migrated here, or `postgresql://…`.

        patience: seconds that one statement, or the wait for a connection, may take.
        create: whether the file of SQLite is made where there is none. memory: see `Identity`.
        Raises ValueError for another URL, SchemaMismatch, StoreUnavailable.
        """
        database = cls(url, patience=patience, memory=memory)
        try:
            if create:
                make(url)
            elif path := is_missing(url):
                raise StoreUnavailable(f"{path}: no such file")
            database.tables = await read_version(url, patience=patience)
            if database.tables.state == "old":
                if database._file is None:
                    raise SchemaMismatch(
                        "The tables are missing or older than this program needs. "
                        "Run `penstock migrate`."
                    )
                database.tables = await _newest_tables(url)
            async with database.using(checked=True):
                pass
        except BaseException:
            await database.aclose()
            raise
        return database

    @classmethod
    def at(cls, url: str, *, patience: float = 2.0, memory: Path | None = None) -> "Database":
        """`open` without a look: for a process whose parent has just opened it.

        Raises ValueError for another URL.
        """
        return cls(url, patience=patience, memory=memory)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING):
                await self._unused_now()
        await self._release()
        if self._file is not None:
            await asyncio.to_thread(self._file.close)

    @property
    def sqlite_file(self) -> SqliteFile | None:
        """The file of a SQLite database."""
        return self._file

    def releasing(self, close: Callable[[], None]) -> None:
        """Have `close` called, in a thread, when connections are closed; the next `using` may be
        of another file."""
        self._releasing.append(close)

    @asynccontextmanager
    async def using(self, *, checked: bool = False, writes: bool = False) -> AsyncIterator[None]:
        """The database may be used while the block runs.

        checked: the caller asks it who it is. writes: what a checked caller has written counts only
        if the path names the same file at the end of the block. Raises StoreUnavailable, also for
        FAILURES.
        """
        try:
            await self._enter(checked)
            try:
                yield
                file = self._file
                if writes and checked and file is not None and (what := file.difference()):
                    raise NotUsable(f"{what}, in the middle of a transaction")
            finally:
                self._users -= 1
                if not self._users:
                    self._unused.set()
        except StoreUnavailable:
            self.up = False
            if self.identity.fault == "":
                self.identity.note()
            raise
        except IntegrityError as raised:
            raise ValueError(str(raised.orig).partition("\n")[0]) from raised
        except FAILURES as raised:
            self.up = False
            if self._file is not None:
                self._file.failed(getattr(raised, "orig", None) or raised)
            raise unavailable(raised) from raised
        self.up = True

    @asynccontextmanager
    async def read(self, *, checked: bool = False) -> AsyncIterator[AsyncConnection]:
        """A connection for one SELECT. checked: after `confirm`. Raises StoreUnavailable."""
        async with self.using(checked=checked), self._reading.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self, *, checked: bool = False) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction, committed when the block ends without an exception.

        checked: after `confirm`. Raises StoreUnavailable, and ValueError when a row breaks a
        constraint.
        """
        async with self.using(checked=checked, writes=True), self._engine.begin() as connection:
            yield connection

    async def confirm(self, connection: AsyncConnection) -> DatabaseState:
        """What the database says of itself. Raises WrongStore when it is another than before."""
        postgres = connection.dialect.name == "postgresql"
        statement = _FOUND_POSTGRES if postgres else FOUND_SQLITE
        try:
            row = await connection.exec_driver_sql(statement, self.identity.witnesses)
        except SQLAlchemyError as raised:
            if any(text in str(raised) for text in _UNKNOWN_TABLE):
                raise WrongStore(OLD_TABLES) from raised
            raise
        found = found_of(row.one())
        self.identity.check(found)
        return found

    async def _enter(self, checked: bool) -> None:
        file = self._file
        if file is not None and (not file.opened or self._difference(file, checked)):
            await self._open()
        if self.identity.fault and not checked:
            raise WrongStore(self.identity.fault)
        self._users += 1

    def _difference(self, file: SqliteFile, checked: bool) -> str:
        now = asyncio.get_running_loop().time()
        if not checked and now - self._looked < _FRESH and not file.suspect:
            return ""
        self._looked = now
        what = file.difference()
        if what:
            self._reason = what
        return what

    async def _open(self) -> None:
        """Any number of callers wait for one attempt, which goes on when they leave."""
        if self._opening is None:
            if asyncio.get_running_loop().time() < self._not_before:
                raise StoreUnavailable(self._reason)
            self._opening = asyncio.create_task(self._open_file(), name="sqlite-open")
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        done, _ = await asyncio.wait((opening,), timeout=self._patience)
        if not done:
            raise StoreUnavailable(self._reason or "the file is still being opened")
        if not opening.cancelled() and opening.exception() is not None:
            raise StoreUnavailable(self._reason)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self._opening = None
        self._not_before = asyncio.get_running_loop().time() + _PAUSE
        if not opening.cancelled() and (raised := opening.exception()) is not None:
            self._reason = str(unavailable(raised))

    async def _open_file(self) -> None:
        file = self._file
        if file is None or (file.opened and not file.difference()):
            return
        what = file.difference() if file.opened else self._reason
        await self._unused_now()
        await self._release()
        await asyncio.to_thread(file.open)
        if what:
            _log.warning("the SQL store was opened again: %s", what)
        self._reason = ""

    async def _unused_now(self) -> None:
        if self._file is not None:
            self._file.opened = False  # so that no user begins
        while self._users:
            self._unused.clear()
            await self._unused.wait()

    async def _release(self) -> None:
        """Close all connections; they are not in use any more."""
        for close in self._releasing:
            await asyncio.to_thread(close)
        await self._engine.dispose()
        if self._file is not None:
            await asyncio.to_thread(self._file.release)


async def _newest_tables(url: str) -> TablesVersion:
    """Make or migrate the tables of a SQLite file. Raises StoreUnavailable."""
    path = file_of(url)
    try:
        if path is not None and await asyncio.to_thread(make_tables, path):
            made = await read_version(url)
            if made.state != "old":  # the script is as new as the migrations
                return made
    except FAILURES as raised:
        raise unavailable(raised) from raised
    # Alembic takes longer to load than all the rest; most starts need none of it.
    tables: TablesVersion = await import_module(f"{__package__}.migrations").migrate(url)
    return tables


def found_of(row: Sequence[Any]) -> DatabaseState:
    """From what `FOUND_SQLITE` selects."""
    store, keys, credit, newest, oldest = row
    if store is None:
        raise WrongStore(OLD_TABLES)
    return DatabaseState(store, keys, credit, bool(newest), bool(oldest))
