"""A SQLite connection for one writer, whose transactions run whole in a thread.

Through the asynchronous driver each statement goes to a thread and back several times, which costs
more than the rows of a small batch.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from .database import BUSY, unavailable

Work = Callable[[sqlite3.Connection], None]


class SqliteWriter:
    """Opens its connection when first used. Any number of callers take turns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = Lock()
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Work) -> None:
        """Do `work` in a transaction, committed when it returns.

        It is done to its end even where the caller is cancelled. Raises StoreUnavailable, and
        what `work` raises.
        """
        await asyncio.to_thread(self._transact, work)

    def close(self) -> None:
        """Waits for the transaction that runs."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _transact(self, work: Work) -> None:
        with self._turn:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    work(self._connection)
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as raised:
                raise unavailable(raised) from raised

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY,
            isolation_level=None,
            check_same_thread=False,
        )
