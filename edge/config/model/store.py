"""The table of stores."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge.config.secrets import HttpUrl, Location, Secret
from edge.config.units import Duration, Size

from .names import Positive


class StoreConfig(Struct, frozen=True, kw_only=True):
    """Where state is stored. Relative paths start at the folder of the configuration file."""

    sql: Annotated[
        Location,
        Meta(
            description='Database of keys and ledger: "sqlite:///var/penstock.db" (a file) or '
            '"postgresql://user:password@host/database", which several hosts can share. '
            '"env:NAME" reads it from the environment.',
            extra={"reloadable": False},
        ),
    ] = Location("sqlite:///var/penstock.db")
    counters: Annotated[
        Location,
        Meta(
            description='Where limits and reservations are counted: "memory" for one worker '
            'process, "redis://host:6379/0" (or rediss://) for several workers or hosts. '
            '"env:NAME" reads it from the environment.',
            extra={"reloadable": False},
        ),
    ] = Location("memory")
    counters_timeout: Annotated[
        Duration,
        Meta(
            description="Longest time for an answer of Redis. After it Redis counts as down: it "
            "is tried again every second, and requests do not wait for it. Bounds the lookup of "
            "an `Idempotency-Key` too.",
            extra={"reloadable": False},
        ),
    ] = Duration(0.2)
    rates_when_redis_is_down: Annotated[
        Literal["local", "allow", "refuse"],
        Meta(
            description='Rates and concurrency while Redis is down: "local" counts in each worker '
            'by itself, "allow" does not limit, "refuse" answers 503.',
            extra={"reloadable": False, "renamed_from": "rates_without_counters"},
        ),
    ] = "local"
    budgets_when_redis_is_down: Annotated[
        Literal["refuse", "local"],
        Meta(
            description='Keys with a budget while Redis is down: "refuse" answers 503; "local" '
            "counts in each worker from the ledger on, so that each worker may spend once what is "
            "left.",
            extra={"reloadable": False, "renamed_from": "budgets_without_counters"},
        ),
    ] = "refuse"
    journal: Annotated[
        str,
        Meta(
            min_length=1,
            description="Folder in which ledger rows survive the death of a process until they "
            "are in `sql`. It must be on a disk of this machine that no other machine writes to.",
            extra={"reloadable": False},
        ),
    ] = "var/journal"
    objects: Annotated[
        Location,
        Meta(
            description='Where the bytes of files are: "file:var/objects" (a folder of this '
            'machine, which all its workers share), "s3://bucket/prefix", "gs://bucket/prefix" or '
            '"az://container/prefix", which several hosts can share. The environment has the '
            "credentials of the last two, such as `AZURE_STORAGE_ACCOUNT_NAME`.",
            extra={"reloadable": False},
        ),
    ] = Location("file:var/objects")
    objects_endpoint: Annotated[
        HttpUrl | None,
        Meta(
            description="URL of an S3 service other than Amazon's. Unless given, the environment "
            "(`AWS_ENDPOINT`) and then Amazon's of `objects_region`.",
            extra={"reloadable": False},
        ),
    ] = None
    objects_region: Annotated[
        str | None,
        Meta(
            description="Region of an S3 bucket. Unless given, the environment (`AWS_REGION`).",
            extra={"reloadable": False},
        ),
    ] = None
    objects_access_key: Annotated[
        Secret | None,
        Meta(
            description="Access key of an S3 bucket, better as `env:NAME`. Unless given, the "
            "environment (`AWS_ACCESS_KEY_ID`) or the role of the machine.",
            extra={"reloadable": False},
        ),
    ] = None
    objects_secret_key: Annotated[
        Secret | None,
        Meta(
            description="Secret of `objects_access_key`.",
            extra={"reloadable": False},
        ),
    ] = None
    responses_ttl: Annotated[
        Duration | None,
        Meta(
            description="How long answers of /v1/responses are stored in `sql` to be continued "
            "and read again, unless the caller says `store: false`. Unless given, 30 days, or not "
            'at all with `auth.mode = "none"`. 0 stores none.',
            extra={"reloadable": False, "renamed_from": "responses"},
        ),
    ] = None
    responses_max_size: Annotated[
        Size,
        Meta(
            description="Bytes of stored answers of one key, or of one address where there are no "
            "keys. Beyond it the conversations continued longest ago are deleted.",
            extra={"reloadable": False, "renamed_from": "responses_size"},
        ),
    ] = Size(1 << 30)
    responses_max_count: Annotated[
        Positive,
        Meta(
            description="Stored answers of one key, or of one address. Beyond it the "
            "conversations continued longest ago are deleted.",
            extra={"reloadable": False, "renamed_from": "responses_count"},
        ),
    ] = 100_000
