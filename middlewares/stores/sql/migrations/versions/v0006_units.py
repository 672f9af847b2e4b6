"""What media are priced by, and the request that another one served."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    for name in ("characters", "video_ms"):
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        op.add_column("ledger", column)
    for name in ("parent", "purpose"):
        op.add_column("ledger", sa.Column(name, sa.String(), nullable=False, server_default=""))
