"""An id of the database, by which another in its place is noticed."""

from secrets import token_hex

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    table = op.create_table("identity", sa.Column("id", sa.String(), primary_key=True))
    op.bulk_insert(table, [{"id": token_hex(8)}])
