"""SQLite files with today's tables in them: to migrate each test's own costs more than the test."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from middlewares.stores.migrations import upgrade


def new_sqlite(path: Path) -> str:
    """The URL of a new database at `path`, with all migrations and no rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_migrated())
    return f"sqlite:///{path}"


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:  # a thread has no loop yet
        file = Path(folder, "new.db")
        pool.submit(upgrade, f"sqlite:///{file}").result()
        assert list(Path(folder).iterdir()) == [file], "what was written is in one file"
        return file.read_bytes()
