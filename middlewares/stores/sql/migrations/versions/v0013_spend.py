"""Sums of the ledger by key, team, owner, model, endpoint, tag and day, filled from its rows; and
indexes by which rows and keys are searched."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_LARGEST = 2**63 - 1
_DAY = 86400
_COUNTED = ("input", "output", "cache_read", "cache_write", "reasoning", "cost")
_UNITS = ("images", "audio_ms", "characters", "video_ms", "jobs")
_SUMS = ("requests", "errors", *_COUNTED, *_UNITS)
_KEYS = {
    "spend_days": ("day", "team", "model", "endpoint", "tagged"),
    "spend_owners": ("owner", "day", "team", "model", "endpoint", "tagged"),
    "spend_keys": (*("account", "day", "team", "owner", "model", "endpoint", "purpose", "tagged"),),
    "spend_tags": ("tag", "day", "team", "model", "endpoint"),
    "spend_key_tags": (
        *("tag", "account", "day", "team", "owner", "model", "endpoint", "purpose"),
    ),
}
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
_EACH_TAG = {
    "sqlite": "json_each('[' || replace(json_quote(tags), ',', '\",\"') || ']') AS each_tag",
    "postgresql": "unnest(string_to_array(tags, ',')) AS each_tag(value)",
}


def upgrade() -> None:
    for name, key in _KEYS.items():
        op.create_table(name, *map(_key, key), *map(_sum, _SUMS), sqlite_with_rowid=False)
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
    statements = [sa.text(_filling(connection.dialect.name, name)) for name in _KEYS]
    following = sa.text("SELECT min(at) FROM ledger WHERE at >= :at")
    at = connection.execute(sa.text("SELECT min(at) FROM ledger")).scalar_one()
    while at is not None:
        day = max(-_LARGEST, min(int(at // _DAY), _LARGEST))
        end = float((day + 1) * _DAY)
        values = {"day": day, "at": at, "until": end}
        for statement in statements:
            connection.execute(statement, values)
        if end <= at:  # no day is as long as what floats of this size are apart
            break
        at = connection.execute(following, {"at": end}).scalar_one()
    if connection.dialect.name == "postgresql":  # which would plan for empty tables until later
        for name in (*_KEYS, "ledger", "api_keys"):
            connection.execute(sa.text(f"ANALYZE {name}"))


def _filling(dialect: str, name: str) -> str:
    key = _KEYS[name]
    postgres = dialect == "postgresql"
    exact: dict[str, str] = {
        "day": "CAST(:day AS bigint)" if postgres else ":day",
        "tagged": "(tags <> '')",
        "tag": "each_tag.value",
    }
    columns = [exact.get(one, one) for one in key]
    errors = "sum(CASE WHEN ended IN ('failed', 'cut') THEN 1 ELSE 0 END)"
    sums = ["count(*)", errors, *[_saturated(dialect, one) for one in (*_COUNTED, *_UNITS)]]
    each = f", {_EACH_TAG[dialect]}" if "tag" in key else ""
    tagged = " AND tags <> '' AND each_tag.value <> ''" if "tag" in key else ""
    groups = ", ".join(exact.get(one, one) for one in key if one != "day")
    return (
        f"INSERT INTO {name} ({', '.join((*key, *_SUMS))})"  # noqa: S608
        f" SELECT {', '.join((*columns, *sums))} FROM ledger{each}"
        f" WHERE kind = 'use' AND at >= :at AND at < :until{tagged} GROUP BY {groups}"
    )


def _saturated(dialect: str, name: str) -> str:
    if dialect == "postgresql":
        return f"greatest(-{_LARGEST}, least({_LARGEST}, sum({name})))"
    # SQLite's sum fails beyond 64 bits: by halves, of which the product becomes a float there.
    halves = f"sum({name} >> 32) * 4294967296 + sum({name} & 4294967295)"
    return f"max(-{_LARGEST}, min({_LARGEST}, {halves}))"
