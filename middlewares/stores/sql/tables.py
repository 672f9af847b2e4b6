"""The tables of the SQL store, as the newest migration leaves them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

metadata = MetaData()


def _partial(name: str, *columns: str, where: str) -> Index:
    """An index of the rows for which `where` holds, in PostgreSQL too. `postgresql_where` would
    load what SQLAlchemy has for PostgreSQL into processes that use SQLite."""
    return Index(name, *columns, sqlite_where=text(where))


revisions = Table(
    "revisions",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Counters that order writes. A writer increments its counter first and so holds the row until it
commits: revisions become visible in their order, which a sequence does not promise."""

identity = Table("identity", metadata, Column("id", String, primary_key=True))
"""One row: a random id of this database, which its copies have too."""

compatibility = Table("compatibility", metadata, Column("oldest_program", String, primary_key=True))
"""One row: see `tables_version`."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("prefix", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("name", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("plan", String),
    Column("models", JSON(none_as_null=True)),
    Column("endpoints", JSON(none_as_null=True)),
    Column("networks", JSON(none_as_null=True)),
    Column("limits", JSON(none_as_null=True)),
    Column("metadata", JSON(none_as_null=True)),
    Column("expires_at", Double),
    Column("disabled", Boolean, nullable=False),
    Column("revoked_at", Double),
    Column("previous_digest", LargeBinary),
    Column("previous_until", Double),
    Column("revision", BigInteger, nullable=False),
    Column("team", String),
    Index("api_keys_digest", "digest", unique=True),
    Index("api_keys_previous_digest", "previous_digest", unique=True),
    Index("api_keys_revision", "revision", unique=True),
    Index("api_keys_prefix", "prefix"),
    Index("api_keys_name", "name"),
    Index("api_keys_team", "team", "created_at", "id"),
    Index("api_keys_owner", "owner", "created_at", "id"),
    Index("api_keys_created_at", "created_at", "id"),
)
"""Columns are the fields of `keys.Key`. Migration 0013 makes three more indexes, of names, owners
and display prefixes in lower case, which are expressions and differ by dialect."""

teams = Table(
    "teams",
    metadata,
    Column("id", String, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("name", String, nullable=False),
    Column("plan", String),
    Column("limits", JSON(none_as_null=True)),
    Column("metadata", JSON(none_as_null=True)),
    Column("disabled", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("teams_revision", "revision", unique=True),
    Index("teams_name", "name"),
    Index("teams_created_at", "created_at", "id"),
)
"""Columns are the fields of `teams.TeamRecord`. `revision` counts with that of the keys."""

responses = Table(
    "responses",
    metadata,
    Column("owner", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("previous", String),
    Column("model", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("output", LargeBinary, nullable=False),
    Column("answer", LargeBinary),
    ForeignKeyConstraint(["owner", "previous"], ["responses.owner", "responses.id"]),
    Index("responses_previous", "owner", "previous"),
    Index("responses_expires_at", "expires_at", "owner", "id"),
)
"""Columns are fields of `responses.Kept`. Without `answer` it is a turn that later ones need."""

response_totals = Table(
    "response_totals",
    metadata,
    Column("owner", String, primary_key=True),
    Column("responses", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
)
"""Sums over `responses`, written by triggers that migration 0016 makes."""

response_items = Table(
    "response_items",
    metadata,
    Column("owner", String, primary_key=True),
    Column("item", String, primary_key=True),
    Column("response", String, primary_key=True),
    ForeignKeyConstraint(
        ["owner", "response"], ["responses.owner", "responses.id"], ondelete="CASCADE"
    ),
    Index("response_items_response", "owner", "response"),
)
"""Which response made an item."""

secrets = Table(
    "secrets",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
"""Random bytes that all processes share."""

files = Table(
    "files",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("state", String, nullable=False),
    Column("key", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("mime", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("reserved", BigInteger, nullable=False),
    Column("lease_until", Double, nullable=False),
    Index("files_owner", "owner", "created_at", "id"),
    Index("files_expires_at", "expires_at"),
    _partial("files_lease", "lease_until", where="state <> 'ready'"),
)
"""Columns are fields of `files.FileRecord`; `state` is pending, ready or deleting."""

storage = Table(
    "storage",
    metadata,
    Column("owner", String, primary_key=True),
    Column("used", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
)
"""Sums over `files` and `uploads`, written in the transactions of their rows."""

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("until", Double, nullable=False),
)
"""Work that one process does at a time."""

uploads = Table(
    "uploads",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("state", String, nullable=False),
    Column("filename", String, nullable=False),
    Column("mime", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("keep", Double),
    Column("file", String),
    Column("lease_until", Double, nullable=False),
    Index("uploads_expires_at", "expires_at"),
)
"""Columns are fields of `uploads.UploadRecord`."""

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("id", String, primary_key=True),
    Column("upload", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("state", String, nullable=False),
    Column("key", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("lease_until", Double, nullable=False),
    Index("upload_parts_upload", "upload"),
    _partial("upload_parts_lease", "lease_until", where="state <> 'ready'"),
)
"""Parts of uploads, each an object of its own."""

vendor_files = Table(
    "vendor_files",
    metadata,
    Column("account", String, primary_key=True),
    Column("file_id", String, primary_key=True),
    Column("vendor_id", String, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("vendor_files_file_id", "file_id"),
    Index("vendor_files_expires_at", "expires_at"),
)
"""Columns are fields of `vendor_files.VendorFile`."""

FAILURES = "(ended <> 'completed' OR status >= 400)"


ledger = Table(
    "ledger",
    metadata,
    Column("id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("owner", String, nullable=False),
    Column("plan", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("model", String, nullable=False),
    Column("asked", String, nullable=False),
    Column("status", BigInteger, nullable=False),
    Column("ended", String, nullable=False),
    Column("on_hangup", String, nullable=False),
    Column("input", BigInteger, nullable=False),
    Column("output", BigInteger, nullable=False),
    Column("cache_read", BigInteger, nullable=False),
    Column("cache_write", BigInteger, nullable=False),
    Column("reasoning", BigInteger, nullable=False),
    Column("cost", BigInteger, nullable=False),
    Column("from_credits", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("first_content_ms", Double),
    Column("upstream_ms", Double, nullable=False),
    Column("duration_ms", Double, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("measured", Boolean, nullable=False),
    Column("starts", String, nullable=False),
    Column("attempts", String, nullable=False),
    Column("fallback_from", String, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("audio_ms", BigInteger, nullable=False),
    Column("jobs", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("granted", BigInteger, nullable=False),
    Column("note", String, nullable=False),
    Column("characters", BigInteger, nullable=False, server_default="0"),
    Column("video_ms", BigInteger, nullable=False, server_default="0"),
    Column("parent", String, nullable=False, server_default=""),
    Column("purpose", String, nullable=False, server_default=""),
    Column("team", String, nullable=False, server_default=""),
    Column("team_starts", String, nullable=False, server_default="{}"),
    Column("from_team_credits", BigInteger, nullable=False, server_default="0"),
    Column("tags", String, nullable=False, server_default=""),
    Column("key_name", String, nullable=False, server_default=""),
    Column("revision", BigInteger),
    Index("ledger_account", "account", "at", "id"),
    _partial("ledger_owner", "owner", "at", "id", where="owner <> ''"),
    _partial("ledger_team", "team", "at", "id", where="team <> ''"),
    _partial("ledger_credits", "account", "at", "id", where="kind = 'credit'"),
    _partial("ledger_failures", "at", "id", where=FAILURES),
    Index("ledger_at", "at", "id"),
    _partial("ledger_parent", "parent", where="parent <> ''"),
    _partial("ledger_revision", "revision", where="revision IS NOT NULL"),
    _partial("ledger_grants", "account", "revision", where="revision IS NOT NULL"),
    sqlite_with_rowid=False,
)
"""Columns are the fields of `ledger.Entry` in their order, `starts`, `team_starts` and
`attempts` as JSON text.
`revision` is of credits only: what `revisions` had for "credits" when the row was written."""

ledger_totals = Table(
    "ledger_totals",
    metadata,
    Column("account", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("start", Double, primary_key=True),
    Column("at", Double, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Index("ledger_totals_at", "account", "name", "at", "start"),
    sqlite_with_rowid=False,
)
"""Sums over the ledger, written in the transaction of the rows they count; see `totals.Total`."""

alerts = Table(
    "alerts",
    metadata,
    Column("account", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("start", Double, primary_key=True),
    Column("share", BigInteger, primary_key=True),
    Column("id", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("ends_at", Double),
    Column("due", Double),
    Column("tries", BigInteger, nullable=False),
    Index("alerts_id", "id", unique=True),
    Index("alerts_ends_at", "ends_at"),
    _partial("alerts_due", "due", where="due IS NOT NULL"),
)
"""Columns are fields of `alerts.Alert`."""


def _sums(name: str, *key: Column[Any], indexes: Sequence[Index] = ()) -> Table:
    """A table of sums over rows of the ledger, by the columns of its primary key."""
    names = ("requests", "errors", "input", "output", "cache_read", "cache_write", "reasoning")
    units = ("images", "audio_ms", "characters", "video_ms", "jobs")
    sums = [Column(each, BigInteger, nullable=False) for each in (*names, "cost", *units)]
    return Table(name, metadata, *key, *sums, *indexes, sqlite_with_rowid=False)


def _by(*names: str) -> list[Column[Any]]:
    kinds: dict[str, Any] = {"day": BigInteger, "tagged": Boolean}
    return [
        Column(name, kinds.get(name, String), primary_key=True, autoincrement=False)
        for name in names
    ]


spend_days = _sums("spend_days", *_by("day", "team", "model", "endpoint", "tagged"))
spend_owners = _sums("spend_owners", *_by("owner", "day", "team", "model", "endpoint", "tagged"))
spend_keys = _sums(
    "spend_keys",
    *_by("account", "day", "team", "owner", "model", "endpoint", "purpose", "tagged"),
    indexes=(
        _partial("spend_keys_owner", "owner", "account", "day", where="owner <> ''"),
        _partial("spend_keys_team", "team", "account", "day", where="team <> ''"),
        Index("spend_keys_day", "day", "account"),
    ),
)
spend_tags = _sums("spend_tags", *_by("tag", "day", "team", "model", "endpoint"))
spend_key_tags = _sums(
    "spend_key_tags",
    *_by("tag", "account", "day", "team", "owner", "model", "endpoint", "purpose"),
    indexes=(
        Index("spend_key_tags_owner", "tag", "owner", "day"),
        Index("spend_key_tags_account", "account", "tag", "day"),
    ),
)
"""Roll-ups of the ledger, written in the transaction of the rows they count; see
`ledger.rollups`. `day` counts UTC days since 1970."""

descriptions = Table(
    "descriptions",
    metadata,
    Column("owner", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("text", String),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double, nullable=False),
    Column("token", String, nullable=False),
    Column("lease_until", Double, nullable=False),
    Index("descriptions_used_at", "owner", "used_at"),
    Index("descriptions_created_at", "created_at"),
)
"""Texts that describe media. Without `text` it is being made, by the holder of `token`."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("model", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("media", LargeBinary, nullable=False),
    Column("terms", LargeBinary, nullable=False),
    Column("entry_id", String, nullable=False),
    Column("reservation", LargeBinary, nullable=False),
    Column("key", String),
    Column("fingerprint", String, nullable=False),
    Column("callback", String, nullable=False),
    Column("source", String, nullable=False),
    Column("storage", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("holder", String, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("due", Double),
    Column("since", Double, nullable=False),
    Column("tries", BigInteger, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("upstream", String, nullable=False),
    Column("upstream_id", String, nullable=False),
    Column("token", String, nullable=False),
    Column("cancelling", Boolean, nullable=False),
    Column("asked", Boolean, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("progress", BigInteger, nullable=False),
    Column("results", LargeBinary, nullable=False),
    Column("error", LargeBinary, nullable=False),
    Column("reported", LargeBinary, nullable=False),
    Column("charged", BigInteger),
    Column("notices", BigInteger, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("expires_at", Double),
    Index("jobs_key", "owner", "key", unique=True),
    Index("jobs_entry", "entry_id", unique=True),
    Index("jobs_owner", "owner", "kind", "created_at", "id"),
    Index("jobs_upstream_id", "upstream_id"),
    _partial("jobs_due", "due", where="due IS NOT NULL"),
)
"""Columns are the fields of `jobs.Job`; `entry_id` is of the ledger row that a job ends with, and
of the hold that it begins with."""

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("how", String, nullable=False),
    Column("role", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("bound_to", LargeBinary, nullable=False),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    Column("address", String, nullable=False),
    Column("agent", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("sessions_subject", "how", "subject", "seen_at"),
    Index("sessions_expires_at", "expires_at"),
    Index("sessions_seen_at", "role", "seen_at"),
)
"""Columns are the fields of `sessions.Session`."""

audit = Table(
    "audit",
    metadata,
    Column(
        "id", BigInteger().with_variant(Integer, "sqlite"), Identity(always=True), primary_key=True
    ),
    Column("at", Double, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", String, nullable=False),
    sqlite_autoincrement=True,
)
"""What was done through the admin API. `detail` is JSON text."""
