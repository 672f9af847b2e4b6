"""The tables of the SQL store, as the newest migration leaves them."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
)

metadata = MetaData()

revisions = Table(
    "revisions",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Counters that order writes. A writer increments its counter first and so holds the row until it
commits: revisions become visible in their order, which a sequence does not promise."""

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
    Column("expires_at", Double),
    Column("disabled", Boolean, nullable=False),
    Column("revoked_at", Double),
    Column("previous_digest", LargeBinary),
    Column("previous_until", Double),
    Column("revision", BigInteger, nullable=False),
    Index("api_keys_digest", "digest", unique=True),
    Index("api_keys_previous_digest", "previous_digest", unique=True),
    Index("api_keys_revision", "revision", unique=True),
    Index("api_keys_prefix", "prefix"),
    Index("api_keys_name", "name"),
)
"""Columns are the fields of `keys.Key`."""

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
