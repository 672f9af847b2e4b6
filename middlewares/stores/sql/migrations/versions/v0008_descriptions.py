"""Texts that describe media, and requests by the request that they served."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "descriptions",
        sa.Column("owner", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("text", sa.String()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
    )
    op.create_index("descriptions_used_at", "descriptions", ["owner", "used_at"])
    op.create_index("descriptions_created_at", "descriptions", ["created_at"])
    named = sa.text("parent <> ''")
    op.create_index(
        "ledger_parent", "ledger", ["parent"], sqlite_where=named, postgresql_where=named
    )
