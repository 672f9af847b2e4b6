"""The tables of a configuration file: one struct for each table, one field for each setting.

The description of a field is the user manual: the reference page, `penstock schema` and editors
show it. What else a field says in `extra` is listed in `edge.config.fields`. Loading is in
`edge.config.load`, checks of several fields are in `edge.config.validate`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from edge.endpoints import TAILS

from .secrets import HttpUrl, Location, Secret
from .units import Credits, Duration, Network, RateSetting, Size, Span, network

UpstreamDialect = Literal["openai", "responses", "anthropic", "claude-cli", "simulator"]
Modality = Literal["text", "image", "audio", "video", "file", "embedding"]
if TYPE_CHECKING:
    EndpointName = str
else:
    EndpointName = Literal[tuple(TAILS.values())]

Positive = Annotated[int, Meta(ge=1, le=10**9)]
_WORD = r"!#-)+-\[\]-~"  # visible ASCII less the quote, the backslash and the star
Slug = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        extra={"expected": "lower-case letters, digits, - and _, at most 63"},
    ),
]
ModelName = Annotated[
    str,
    Meta(
        pattern=f"^[{_WORD}]+$",
        max_length=200,
        extra={"expected": "a name without spaces, quotes or *, at most 200 characters"},
    ),
]
ModelPattern = Annotated[
    str,
    Meta(
        pattern=f"^[{_WORD}]*[{_WORD}*]$",
        max_length=200,
        extra={"expected": "a name without spaces or quotes, with * only at its end"},
    ),
]
TargetName = Annotated[
    str,
    Meta(
        pattern=f"^[a-z0-9_-]+/[{_WORD}]*[{_WORD}*]$",
        max_length=400,
        extra={"expected": '"upstream/its-model-name", with * only at the end'},
    ),
]
RoutePath = Annotated[
    str,
    Meta(
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        extra={"expected": 'an exact path such as "/openai/v1/chat/completions"'},
    ),
]

PRIVATE_NETWORKS: tuple[Network, ...] = tuple(
    network(text)
    for text in (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)


class ServerConfig(Struct, frozen=True, kw_only=True):
    """How Penstock listens and stops."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address to listen on. The default is reachable from this machine only; "
            '"0.0.0.0" or "::" opens it to the network.',
            extra={"reloadable": False},
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="TCP port to listen on. 0 takes a free one, which the line `ready "
            "http://HOST:PORT` names.",
            extra={"reloadable": False},
        ),
    ] = 8080
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="Worker processes; each uses about one CPU core. More than one needs "
            '`store.counters = "redis://..."`, so that limits are counted in one place.',
            extra={"reloadable": False},
        ),
    ] = 1
    max_body: Annotated[
        Size,
        Meta(
            description="Bytes of the largest request body; a larger one is answered 413. Raise "
            "it for long conversations with many images."
        ),
    ] = Size(32 * 2**20)
    drain: Annotated[
        Duration,
        Meta(
            description="Longest time that running requests may go on after SIGTERM. Give your "
            "process manager a longer grace period than this and `drain_delay` together.",
            extra={"reloadable": False},
        ),
    ] = Duration(600)
    drain_delay: Annotated[
        Duration,
        Meta(
            description="Time after SIGTERM in which /readyz answers 503 while new requests are "
            "still accepted, so that load balancers stop sending first. Set it to the interval of "
            "their checks. SIGINT skips it.",
            extra={"reloadable": False, "renamed_from": "drain_notice"},
        ),
    ] = Duration(1)
    http2: Annotated[
        bool,
        Meta(
            description="Accept HTTP/2 from clients. Off unless given: it makes each open stream "
            "about 13 KiB larger, and a reverse proxy in front needs only HTTP/1.1.",
            extra={"reloadable": False},
        ),
    ] = False
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Meta(
            description='Networks of the reverse proxies in front: "10.0.0.0/8". '
            "`x-forwarded-for`, read from the right, and `x-forwarded-proto` are believed from "
            "these only. Unless given, all clients of a proxy have the address of the proxy."
        ),
    ] = ()
    public_url: Annotated[
        HttpUrl | None,
        Meta(
            description="URL at which clients reach this gateway, without /v1: "
            '"https://llm.example.com". Unless given it is made from the scheme and `Host` of '
            "each request; set it where a proxy changes them."
        ),
    ] = None
    ops_networks: Annotated[
        tuple[Network, ...],
        Meta(
            description="Networks that may read /metrics, /status, /livez and /readyz; others get "
            "404. Loopback, private, shared and link-local ranges unless given."
        ),
    ] = PRIVATE_NETWORKS
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(
            description='Browser origins that may call the API: "https://app.example.com", or "*" '
            "for all. None unless given."
        ),
    ] = ()
    first_token_hold: Annotated[
        Duration,
        Meta(
            description="Longest time that the status of a stream is held back while the model "
            "has sent no content. A failure within this time has its own status; later the stream "
            "has begun with 200, and a failure is an event in it.",
            extra={"renamed_from": "header_hold"},
        ),
    ] = Duration(10)
    ping_interval: Annotated[
        Duration,
        Meta(
            description="Silence after which a stream gets a ping, so that proxies keep it open. "
            "0 sends none.",
            extra={"renamed_from": "keep_alive"},
        ),
    ] = Duration(12)
    disconnect_drain: Annotated[
        Duration,
        Meta(
            description="Longest time that an upstream is read on after its client has "
            'disconnected, where `on_hangup = "drain"`.',
            extra={"renamed_from": "hear_out"},
        ),
    ] = Duration(300)
    upload_idle_timeout: Annotated[
        Duration,
        Meta(
            description="Longest silence while a client uploads a request body; answered 408. "
            "After this time a body must also have come at 8 KiB/s on average.",
            extra={"renamed_from": "body_timeout"},
        ),
    ] = Duration(30)
    upload_timeout: Annotated[
        Duration,
        Meta(description="Longest time for the upload of one request body; answered 408."),
    ] = Duration(300)


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
            description='Files and media: "file:var/objects" (a folder) or "s3://bucket/prefix".',
            extra={"reloadable": False},
        ),
    ] = Location("file:var/objects")
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
            description="Request rate of one client address over all paths that need a key, "
            "counted before the key is checked. Name a reverse proxy in `server.trusted_proxies`, "
            "or all its clients count as one address."
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


