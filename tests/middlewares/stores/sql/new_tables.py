"""What the migrations make of an empty SQLite file, as the script of `new_sqlite`.

    python -m tests.middlewares.stores.sql.new_tables

writes the script. Run it after adding a migration.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from middlewares.stores.sql.migrations import upgrade
from middlewares.stores.sql.new_sqlite import SCRIPT


def dump(path: Path) -> str:
    """The tables, indexes and rows of a file, without the id of the database."""
    with closing(sqlite3.connect(path)) as file:
        named = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY rowid"
        objects = file.execute(named).fetchall()
        lines = [re.sub(r"\s+\n", "\n", sql.strip()) for _, sql in objects]
        lines += [line.rstrip(";") for line in file.iterdump() if line.startswith("INSERT INTO")]
    kept = [line for line in lines if not line.startswith('INSERT INTO "identity"')]
    return ";\n\n".join(kept) + ";\n"  # a trigger has statements in it, but no empty line


def migrated(folder: Path) -> str:
    """The dump of a file that all migrations made."""
    path = folder / "migrated.db"
    upgrade(f"sqlite:///{path}")
    return dump(path)


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        SCRIPT.write_text(migrated(Path(made)), encoding="utf-8")
