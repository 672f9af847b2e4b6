"""The oldest program that works with the tables, so that an older one serves newer tables."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
oldest_program = "0015"


def upgrade() -> None:
    op.create_table("compatibility", sa.Column("oldest_program", sa.String(), primary_key=True))
