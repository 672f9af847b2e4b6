"""API keys and the counter that orders their changes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    revisions = op.create_table(
        "revisions",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(revisions, [{"name": "keys", "value": 0}])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("plan", sa.String()),
        sa.Column("models", sa.JSON()),
        sa.Column("endpoints", sa.JSON()),
        sa.Column("networks", sa.JSON()),
        sa.Column("limits", sa.JSON()),
        sa.Column("expires_at", sa.Double()),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
        sa.Column("previous_digest", sa.LargeBinary()),
        sa.Column("previous_until", sa.Double()),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_index("api_keys_digest", "api_keys", ["digest"], unique=True)
    op.create_index("api_keys_previous_digest", "api_keys", ["previous_digest"], unique=True)
    op.create_index("api_keys_revision", "api_keys", ["revision"], unique=True)
    op.create_index("api_keys_prefix", "api_keys", ["prefix"])
    op.create_index("api_keys_name", "api_keys", ["name"])