class WindowConfig(Struct, frozen=True, kw_only=True):
    """A spend cap over a length of time."""

    length: Annotated[
        Span,
        Meta(
            description='Length of the window, from first use on: "5h", "1d", "7d" or "calendar '
            'month".'
        ),
    ]
    credits: Annotated[Credits, Meta(description='Spend cap in credits, as text: "5.00".')]
    aligned: Annotated[
        bool,
        Meta(description="Start the window at calendar boundaries (UTC) instead of at first use."),
    ] = False


class AllowanceConfig(Struct, frozen=True, kw_only=True):
    """Limits of one key, from its plan or its own."""

    requests: Annotated[
        RateSetting | None,
        Meta(description='Request rate of one key: "120/min". Not limited unless given.'),
    ] = None
    burst: Annotated[
        int,
        Meta(ge=0, le=10**9, description="Requests beyond that rate which a key may save up."),
    ] = 0
    tokens: Annotated[
        RateSetting | None,
        Meta(
            description='Rate of input and output tokens of one key: "200k/min". Not limited '
            "unless given."
        ),
    ] = None
    concurrency: Annotated[
        Positive | None,
        Meta(description="Requests of one key in flight at once. Not limited unless given."),
    ] = None
    on_excess: Annotated[
        Literal["reject", "throttle"],
        Meta(
            description='Requests over a rate: "reject" answers 429, "throttle" lets them wait '
            "for their turn."
        ),
    ] = "reject"
    windows: Annotated[
        tuple[WindowConfig, ...],
        Meta(description="Spend caps; a request must fit into all of them."),
    ] = ()
    overflow: Annotated[
        Literal["none", "credits"],
        Meta(
            description='What pays where a window is used up or there is none: "credits" takes '
            'prepaid credits, "none" refuses. "none" without windows does not limit spending.'
        ),
    ] = "none"
    on_hangup: Annotated[
        Literal["cancel", "drain"],
        Meta(
            description='When a client disconnects: "cancel" stops the upstream and charges what '
            'it has produced; "drain" reads on, up to `server.disconnect_drain`, and charges the '
            "upstream's own count."
        ),
    ] = "cancel"
    cut_off: Annotated[
        bool,
        Meta(
            description="End a running stream with an error event when its money is used up. "
            "Unless given the stream goes on to its own end."
        ),
    ] = False


