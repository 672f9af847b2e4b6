"""Alerts about budgets, and the grants of an account by their order."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("account", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("start", sa.Double(), primary_key=True),
        sa.Column("share", sa.BigInteger(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ends_at", sa.Double()),
        sa.Column("due", sa.Double()),
        sa.Column("tries", sa.BigInteger(), nullable=False),
    )
    op.create_index("alerts_id", "alerts", ["id"], unique=True)
    op.create_index("alerts_ends_at", "alerts", ["ends_at"])
    op.create_index(
        "alerts_due",
        "alerts",
        ["due"],
        sqlite_where=sa.text("due IS NOT NULL"),
        postgresql_where=sa.text("due IS NOT NULL"),
    )
    op.create_index(
        "ledger_grants",
        "ledger",
        ["account", "revision"],
        sqlite_where=sa.text("revision IS NOT NULL"),
        postgresql_where=sa.text("revision IS NOT NULL"),
    )
