"""SQLite files with today's tables in them: to migrate each test's own costs more than the test."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from middlewares.stores.sql.migrations import upgrade


def new_sqlite(path: Path) -> str:
    """The URL of a new database at `path`, with all migrations, an id of its own and no rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content, identity = _migrated()
    path.write_bytes(content.replace(identity, token_hex(8).encode()))
    return f"sqlite:///{path}"


@cache
def _migrated() -> tuple[bytes, bytes]:
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:  # a thread has no loop yet
        file = Path(folder, "new.db")
        pool.submit(upgrade, f"sqlite:///{file}").result()
        assert list(Path(folder).iterdir()) == [file], "what was written is in one file"
        with closing(sqlite3.connect(file)) as database:
            ((identity,),) = database.execute("SELECT id FROM identity")
        return file.read_bytes(), identity.encode()