class PlanConfig(AllowanceConfig, frozen=True, kw_only=True):
    """Limits that keys share by naming the plan."""

    id: Annotated[
        Slug,
        Meta(description="Name of the plan, by which keys and `auth.default_plan` refer to it."),
    ]
    on_budget: Annotated[
        str | None,
        Meta(
            description="Model that serves instead of a refusal by a spend cap or for missing "
            "credits. It must cost nothing, or the request is refused all the same. Only for "
            "answers (not embeddings or counting), and only if the key may use it."
        ),
    ] = None
    on_rate_limit: Annotated[
        str | None,
        Meta(
            description="Model that serves instead of a refusal by a rate. Its requests count "
            "against `concurrency`, not against the rates. Only for answers (not embeddings or "
            "counting), and only if the key may use it."
        ),
    ] = None


class UpstreamConfig(Struct, frozen=True, kw_only=True):
    """A provider of models."""

    name: Annotated[Slug, Meta(description="Name of the upstream, by which `targets` refer to it.")]
    dialect: Annotated[
        UpstreamDialect,
        Meta(
            description='What it speaks: "openai" (Chat Completions), "responses" (OpenAI '
            'Responses) or "anthropic" (Messages) over HTTP; "claude-cli", the Claude '
            'command-line client on this host; "simulator", the built-in simulator.'
        ),
    ]
    base_url: Annotated[
        HttpUrl | None,
        Meta(
            description="URL of its API, up to and including the version: "
            '"https://api.openai.com/v1". Required by the HTTP dialects.'
        ),
    ] = None
    api_key: Annotated[
        Secret | None,
        Meta(
            description='Key of the provider: "env:UP_KEY", "file:PATH" or the key itself. No key '
            "is sent unless given."
        ),
    ] = None
    headers: Annotated[
        dict[str, Secret],
        Meta(description='Additional request headers; values may be "env:NAME" or "file:PATH".'),
    ] = {}
    auth_header: Annotated[
        Literal["authorization", "x-api-key", "api-key"] | None,
        Meta(
            description='Header that carries `api_key`: "authorization" (as a Bearer token), '
            '"x-api-key" or "api-key" (Azure). Unless given, x-api-key for dialect "anthropic" '
            "and authorization for the others."
        ),
    ] = None
    query: Annotated[
        dict[str, Secret],
        Meta(
            description='Query parameters of every request: `{ api-version = "2024-10-21" }`; '
            'values may be "env:NAME" or "file:PATH".'
        ),
    ] = {}
    extra_body: Annotated[
        dict[str, Any],
        Meta(
            description="Members put into every JSON body sent there. They replace members of the "
            "same name, the caller's included."
        ),
    ] = {}
    drop_body: Annotated[
        tuple[str, ...],
        Meta(
            description="Members removed from every body sent there, such as those that the "
            "provider refuses."
        ),
    ] = ()
    stream_usage: Annotated[
        bool,
        Meta(
            description="Ask streams of Chat for their usage (`stream_options`). A provider that "
            "refuses the member is detected at the first request; false spares that request. "
            "Tokens that a provider does not report are estimated."
        ),
    ] = True
    disclose: Annotated[
        bool,
        Meta(
            description="Let callers see who answers: the names that the provider gives, members "
            "of its own, and its error messages without keys, addresses and account ids. Off "
            "unless given."
        ),
    ] = False
    connect_timeout: Annotated[
        Duration, Meta(description="Longest time to connect: name lookup, TCP and TLS.")
    ] = Duration(5)
    first_token_timeout: Annotated[
        Duration, Meta(description="Longest time to the first content of an answer.")
    ] = Duration(120)
    idle_timeout: Annotated[
        Duration, Meta(description="Longest silence between two events of a stream.")
    ] = Duration(120)
    total_timeout: Annotated[
        Duration,
        Meta(description="Longest time for one request, from its start to the end of its answer."),
    ] = Duration(1800)
    transport: Annotated[
        Literal["native", "httpx"],
        Meta(
            description='HTTP client: "native" is the fast HTTP/1.1 client; "httpx" adds HTTP/2, '
            "proxies and client certificates."
        ),
    ] = "native"
    ca: Annotated[
        Path | None,
        Meta(description="PEM file of certificate authorities to trust instead of the system's."),
    ] = None
    client_cert: Annotated[
        Path | None,
        Meta(description='PEM file with client certificate and key. Needs `transport = "httpx"`.'),
    ] = None
    proxy: Annotated[
        Secret | None,
        Meta(
            description='URL of a proxy: "http://proxy.example.com:3128". Needs `transport = '
            '"httpx"`.'
        ),
    ] = None
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most connections of one worker process. With HTTP/1.1 each request in "
            "flight takes one.",
            extra={"renamed_from": "connections"},
        ),
    ] = 1000
    command: Annotated[
        str,
        Meta(
            pattern=r"^[^-\x00-\x1f][^\x00-\x1f]*$",
            description='Dialect "claude-cli": the client program, as a name in PATH or as a path.',
            extra={"expected": "the name or the path of a program, without arguments"},
        ),
    ] = "claude"
    environment: Annotated[
        dict[str, Secret],
        Meta(
            description='Dialect "claude-cli": variables for the client, such as '
            'CLAUDE_CONFIG_DIR or CLAUDE_CODE_OAUTH_TOKEN; values may be "env:NAME" or '
            '"file:PATH". It also gets PATH, HOME, the language, proxies and certificate '
            "authorities of the gateway, and nothing else."
        ),
    ] = {}
    max_processes: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description='Dialect "claude-cli": most clients at once in one worker process. Each '
            "answers one request and takes about 200 MB.",
            extra={"renamed_from": "processes"},
        ),
    ] = 5
    max_waiting: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description='Dialect "claude-cli": most requests that wait for a client in one worker '
            "process; a further one is answered 503, and so is one that has waited for half of "
            "`first_token_timeout`.",
            extra={"renamed_from": "waiting"},
        ),
    ] = 100
    prewarm: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description='Dialect "claude-cli": clients started ahead of the next request, within '
            "`max_processes`, once there has been a request. 0 starts each one when its request "
            "comes.",
            extra={"renamed_from": "spare"},
        ),
    ] = 1


