"""The tables of a new SQLite file, made by one script in place of all migrations.

`new_sqlite.sql` is what the migrations make of an empty file, but for the id of the database. A
test compares the two. It takes a hundredth of the time, and Alembic is not loaded.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from secrets import token_hex

from .sqlite_file import BUSY

SCRIPT = Path(__file__).with_suffix(".sql")


def make_tables(path: Path) -> bool:
    """Make the tables if the file, which exists, has none at all. Returns whether it had none.

    All in one transaction, under the lock for which a migration waits too. Raises sqlite3.Error.
    """
    where = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(where, uri=True, timeout=BUSY, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("BEGIN IMMEDIATE")
        if file.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
            return False
        for statement in SCRIPT.read_text(encoding="utf-8").split(";\n\n"):
            file.execute(statement)
        file.execute("INSERT INTO identity (id) VALUES (?)", (token_hex(8),))
        file.execute("COMMIT")
        return True
