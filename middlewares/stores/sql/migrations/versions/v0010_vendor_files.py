"""Copies of files at vendors."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "vendor_files",
        sa.Column("account", sa.String(), primary_key=True),
        sa.Column("file_id", sa.String(), primary_key=True),
        sa.Column("vendor_id", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
    )
    op.create_index("vendor_files_file_id", "vendor_files", ["file_id"])
    op.create_index("vendor_files_expires_at", "vendor_files", ["expires_at"])
