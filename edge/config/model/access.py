"""Tables of access: keys or none, and limits whatever the plan."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge.config.secrets import Secret
from edge.config.units import Duration, RateSetting, Size

from .names import Positive


class AuthConfig(Struct, frozen=True, kw_only=True):
    """Who may call."""

    mode: Annotated[
        Literal["keys", "none"],
        Meta(
            description='"keys": every call needs a key made with `penstock keys create`. "none": '
            "no key is needed, and limits count by client address.",
            extra={"reloadable": False},
        ),
    ] = "keys"
    default_plan: Annotated[
        str | None,
        Meta(
            description='Plan of keys that name none and, with mode "none", of every caller. '
            "Unless given these have no plan's limits.",
            extra={"renamed_from": "plan"},
        ),
    ] = None
    key_prefix: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,38}[_-]$",
                extra={
                    "expected": "2 to 40 ASCII letters, digits, - and _, beginning with a letter "
                    "and ending in - or _"
                },
            ),
        ]
        | None,
        Meta(
            description='What new keys begin with: "sk_example_". Test keys have "test" and its '
            "last character behind it. `sk-BRAND-live-` and `sk-BRAND-test-` unless given. Keys "
            "that exist stay as they are."
        ),
    ] = None
    known_keys: Annotated[
        Positive,
        Meta(
            description="Keys that a worker remembers, about 2 kB each. A request of another key "
            "asks the database first, which costs several times as much as the whole request: "
            "let it be more than the keys that are in use on one day.",
            extra={"reloadable": False},
        ),
    ] = 100_000
    admin_token: Annotated[
        Secret | None,
        Meta(
            description="Token of the management API, at least 16 characters: "
            '"env:PENSTOCK_ADMIN_TOKEN" or "file:/run/secrets/admin". Unless given the management '
            "API is off."
        ),
    ] = None


class LimitsConfig(Struct, frozen=True, kw_only=True):
    """Limits of a client address and of a worker process, whatever the plan."""

    address: Annotated[
        RateSetting,
        Meta(
            description='Request rate of one client address with `auth.mode = "none"`, where '
            "`auth.default_plan` sets none."
        ),
    ] = RateSetting(60, 60)
    address_burst: Annotated[
        int,
        Meta(
            ge=0,
            le=10**9,
            description="Requests beyond that rate which an address may save up.",
        ),
    ] = 10
    safety_net: Annotated[
        RateSetting,
        Meta(
            description="Request rate of one client address over all paths, counted before the "
            "key is checked. Health checks and scrapes from `server.ops_networks` do not count. "
            "Name a reverse proxy in `server.trusted_proxies`, or all its clients count as one "
            "address."
        ),
    ] = RateSetting(5000, 600)
    throttle_max_wait: Annotated[
        Duration,
        Meta(
            description='Longest wait of a throttled request (`on_excess = "throttle"`). One that '
            "would wait longer is answered 429 at once.",
            extra={"reloadable": False, "renamed_from": "throttle_wait"},
        ),
    ] = Duration(30)
    throttle_max_per_key: Annotated[
        Positive,
        Meta(
            description="Throttled requests of one key that may wait in one worker; a further one "
            "is answered 429.",
            extra={"reloadable": False, "renamed_from": "throttle_queue"},
        ),
    ] = 100
    throttle_max_total: Annotated[
        Positive,
        Meta(
            description="Throttled requests of all keys that may wait in one worker. At this "
            "number the key with the most waiting requests loses its last one, answered 429.",
            extra={"reloadable": False, "renamed_from": "throttle_total"},
        ),
    ] = 1000
    throttle_max_memory: Annotated[
        Size,
        Meta(
            description="Bytes of request bodies that throttled requests may hold in one worker.",
            extra={"reloadable": False, "renamed_from": "throttle_memory"},
        ),
    ] = Size(32 * 2**20)
    max_body_memory: Annotated[
        Size,
        Meta(
            description="Bytes of request bodies that one worker holds at once, from the first "
            "byte until the answer of the upstream begins; a further body is answered 503. A "
            "worker takes 100 MiB of memory, and up to five times this value while it translates.",
            extra={"reloadable": False, "renamed_from": "bodies"},
        ),
    ] = Size(48 * 2**20)
    max_body_memory_per_key: Annotated[
        Size,
        Meta(
            description="Share of `max_body_memory` for bodies of one key, or of one address "
            "where there are no keys; a further body is answered 429. Never less than "
            "`server.max_body`.",
            extra={"reloadable": False, "renamed_from": "bodies_each"},
        ),
    ] = Size(32 * 2**20)
