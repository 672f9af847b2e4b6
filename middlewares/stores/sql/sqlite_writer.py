"""A SQLite connection for one writer.

A thread that runs statements gives the interpreter back and asks for it again with each of them, in
turn with a loop that is busy; for small rows that costs more than the statements do. So they run on
the loop, without contention, a few at a time. What may wait for another process or for the disk
(to begin, to commit) runs in a thread.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from .database import FOUND_SQLITE, Database, found_of
from .identity import OLD_TABLES, WrongStore
from .sqlite_file import BUSY, SqliteFile

_T = TypeVar("_T")


class SqliteWriter:
    """Opens its connection when first used. Any number of callers take turns."""

    def __init__(self, database: Database, file: SqliteFile) -> None:
        self._database = database
        self._file = file
        self._turn = asyncio.Lock()
        self._connection: sqlite3.Connection | None = None
        database.releasing(self.close)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[sqlite3.Connection]:
        """A connection in an exclusive write transaction, committed when the block
        ends without an exception; it is the database of before (`Identity`).

        Raises StoreUnavailable, and what the block raises.
        """
        async with self._database.using(checked=True, writes=True), self._turn:
            connection = await _in_thread(self._begin)
            try:
                self._confirm(connection)
                yield connection
            except BaseException:
                await _in_thread(self._roll_back)
                raise
            await _in_thread(self._commit)

    def _confirm(self, connection: sqlite3.Connection) -> None:
        identity = self._database.identity
        try:
            row = connection.execute(FOUND_SQLITE, identity.witnesses).fetchone()
        except sqlite3.OperationalError as raised:
            if "no such table" in str(raised):
                raise WrongStore(OLD_TABLES) from raised
            raise
        identity.check(found_of(row))

    def close(self) -> None:
        """Call it after the last write."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _begin(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        self._roll_back()  # what a cancelled caller has left
        # What is written must be in the file, whatever it holds now: no page is taken from memory.
        self._connection.execute("PRAGMA shrink_memory")
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def _commit(self) -> None:
        if self._connection is not None:
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._file.uri,
            uri=True,
            timeout=BUSY,
            isolation_level=None,
            check_same_thread=False,
        )


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Run to its end, also where the caller is cancelled: the connection is in use until then."""
    running = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise
