"""Teams, and what a row of the ledger says of its team, its tags and the name of its key."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "teams",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("plan", sa.String()),
        sa.Column("limits", sa.JSON()),
        sa.Column("metadata", sa.JSON()),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_index("teams_revision", "teams", ["revision"], unique=True)
    op.create_index("teams_name", "teams", ["name"])
    op.create_index("teams_created_at", "teams", ["created_at", "id"])
    op.add_column("api_keys", sa.Column("team", sa.String()))
    op.create_index("api_keys_team", "api_keys", ["team", "created_at", "id"])
    for name, default in (("team", ""), ("team_starts", "{}"), ("tags", ""), ("key_name", "")):
        column = sa.Column(name, sa.String(), nullable=False, server_default=default)
        op.add_column("ledger", column)
    paid = sa.Column("from_team_credits", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("ledger", paid)
