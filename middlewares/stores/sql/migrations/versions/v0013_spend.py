"""Sums of the ledger by key, team, owner, model, endpoint, tag and day, filled from its rows; and
indexes by which rows and keys are searched."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from middlewares.stores.sql.migrations.spend_sums import DAY, KEYS, LARGEST, SUMS, fill_day

revision = "0013"
down_revision = "0012"

_INDEXES = {
    "spend_keys_day": ("spend_keys", ["day", "account"]),
    "spend_key_tags_owner": ("spend_key_tags", ["tag", "owner", "day"]),
    "spend_key_tags_account": ("spend_key_tags", ["account", "tag", "day"]),
    "api_keys_owner": ("api_keys", ["owner", "created_at", "id"]),
    "api_keys_created_at": ("api_keys", ["created_at", "id"]),
}
_PARTIAL = {
    "spend_keys_owner": ("spend_keys", ["owner", "account", "day"], "owner <> ''"),
    "spend_keys_team": ("spend_keys", ["team", "account", "day"], "team <> ''"),
    "ledger_owner": ("ledger", ["owner", "at", "id"], "owner <> ''"),
    "ledger_team": ("ledger", ["team", "at", "id"], "team <> ''"),
    "ledger_credits": ("ledger", ["account", "at", "id"], "kind = 'credit'"),
    "ledger_failures": ("ledger", ["at", "id"], "(ended <> 'completed' OR status >= 400)"),
}


def upgrade() -> None:
    for name, key in KEYS.items():
        op.create_table(name, *map(_key, key), *map(_sum, SUMS), sqlite_with_rowid=False)
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)
    for name, (table, columns, condition) in _PARTIAL.items():
        where = sa.text(condition)
        op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
    # Characters in the order of their numbers, in which texts with one prefix are neighbours.
    order = 'COLLATE "C"' if op.get_bind().dialect.name == "postgresql" else ""
    for name in ("name", "owner", "prefix"):
        lower = sa.text(f"(lower({name})) {order}")
        op.create_index(f"api_keys_{name}_search", "api_keys", [lower])
    _fill(op.get_bind())


def _key(name: str) -> sa.Column[Any]:
    kinds: dict[str, Any] = {"day": sa.BigInteger(), "tagged": sa.Boolean()}
    return sa.Column(name, kinds.get(name, sa.String()), primary_key=True, autoincrement=False)


def _sum(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _fill(connection: sa.Connection) -> None:
    """Day by day, so that the database sorts the rows of one day at a time."""
    following = sa.text("SELECT min(at) FROM ledger WHERE at >= :at")
    at = connection.execute(sa.text("SELECT min(at) FROM ledger")).scalar_one()
    while at is not None:
        day = max(-LARGEST, min(int(at // DAY), LARGEST))
        end = float((day + 1) * DAY)
        fill_day(connection, day, at, end)
        if end <= at:  # no day is as long as what floats of this size are apart
            break
        at = connection.execute(following, {"at": end}).scalar_one()
    if connection.dialect.name == "postgresql":  # which would plan for empty tables until later
        for name in (*KEYS, "ledger", "api_keys"):
            connection.execute(sa.text(f"ANALYZE {name}"))
