"""Kept responses with the items they made, and secrets that all processes share."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "responses",
        sa.Column("owner", sa.String(), primary_key=True),
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("previous", sa.String()),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("input", sa.LargeBinary(), nullable=False),
        sa.Column("output", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["owner", "previous"], ["responses.owner", "responses.id"]),
    )
    op.create_index("responses_previous", "responses", ["owner", "previous"])
    op.create_index("responses_expires_at", "responses", ["expires_at", "owner", "id"])
    op.create_table(
        "response_items",
        sa.Column("owner", sa.String(), primary_key=True),
        sa.Column("item", sa.String(), primary_key=True),
        sa.Column("response", sa.String(), primary_key=True),
        sa.ForeignKeyConstraint(
            ["owner", "response"], ["responses.owner", "responses.id"], ondelete="CASCADE"
        ),
    )
    op.create_index("response_items_response", "response_items", ["owner", "response"])
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.LargeBinary(), nullable=False),
    )
