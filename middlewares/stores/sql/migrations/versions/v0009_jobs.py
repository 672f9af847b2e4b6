"""Jobs: work at upstreams that outlives requests, with what is reserved for it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("media", sa.LargeBinary(), nullable=False),
        sa.Column("terms", sa.LargeBinary(), nullable=False),
        sa.Column("entry_id", sa.String(), nullable=False),
        sa.Column("reservation", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.String()),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("callback", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("storage", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("due", sa.Double()),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("upstream", sa.String(), nullable=False),
        sa.Column("upstream_id", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("cancelling", sa.Boolean(), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.BigInteger(), nullable=False),
        sa.Column("results", sa.LargeBinary(), nullable=False),
        sa.Column("error", sa.LargeBinary(), nullable=False),
        sa.Column("reported", sa.LargeBinary(), nullable=False),
        sa.Column("charged", sa.BigInteger()),
        sa.Column("notices", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("finished_at", sa.Double()),
        sa.Column("expires_at", sa.Double()),
    )
    op.create_index("jobs_key", "jobs", ["owner", "key"], unique=True)
    op.create_index("jobs_entry", "jobs", ["entry_id"], unique=True)
    op.create_index("jobs_owner", "jobs", ["owner", "kind", "created_at", "id"])
    op.create_index("jobs_upstream_id", "jobs", ["upstream_id"])
    op.create_index(
        "jobs_due",
        "jobs",
        ["due"],
        sqlite_where=sa.text("due IS NOT NULL"),
        postgresql_where=sa.text("due IS NOT NULL"),
    )
