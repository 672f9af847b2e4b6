"""Metadata of keys: pairs of text for the operator's own use."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("metadata", sa.JSON(none_as_null=True)))
