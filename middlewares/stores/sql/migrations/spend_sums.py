"""Sums of the ledger's rows, made from the rows themselves: by a migration, and after one.

Processes of a version before these sums may go on for a while after the migration, as when they are
replaced one by one. Their rows are in the ledger and in no sum, so the sums of such days are made
again by the next `migrate`.
"""

import time

from sqlalchemy import Connection, text

LARGEST = 2**63 - 1
DAY = 86400
_COUNTED = ("input", "output", "cache_read", "cache_write", "reasoning", "cost")
_UNITS = ("images", "audio_ms", "characters", "video_ms", "jobs")
SUMS = ("requests", "errors", *_COUNTED, *_UNITS)
KEYS = {
    "spend_days": ("day", "team", "model", "endpoint", "tagged"),
    "spend_owners": ("owner", "day", "team", "model", "endpoint", "tagged"),
    "spend_keys": (*("account", "day", "team", "owner", "model", "endpoint", "purpose", "tagged"),),
    "spend_tags": ("tag", "day", "team", "model", "endpoint"),
    "spend_key_tags": (
        *("tag", "account", "day", "team", "owner", "model", "endpoint", "purpose"),
    ),
}
"""Columns of the primary key of each table."""
_EACH_TAG = {
    "sqlite": "json_each('[' || replace(json_quote(tags), ',', '\",\"') || ']') AS each_tag",
    "postgresql": "unnest(string_to_array(tags, ',')) AS each_tag(value)",
}
_RECENT_DAYS = 31
_DAY_OF = {
    "sqlite": f"CAST(at / {DAY} AS integer)",
    "postgresql": f"CAST(floor(at / {DAY}) AS bigint)",
}
_INCOMPLETE = (
    "SELECT day FROM (SELECT {day_of} AS day, 1 AS rows FROM ledger"
    " WHERE kind = 'use' AND at >= :at AND at < :until"
    " UNION ALL SELECT day, -requests FROM spend_days WHERE day >= :first AND day < :end) AS each"
    " GROUP BY day HAVING sum(rows) > 0 ORDER BY day"
)


def fill_day(connection: Connection, day: int, at: float, until: float) -> None:
    """Add the sums of the rows from `at` until `until`, of which the tables have none."""
    for name in KEYS:
        statement = text(_filling(connection.dialect.name, name))
        connection.execute(statement, {"day": day, "at": at, "until": until})


def complete_recent_days(connection: Connection) -> None:
    """Make the sums of recent days again that have rows which they do not count."""
    first = int(time.time() // DAY) - _RECENT_DAYS
    if not _incomplete(connection, first):
        return
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        connection.execute(text("LOCK TABLE ledger IN SHARE MODE"))
    for day in _incomplete(connection, first):
        for name in KEYS:
            connection.execute(text(f"DELETE FROM {name} WHERE day = :day"), {"day": day})  # noqa: S608
        fill_day(connection, day, float(day * DAY), float((day + 1) * DAY))


def _incomplete(connection: Connection, first: int) -> list[int]:
    """Days with more rows than their sums count, as of one moment."""
    end = first + _RECENT_DAYS + 2
    statement = text(_INCOMPLETE.format(day_of=_DAY_OF[connection.dialect.name]))
    values = {"first": first, "end": end, "at": float(first * DAY), "until": float(end * DAY)}
    return [*connection.execute(statement, values).scalars()]


def _filling(dialect: str, name: str) -> str:
    key = KEYS[name]
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
        f"INSERT INTO {name} ({', '.join((*key, *SUMS))})"  # noqa: S608
        f" SELECT {', '.join((*columns, *sums))} FROM ledger{each}"
        f" WHERE kind = 'use' AND at >= :at AND at < :until{tagged} GROUP BY {groups}"
    )


def _saturated(dialect: str, name: str) -> str:
    if dialect == "postgresql":
        return f"greatest(-{LARGEST}, least({LARGEST}, sum({name})))"
    # SQLite's sum fails beyond 64 bits: by halves, of which the product becomes a float there.
    halves = f"sum({name} >> 32) * 4294967296 + sum({name} & 4294967295)"
    return f"max(-{LARGEST}, min({LARGEST}, {halves}))"
