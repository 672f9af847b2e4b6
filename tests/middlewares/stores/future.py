"""Migrations of programs after this one, for tests of what this one does with their tables."""

from pathlib import Path

from middlewares.stores.sql.migrations import VERSIONS, migrate
from middlewares.stores.sql.tables_version import SCHEMA

NEXT = f"{int(SCHEMA) + 1:04}"
WRITTEN = (
    *("alerts", "api_keys", "audit", "files", "identity", "jobs", "ledger", "ledger_totals"),
    *("responses", "revisions", "secrets", "sessions", "spend_days", "spend_keys", "teams"),
)
"""Tables that this program writes to."""
_COMPATIBLE = f'''
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{SCHEMA}"
oldest_program = "{SCHEMA}"


def upgrade() -> None:
    op.create_table("tomorrow", sa.Column("id", sa.String(), primary_key=True))
    for table in {WRITTEN}:
        op.add_column(table, sa.Column("tomorrow", sa.String(), nullable=True))
        op.add_column(
            table, sa.Column("later", sa.Integer(), nullable=False, server_default="7")
        )
    op.create_index("ledger_tomorrow", "ledger", ["tomorrow"])
'''
_AFTER = f"{int(SCHEMA) + 2:04}"
_INCOMPATIBLE = f'''
import sqlalchemy as sa
from alembic import op

revision = "{_AFTER}"
down_revision = "{NEXT}"
oldest_program = "{NEXT}"


def upgrade() -> None:
    op.drop_column("ledger", "tags")
'''


async def migrate_further(url: str, folder: Path, *, compatible: bool = True) -> str:
    """Do as the program after this one with the tables at `url`; not compatible: as the one after
    that. Returns their version. folder: for its migrations."""
    folder.mkdir(exist_ok=True)
    (folder / f"v{NEXT}_next.py").write_text(_COMPATIBLE)
    if not compatible:
        (folder / f"v{_AFTER}_after.py").write_text(_INCOMPATIBLE)
    await migrate(url, versions=(VERSIONS, folder))
    return NEXT if compatible else _AFTER