class PriceConfig(Struct, frozen=True, kw_only=True):
    """Prices in credits per million tokens, as text, unless the field says otherwise."""

    input: Annotated[Credits, Meta(description="Input tokens that no prompt cache holds.")] = (
        Credits(0)
    )
    output: Annotated[Credits, Meta(description="Output tokens.")] = Credits(0)
    cache_read: Annotated[
        Credits | None,
        Meta(description="Input tokens read from a prompt cache; the price of input unless given."),
    ] = None
    cache_write: Annotated[
        Credits | None,
        Meta(
            description="Input tokens written to a prompt cache; the price of input unless given."
        ),
    ] = None
    cache_write_1h: Annotated[
        Credits | None,
        Meta(
            description="Input tokens written to a prompt cache for one hour; twice the price of "
            "input unless given."
        ),
    ] = None
    image: Annotated[Credits | None, Meta(description="Per image produced.")] = None
    audio_minute: Annotated[Credits | None, Meta(description="Per minute of audio.")] = None
    job: Annotated[Credits | None, Meta(description="Per video or music job.")] = None
    hosted_call: Annotated[
        Credits | None,
        Meta(
            description="Per call of a tool that the vendor runs (web search, file search, code), "
            "as its answers count them."
        ),
    ] = None
    tiers: Annotated[
        dict[str, Credits],
        Meta(
            description="Factors on the token prices by service tier, speed or place, as text: { "
            'priority = "2.0", flex = "0.5", fast = "6.0", us = "1.1" }. A request for one that '
            "may be dearer and has no factor here is refused."
        ),
    ] = {}


class ModelConfig(Struct, frozen=True, kw_only=True):
    """A model as clients see it."""

    id: Annotated[
        ModelPattern,
        Meta(
            description="Name that clients write. A `*` at its end offers every name with that "
            "beginning, except those of entries without one, in any case and with any prefix or "
            "suffix.",
        ),
    ]
    aliases: Annotated[
        tuple[ModelName, ...],
        Meta(description="Additional names of the same model."),
    ] = ()
    display_name: Annotated[
        str,
        Meta(
            description="Name for people, shown in /v1/models. The id unless given.",
            extra={"renamed_from": "name"},
        ),
    ] = ""
    created: Annotated[
        int, Meta(ge=0, description="Unix time shown as `created` in /v1/models.")
    ] = 1_735_689_600
    context: Annotated[
        Positive | None,
        Meta(
            description="Context window in tokens, shown in /v1/models. A request whose whole "
            "input only the upstream sees reserves this many; 200,000 unless given."
        ),
    ] = None
    max_output: Annotated[
        Positive | None,
        Meta(
            description="Most output tokens, shown in /v1/models. Bounds what a request reserves: "
            "the price of this many, or of 32,000 where neither this nor the request sets a bound."
        ),
    ] = None
    modalities: Annotated[
        tuple[Modality, ...], Meta(description="What the model takes as input.")
    ] = ("text",)
    output_modalities: Annotated[
        tuple[Modality, ...],
        Meta(description="What the model produces.", extra={"renamed_from": "output"}),
    ] = ("text",)
    targets: Annotated[
        tuple[TargetName, ...],
        Meta(
            min_length=1,
            description='Where the model is served, best first: "upstream/its-model-name". In an '
            "id that ends in `*`, a `*` at the end of a target stands for the name that the "
            "client wrote.",
        ),
    ]
    family: Annotated[
        ModelName | None,
        Meta(
            description="A vendor's model name that says what the targets are, where their own "
            'names do not: an Azure deployment called `prod` may be a "gpt-5". Requests are '
            "written as that model takes them. Their own names unless given."
        ),
    ] = None
    families: Annotated[
        tuple[ModelName, ...],
        Meta(description="The same for targets that differ: one name for each target."),
    ] = ()
    load_balancing: Annotated[
        Literal["order", "weight", "least_inflight", "latency"],
        Meta(
            description='Which target is tried first: "order", as written; "weight", at random by '
            '`weights`; "least_inflight", the one with the fewest requests in flight; "latency", '
            "the one whose answers begin soonest. A conversation stays with the target that "
            "answered it last.",
            extra={"renamed_from": "balance"},
        ),
    ] = "order"
    weights: Annotated[
        tuple[Positive, ...],
        Meta(
            description="Shares of the targets, one number for each, for `load_balancing = "
            '"weight"`. Equal unless given.'
        ),
    ] = ()
    fallbacks: Annotated[
        tuple[str, ...],
        Meta(
            description="Models to try when every target has failed, if the key may use them. A "
            "caller's own `models` replace them."
        ),
    ] = ()
    price: Annotated[
        PriceConfig | None, Meta(description="What the model costs the caller. Free unless given.")
    ] = None
    on_hangup: Annotated[
        Literal["cancel", "drain"] | None,
        Meta(
            description="What is done when a client disconnects, in place of what its plan says. "
            'Set "drain" for models with hidden reasoning, which cannot be estimated.'
        ),
    ] = None
    plans: Annotated[
        tuple[str, ...], Meta(description="Plans whose keys may use the model. All unless given.")
    ] = ()


class MediaConfig(Struct, frozen=True, kw_only=True):
    """Models that turn media into text for models that take text only."""

    image: Annotated[str | None, Meta(description="Model that describes images.")] = None
    audio: Annotated[str | None, Meta(description="Model that transcribes audio.")] = None
    video: Annotated[str | None, Meta(description="Model that describes video.")] = None


class RouteConfig(Struct, frozen=True, kw_only=True):
    """An additional path, or another dialect on an existing path."""

    path: Annotated[RoutePath, Meta(description="Exact path, without a slash at its end.")]
    dialect: Annotated[
        Literal["openai", "anthropic", "responses", "auto"],
        Meta(description='Dialect of the path; "auto" takes it from the shape of each request.'),
    ]
    endpoint: Annotated[
        EndpointName | None,
        Meta(description="Endpoint of the path. The end of the path decides unless given."),
    ] = None


class FallbackConfig(Struct, frozen=True, kw_only=True):
    """Retries and fallbacks of a request whose target fails before its first content."""

    max_attempts: Annotated[
        Positive,
        Meta(
            description="Most attempts of one request, over all targets and fallbacks. 1 never "
            "tries again.",
            extra={"renamed_from": "attempts"},
        ),
    ] = 5
    deadline: Annotated[
        Duration,
        Meta(
            description="Time from the start of a request after which no further attempt begins. "
            "Where clients do not stream, give it more than `upstreams[].total_timeout`.",
            extra={"renamed_from": "time"},
        ),
    ] = Duration(300)
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=10,
            description="Further rounds over the same targets once each has failed. Retries of "
            "the clients come on top.",
        ),
    ] = 0
    backoff: Annotated[
        Duration,
        Meta(
            description="Longest pause before the first further round; it doubles before each "
            "later one. The pause itself is random, from 0 to this.",
            extra={"renamed_from": "pause"},
        ),
    ] = Duration(0.5)
    max_backoff: Annotated[
        Duration,
        Meta(
            description="Upper bound of that pause. A longer `retry-after` is not waited for.",
            extra={"renamed_from": "longest_pause"},
        ),
    ] = Duration(8)
    retry_unanswered: Annotated[
        bool,
        Meta(
            description="Send a request again, to another target or on a fresh connection, also "
            "where it was sent and no answer came. The first upstream may have worked on it, and "
            "bill you for it; false returns the error instead.",
            extra={"renamed_from": "unanswered"},
        ),
    ] = True


class BreakerConfig(Struct, frozen=True, kw_only=True):
    """Circuit breaker of each target. An open one is passed over while another target is left."""

    min_failures: Annotated[
        Positive,
        Meta(
            description="Failures within `window` that open the breaker, where `failure_rate` is "
            "reached too.",
            extra={"reloadable": False, "renamed_from": "failures"},
        ),
    ] = 5
    failure_rate: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Percent of the requests within `window` that must have failed.",
            extra={"reloadable": False, "renamed_from": "share"},
        ),
    ] = 30
    window: Annotated[
        Duration,
        Meta(
            description="Time over which requests and failures are counted.",
            extra={"reloadable": False},
        ),
    ] = Duration(30)
    open_for: Annotated[
        Duration,
        Meta(
            description="Time for which an open breaker keeps requests away; then one request "
            "probes the target. Doubles with each probe that fails.",
            extra={"reloadable": False, "renamed_from": "pause"},
        ),
    ] = Duration(5)
    max_open_for: Annotated[
        Duration,
        Meta(
            description="Upper bound of that time, and of what a `retry-after` asks for.",
            extra={"reloadable": False, "renamed_from": "longest_pause"},
        ),
    ] = Duration(120)


class AffinityConfig(Struct, frozen=True, kw_only=True):
    """Conversations stay with the target that answered them last, whose prompt cache has them."""

    ttl: Annotated[
        Duration,
        Meta(
            description="How long a conversation stays, counted from its last answer. 0 turns "
            "affinity off; what one model signed is then not removed for another.",
            extra={"reloadable": False, "renamed_from": "keep"},
        ),
    ] = Duration(86400)
    max_entries: Annotated[
        Positive,
        Meta(
            description="Most conversations that one worker remembers.",
            extra={"reloadable": False, "renamed_from": "most"},
        ),
    ] = 100_000


class ErrorsConfig(Struct, frozen=True, kw_only=True):
    """What error answers show."""

    details: Annotated[
        bool,
        Meta(description="Add `details` with field and issue to errors in the OpenAI dialects."),
    ] = False


class LogConfig(Struct, frozen=True, kw_only=True):
    """The log, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Lowest level that is written.", extra={"reloadable": False}),
    ] = "info"
    format: Annotated[
        Literal["json", "console"],
        Meta(description='"json" for machines, "console" for people.', extra={"reloadable": False}),
    ] = "json"
    requests: Annotated[bool, Meta(description="Write one line for each finished request.")] = True


class Configuration(Struct, frozen=True, kw_only=True):
    """A configuration file of Penstock."""

    brand: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=60,
            description="Product name in public messages, and the stem of key and model prefixes: "
            '"My Edge" makes "my-edge".',
        ),
    ] = "Penstock"
    server: ServerConfig = ServerConfig()
    store: StoreConfig = StoreConfig()
    auth: AuthConfig = AuthConfig()
    limits: LimitsConfig = LimitsConfig()
    plans: tuple[PlanConfig, ...] = ()
    upstreams: tuple[UpstreamConfig, ...] = ()
    models: tuple[ModelConfig, ...] = ()
    fallback: FallbackConfig = FallbackConfig()
    breaker: BreakerConfig = BreakerConfig()
    affinity: AffinityConfig = AffinityConfig()
    media: MediaConfig = MediaConfig()
    routes: tuple[RouteConfig, ...] = ()
    errors: ErrorsConfig = ErrorsConfig()
    log: LogConfig = LogConfig()
