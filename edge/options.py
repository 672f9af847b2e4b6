"""What may be written in a configuration file: one struct per table, one field per key.

The description of a field is the user manual: `penstock schema` prints it and editors show it.
Reading, checking and defaults that depend on each other are in `edge.settings`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from .references import HttpUrl, Location, Secret
from .units import Credits, Duration, Network, Rate, Size, Span, network

UpstreamDialect = Literal["openai", "responses", "anthropic", "claude-cli", "simulator"]
Modality = Literal["text", "image", "audio", "video", "file", "embedding"]
Endpoint = Literal[
    "chat.completions",
    "completions",
    "responses",
    "responses.compact",
    "responses.input_tokens",
    "messages",
    "messages.count_tokens",
    "embeddings",
    "models",
]

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

ENDPOINT_OF_TAIL: dict[str, Endpoint] = {
    "/chat/completions": "chat.completions",
    "/completions": "completions",
    "/responses": "responses",
    "/responses/compact": "responses.compact",
    "/responses/input_tokens": "responses.input_tokens",
    "/messages": "messages",
    "/messages/count_tokens": "messages.count_tokens",
    "/embeddings": "embeddings",
    "/models": "models",
}
"""The endpoint a route means when it names none: by the longest tail that ends its path."""

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


class Server(Struct, frozen=True, kw_only=True):
    """How Penstock listens."""

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
            description="TCP port. 0 lets the system choose a free one.",
            extra={"reloadable": False},
        ),
    ] = 8080
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description='Worker processes. More than one needs `store.counters = "redis://..."`, '
            "so that limits are counted in one place.",
            extra={"reloadable": False},
        ),
    ] = 1
    max_body: Annotated[
        Size, Meta(description="Largest request body accepted; a larger one is answered 413.")
    ] = Size(32 * 2**20)
    drain: Annotated[
        Duration,
        Meta(
            description="How long running requests may go on after SIGTERM. Give your process "
            "manager a longer grace time than this.",
            extra={"reloadable": False},
        ),
    ] = Duration(600)
    drain_delay: Annotated[
        Duration,
        Meta(
            description="How long /readyz says 503 after SIGTERM while new requests are still "
            "taken, so that load balancers turn away first. SIGINT skips it.",
            extra={"reloadable": False, "renamed_from": "drain_notice"},
        ),
    ] = Duration(1)
    http2: Annotated[
        bool,
        Meta(
            description="Take HTTP/2 from clients too. Off unless given: it makes every open "
            "stream about 13 KiB larger, and most gateways stand behind a proxy.",
            extra={"reloadable": False},
        ),
    ] = False
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Meta(
            description="Networks of the reverse proxies in front. Only from them are "
            "`x-forwarded-for`, counted from the right, and `x-forwarded-proto` believed."
        ),
    ] = ()
    public_url: Annotated[
        HttpUrl | None,
        Meta(
            description="Where clients reach this gateway, without /v1: "
            '"https://llm.example.com". Unless given it is read from each request: scheme and '
            "`Host`."
        ),
    ] = None
    ops_networks: Annotated[
        tuple[Network, ...],
        Meta(
            description="Networks that may read /metrics, /status, /livez and /readyz; others "
            "get 404. "
            "Loopback, private, shared and link-local ranges unless given."
        ),
    ] = PRIVATE_NETWORKS
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Browser origins that may call the API, e.g. "
            '"https://app.example.com". None unless given.'
        ),
    ] = ()
    first_token_hold: Annotated[
        Duration,
        Meta(
            description="How long the status line of a stream is held back while the model has "
            "said nothing, so that an early failure keeps its true status.",
            extra={"renamed_from": "header_hold"},
        ),
    ] = Duration(10)
    ping_interval: Annotated[
        Duration,
        Meta(
            description="A ping is put on a stream after this much silence. 0 sends none.",
            extra={"renamed_from": "keep_alive"},
        ),
    ] = Duration(12)
    disconnect_drain: Annotated[
        Duration,
        Meta(
            description="How long an upstream is heard out after its client has left, for plans "
            'with `on_hangup = "drain"`.',
            extra={"renamed_from": "hear_out"},
        ),
    ] = Duration(300)
    upload_idle_timeout: Annotated[
        Duration,
        Meta(
            description="Longest silence while a client uploads its request body; answered 408. A "
            "body must come at 8 KiB/s on the average, too, after that time.",
            extra={"renamed_from": "body_timeout"},
        ),
    ] = Duration(30)
    upload_timeout: Annotated[
        Duration,
        Meta(description="Longest time that the upload of a request body may take; answered 408."),
    ] = Duration(300)


class Store(Struct, frozen=True, kw_only=True):
    """Where state lives. Relative paths are relative to the folder of the configuration file."""

    sql: Annotated[
        Location,
        Meta(
            description='Keys and ledger: "sqlite:///var/penstock.db" (a file) or '
            '"postgresql://user:password@host/database". "env:NAME" reads it from the environment.',
            extra={"reloadable": False},
        ),
    ] = Location("sqlite:///var/penstock.db")
    counters: Annotated[
        Location,
        Meta(
            description='Limits and leases: "memory" for one worker process, '
            '"redis://host:6379/0" (or rediss://) for more. "env:NAME" reads it from the '
            "environment.",
            extra={"reloadable": False},
        ),
    ] = Location("memory")
    counters_timeout: Annotated[
        Duration,
        Meta(
            description="How long Redis may take for an answer before it counts as gone. It is "
            "then tried again every second, and not waited for meanwhile. Also for the look "
            "whether an `Idempotency-Key` is known.",
            extra={"reloadable": False},
        ),
    ] = Duration(0.2)
    rates_when_redis_is_down: Annotated[
        Literal["local", "allow", "refuse"],
        Meta(
            description='While Redis is gone: "local" lets each worker count rates and slots for '
            'itself, "allow" does not limit, "refuse" answers 503.',
            extra={"reloadable": False, "renamed_from": "rates_without_counters"},
        ),
    ] = "local"
    budgets_when_redis_is_down: Annotated[
        Literal["refuse", "local"],
        Meta(
            description='While Redis is gone: "refuse" answers 503 to keys that have a budget, '
            '"local" lets each worker count from the ledger on, so that each may spend what is '
            "left once.",
            extra={"reloadable": False, "renamed_from": "budgets_without_counters"},
        ),
    ] = "refuse"
    journal: Annotated[
        str,
        Meta(
            min_length=1,
            description="Folder in which ledger rows survive the death of a process until they are "
            "in `sql`. On a disk of this machine, not shared with others.",
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
            description="How long answers of /v1/responses are kept in `sql` to be continued and "
            "read again, unless the caller says `store: false`. 0 keeps none. Unless given, 30 "
            'days; with `auth.mode = "none"` none are kept then.',
            extra={"reloadable": False, "renamed_from": "responses"},
        ),
    ] = None
    responses_max_size: Annotated[
        Size,
        Meta(
            description="Bytes of kept answers that one key, or one address, may have. Beyond it "
            "the conversations continued longest ago make room.",
            extra={"reloadable": False, "renamed_from": "responses_size"},
        ),
    ] = Size(1 << 30)
    responses_max_count: Annotated[
        Positive,
        Meta(
            description="The same as a number of answers.",
            extra={"reloadable": False, "renamed_from": "responses_count"},
        ),
    ] = 100_000


class Auth(Struct, frozen=True, kw_only=True):
    """Who may call."""

    mode: Annotated[
        Literal["keys", "none"],
        Meta(
            description='"keys": every call needs a key made with `penstock keys create`. "none": '
            "no key is asked for and the client address is the caller.",
            extra={"reloadable": False},
        ),
    ] = "keys"
    default_plan: Annotated[
        str | None,
        Meta(
            description='Plan of keys that name none, and of everybody with mode "none".',
            extra={"renamed_from": "plan"},
        ),
    ] = None
    admin_token: Annotated[
        Secret | None,
        Meta(
            description="Token of the management API, at least 16 characters, as "
            '"env:PENSTOCK_ADMIN_TOKEN" or "file:/run/secrets/admin". Without one that API is off.'
        ),
    ] = None


class Limits(Struct, frozen=True, kw_only=True):
    """Limits that hold whoever calls."""

    address: Annotated[
        Rate, Meta(description='Requests of one client address when `auth.mode = "none"`.')
    ] = Rate(60, 60)
    address_burst: Annotated[
        int,
        Meta(
            ge=0,
            le=10**9,
            description="Requests of one address beyond that rate which may be saved up.",
        ),
    ] = 10
    safety_net: Annotated[
        Rate,
        Meta(
            description="Requests of one address over everything but the open paths, counted "
            "before keys. Behind a proxy name it in `server.trusted_proxies`, or all its clients "
            "are one address."
        ),
    ] = Rate(5000, 600)
    throttle_max_wait: Annotated[
        Duration,
        Meta(
            description="Longest that a throttled request waits for its turn; one that would wait "
            "longer is answered 429 at once.",
            extra={"reloadable": False, "renamed_from": "throttle_wait"},
        ),
    ] = Duration(30)
    throttle_max_per_key: Annotated[
        Positive,
        Meta(
            description="Throttled requests of one key that may wait in one worker.",
            extra={"reloadable": False, "renamed_from": "throttle_queue"},
        ),
    ] = 100
    throttle_max_total: Annotated[
        Positive,
        Meta(
            description="Throttled requests of all keys that may wait in one worker. When so many "
            "do, the key that has most of them gives way.",
            extra={"reloadable": False, "renamed_from": "throttle_total"},
        ),
    ] = 1000
    throttle_max_memory: Annotated[
        Size,
        Meta(
            description="Request bodies that throttled requests may hold in one worker.",
            extra={"reloadable": False, "renamed_from": "throttle_memory"},
        ),
    ] = Size(32 * 2**20)
    max_body_memory: Annotated[
        Size,
        Meta(
            description="Request bodies that one worker holds at once, from their first byte until "
            "the upstream's answer begins; answered 503. A worker takes 100 MiB, and up to five "
            "times this while it translates.",
            extra={"reloadable": False, "renamed_from": "bodies"},
        ),
    ] = Size(48 * 2**20)
    max_body_memory_per_key: Annotated[
        Size,
        Meta(
            description="Of these, bodies of one key, or of one address where there are no keys; "
            "answered 429. Never less than `server.max_body`.",
            extra={"reloadable": False, "renamed_from": "bodies_each"},
        ),
    ] = Size(32 * 2**20)


class Window(Struct, frozen=True, kw_only=True):
    """A spend cap over a length of time."""

    length: Annotated[
        Span, Meta(description='"5h", "1d", "7d" or "calendar month", from first use on.')
    ]
    credits: Annotated[Credits, Meta(description='Cap in credits, as text: "5.00".')]
    aligned: Annotated[
        bool, Meta(description="Begin at calendar boundaries (UTC) instead of at first use.")
    ] = False


class Allowance(Struct, frozen=True, kw_only=True):
    """What a key may use: of its plan, or of its own."""

    requests: Annotated[Rate | None, Meta(description='Requests of one key: "120/min".')] = None
    burst: Annotated[
        int,
        Meta(ge=0, le=10**9, description="Requests beyond that rate which may be saved up."),
    ] = 0
    tokens: Annotated[Rate | None, Meta(description='Tokens of one key: "200k/min".')] = None
    concurrency: Annotated[
        Positive | None, Meta(description="Requests of one key in flight at once.")
    ] = None
    on_excess: Annotated[
        Literal["reject", "throttle"],
        Meta(description='Over a rate: "reject" answers 429, "throttle" lets it wait its turn.'),
    ] = "reject"
    windows: Annotated[tuple[Window, ...], Meta(description="Spend caps; all of them hold.")] = ()
    overflow: Annotated[
        Literal["none", "credits"],
        Meta(
            description='When a window is used up, or where there is none: "credits" goes on with '
            'prepaid credits. "none" without windows does not limit spending.'
        ),
    ] = "none"
    on_hangup: Annotated[
        Literal["cancel", "drain"],
        Meta(
            description='When a client leaves: "cancel" stops the upstream and charges what was '
            'produced, "drain" hears it out and charges its count.'
        ),
    ] = "cancel"
    cut_off: Annotated[
        bool,
        Meta(description="End a running stream with an error event when its money is gone."),
    ] = False


class Plan(Allowance, frozen=True, kw_only=True):
    """What a key of this plan may use."""

    id: Annotated[Slug, Meta(description="Name used by keys.")]
    on_budget: Annotated[
        str | None,
        Meta(
            description="Model that serves instead, where a spend cap or missing credits would "
            "refuse: one that costs nothing, or it is refused as well. Only for answers (not "
            "embeddings or counting), and only if the key may use it."
        ),
    ] = None
    on_rate_limit: Annotated[
        str | None,
        Meta(
            description="Model that serves instead, where a rate would refuse. What it serves is "
            "not counted against the rates, but against `concurrency`. As with `on_budget`, only "
            "for answers and if the key may use it."
        ),
    ] = None


class Upstream(Struct, frozen=True, kw_only=True):
    """A provider of models."""

    name: Annotated[Slug, Meta(description="Name used in `targets`.")]
    dialect: Annotated[
        UpstreamDialect,
        Meta(
            description="What it speaks: OpenAI Chat, OpenAI Responses or Anthropic Messages over "
            "HTTP; the Claude command-line client on this host; the built-in simulator."
        ),
    ]
    base_url: Annotated[
        HttpUrl | None,
        Meta(
            description='Up to and including the version: "https://api.openai.com/v1". Needed by '
            "the HTTP dialects."
        ),
    ] = None
    api_key: Annotated[
        Secret | None,
        Meta(description='The provider\'s key, as "env:UP_KEY", "file:PATH" or literally.'),
    ] = None
    headers: Annotated[
        dict[str, Secret],
        Meta(description='Further request headers; values may be "env:NAME" or "file:PATH".'),
    ] = {}
    auth_header: Annotated[
        Literal["authorization", "x-api-key", "api-key"] | None,
        Meta(
            description='Header that carries `api_key`: "authorization" (as a Bearer token), '
            '"x-api-key" or "api-key" (Azure). Unless given x-api-key for dialect "anthropic", '
            "authorization for the others."
        ),
    ] = None
    query: Annotated[
        dict[str, Secret],
        Meta(
            description='Query of every request: `{ api-version = "2024-10-21" }`; values may be '
            '"env:NAME" or "file:PATH".'
        ),
    ] = {}
    extra_body: Annotated[
        dict[str, Any],
        Meta(
            description="Members put into every JSON body sent there. They replace those of the "
            "same name, the caller's included."
        ),
    ] = {}
    drop_body: Annotated[
        tuple[str, ...],
        Meta(
            description="Members of bodies that are never sent there, such as those that the "
            "provider refuses."
        ),
    ] = ()
    stream_usage: Annotated[
        bool,
        Meta(
            description="Whether streams of Chat are asked for their usage (`stream_options`). A "
            "provider that refuses to be asked is noticed; false spares it the question. What it "
            "then does not tell is estimated."
        ),
    ] = True
    disclose: Annotated[
        bool,
        Meta(
            description="Whether callers may know who answers: the provider's names and members "
            "of its own stay in answers, and its error messages reach callers, less keys, "
            "addresses and account ids."
        ),
    ] = False
    connect_timeout: Annotated[
        Duration, Meta(description="To a connection: name lookup, TCP and TLS.")
    ] = Duration(5)
    first_token_timeout: Annotated[Duration, Meta(description="To the first content.")] = Duration(
        120
    )
    idle_timeout: Annotated[Duration, Meta(description="Between two events of a stream.")] = (
        Duration(120)
    )
    total_timeout: Annotated[Duration, Meta(description="For one whole request.")] = Duration(1800)
    transport: Annotated[
        Literal["native", "httpx"],
        Meta(
            description='"native" is the fast HTTP/1.1 client; "httpx" adds HTTP/2, proxies and '
            "client certificates."
        ),
    ] = "native"
    ca: Annotated[
        Path | None,
        Meta(description="PEM file of authorities to trust instead of the system's."),
    ] = None
    client_cert: Annotated[
        Path | None,
        Meta(description='PEM file with certificate and key. Needs `transport = "httpx"`.'),
    ] = None
    proxy: Annotated[
        Secret | None,
        Meta(description='URL of an HTTP proxy on the way. Needs `transport = "httpx"`.'),
    ] = None
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most connections of one worker process.",
            extra={"renamed_from": "connections"},
        ),
    ] = 1000
    command: Annotated[
        str,
        Meta(
            pattern=r"^[^-\x00-\x1f][^\x00-\x1f]*$",
            description='Of dialect "claude-cli": the client, as a name in PATH or as a path.',
            extra={"expected": "the name or the path of a program, without arguments"},
        ),
    ] = "claude"
    environment: Annotated[
        dict[str, Secret],
        Meta(
            description='Of dialect "claude-cli": variables for the client, such as '
            'CLAUDE_CONFIG_DIR or CLAUDE_CODE_OAUTH_TOKEN; values may be "env:NAME" or '
            '"file:PATH". Of the gateway\'s own it gets PATH, HOME, the language, proxies and '
            "authorities."
        ),
    ] = {}
    max_processes: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description='Of dialect "claude-cli": most clients that run at once for one worker '
            "process; each answers one request and takes about 200 MB.",
            extra={"renamed_from": "processes"},
        ),
    ] = 5
    max_waiting: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description='Of dialect "claude-cli": most requests of one worker process that wait '
            "for a client; a further one is answered 503. One that has waited for half of "
            "`first_token_timeout` is, too.",
            extra={"renamed_from": "waiting"},
        ),
    ] = 100
    prewarm: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description='Of dialect "claude-cli": clients started ahead of need, within '
            "`max_processes`, while there are requests.",
            extra={"renamed_from": "spare"},
        ),
    ] = 1


class Price(Struct, frozen=True, kw_only=True):
    """Credits per million tokens, as text, unless the field says otherwise."""

    input: Annotated[Credits, Meta(description="Uncached input tokens.")] = Credits(0)
    output: Annotated[Credits, Meta(description="Output tokens.")] = Credits(0)
    cache_read: Annotated[
        Credits | None, Meta(description="Input read from a prompt cache; as input unless given.")
    ] = None
    cache_write: Annotated[
        Credits | None, Meta(description="Input written to one; as input unless given.")
    ] = None
    cache_write_1h: Annotated[
        Credits | None,
        Meta(description="Input written to one for an hour; twice the input's unless given."),
    ] = None
    image: Annotated[Credits | None, Meta(description="Per image made.")] = None
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
            description="Factors on the price of tokens by service tier, speed or place, as text: "
            '{ priority = "2.0", flex = "0.5", fast = "6.0", us = "1.1" }. A request that asks for '
            "one that may be dearer and is not named here is refused."
        ),
    ] = {}


class Model(Struct, frozen=True, kw_only=True):
    """A model as clients see it."""

    id: Annotated[
        ModelPattern,
        Meta(
            description="Name clients write. One `*` at its end offers every name that begins so, "
            "less those of entries without one, whatever their case, prefix or suffix.",
        ),
    ]
    aliases: Annotated[
        tuple[ModelName, ...],
        Meta(description="Further names for the same model."),
    ] = ()
    display_name: Annotated[
        str, Meta(description="Display name; the id unless given.", extra={"renamed_from": "name"})
    ] = ""
    created: Annotated[
        int, Meta(ge=0, description="Unix time shown in /v1/models as `created`.")
    ] = 1_735_689_600
    context: Annotated[
        Positive | None,
        Meta(
            description="Context window in tokens, shown in /v1/models. So many are set aside for "
            "a request of which only the upstream sees all; 200,000 unless given."
        ),
    ] = None
    max_output: Annotated[
        Positive | None,
        Meta(
            description="Most output tokens, shown in /v1/models. Money for so many is set aside "
            "at most, and for 32,000 where neither this nor the request sets a bound."
        ),
    ] = None
    modalities: Annotated[tuple[Modality, ...], Meta(description="What goes in.")] = ("text",)
    output_modalities: Annotated[
        tuple[Modality, ...], Meta(description="What comes out.", extra={"renamed_from": "output"})
    ] = ("text",)
    targets: Annotated[
        tuple[TargetName, ...],
        Meta(
            min_length=1,
            description='Where it is served, best first: "upstream/its-model-name". A `*` at the '
            "end stands for the name the client wrote, for ids that end in `*`.",
        ),
    ]
    family: Annotated[
        ModelName | None,
        Meta(
            description="A vendor's model name that tells what the targets are, where their own "
            'names do not: an Azure deployment called `prod` may be a "gpt-5". How they are asked '
            "goes by it; their own names unless given."
        ),
    ] = None
    families: Annotated[
        tuple[ModelName, ...],
        Meta(description="The same where the targets differ: one name for each."),
    ] = ()
    load_balancing: Annotated[
        Literal["order", "weight", "least_inflight", "latency"],
        Meta(
            description='Which target is tried first: "order" as written; "weight" at random, by '
            '`weights`; "least_inflight" the one with the fewest requests under way; "latency" the '
            "one whose answers begin soonest. A conversation stays where it was answered last.",
            extra={"renamed_from": "balance"},
        ),
    ] = "order"
    weights: Annotated[
        tuple[Positive, ...],
        Meta(
            description='Shares of the targets, one for each, for `load_balancing = "weight"`. '
            "Equal unless given."
        ),
    ] = ()
    fallbacks: Annotated[
        tuple[str, ...],
        Meta(
            description="Models to try when every target failed, for keys that may use them. A "
            "caller's own `models` take their place."
        ),
    ] = ()
    price: Annotated[Price | None, Meta(description="What it costs the caller.")] = None
    on_hangup: Annotated[
        Literal["cancel", "drain"] | None,
        Meta(
            description="What is done when a client leaves, in place of what its plan says: "
            '"drain" for models that think out of sight, whose thinking cannot be estimated.'
        ),
    ] = None
    plans: Annotated[
        tuple[str, ...], Meta(description="Plans that may use it; all unless given.")
    ] = ()


class Media(Struct, frozen=True, kw_only=True):
    """Models that turn media into text for models that take text only."""

    image: Annotated[str | None, Meta(description="Model that describes images.")] = None
    audio: Annotated[str | None, Meta(description="Model that transcribes audio.")] = None
    video: Annotated[str | None, Meta(description="Model that describes video.")] = None


class Route(Struct, frozen=True, kw_only=True):
    """A further path, or another dialect on a path that is there."""

    path: Annotated[RoutePath, Meta(description="Exact path, no slash at its end.")]
    dialect: Annotated[
        Literal["openai", "anthropic", "responses", "auto"],
        Meta(description='Dialect spoken there; "auto" goes by the shape of the request.'),
    ]
    endpoint: Annotated[
        Endpoint | None,
        Meta(description="What it does; told from the end of the path unless given."),
    ] = None


class Fallback(Struct, frozen=True, kw_only=True):
    """What is done about a target that fails before its first content."""

    max_attempts: Annotated[
        Positive,
        Meta(
            description="Tries of one request, at most, over targets and fallbacks.",
            extra={"renamed_from": "attempts"},
        ),
    ] = 5
    deadline: Annotated[
        Duration,
        Meta(
            description="After this no further try of a request is begun.",
            extra={"renamed_from": "time"},
        ),
    ] = Duration(300)
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=10,
            description="How often the same targets are tried again once each has failed. Clients "
            "have retries of their own, which come on top.",
        ),
    ] = 0
    backoff: Annotated[
        Duration,
        Meta(
            description="Longest pause before the first of them, twice as long before each later "
            "one; how long it is within that is left to chance.",
            extra={"renamed_from": "pause"},
        ),
    ] = Duration(0.5)
    max_backoff: Annotated[
        Duration,
        Meta(
            description="A pause grows no longer. A `retry-after` beyond it is not waited for.",
            extra={"renamed_from": "longest_pause"},
        ),
    ] = Duration(8)
    retry_unanswered: Annotated[
        bool,
        Meta(
            description="Send a request again, to another target or on a fresh connection, also "
            "where it was sent and nothing came back: the first may have worked on it, and bill "
            "you for it.",
            extra={"renamed_from": "unanswered"},
        ),
    ] = True


class Breaker(Struct, frozen=True, kw_only=True):
    """When a target counts as broken. It is then passed over as long as there is another."""

    min_failures: Annotated[
        Positive,
        Meta(
            description="Failures, of late, that make a target broken.",
            extra={"reloadable": False, "renamed_from": "failures"},
        ),
    ] = 5
    failure_rate: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Percent of its requests, of late, that must have failed.",
            extra={"reloadable": False, "renamed_from": "share"},
        ),
    ] = 30
    window: Annotated[
        Duration, Meta(description='What "of late" means.', extra={"reloadable": False})
    ] = Duration(30)
    open_for: Annotated[
        Duration,
        Meta(
            description="How long a broken target is left alone before one request tries it; twice "
            "as long each time that one fails.",
            extra={"reloadable": False, "renamed_from": "pause"},
        ),
    ] = Duration(5)
    max_open_for: Annotated[
        Duration,
        Meta(
            description="It grows no longer, nor does what a `retry-after` asks for.",
            extra={"reloadable": False, "renamed_from": "longest_pause"},
        ),
    ] = Duration(120)


class Affinity(Struct, frozen=True, kw_only=True):
    """Conversations stay with the target that answered them last, whose prompt cache knows them."""

    ttl: Annotated[
        Duration,
        Meta(
            description="For how long after its last answer. 0 remembers no conversation; what "
            "another model signed is then not left out when it changes over.",
            extra={"reloadable": False, "renamed_from": "keep"},
        ),
    ] = Duration(86400)
    max_entries: Annotated[
        Positive,
        Meta(
            description="Conversations that one worker remembers, at most.",
            extra={"reloadable": False, "renamed_from": "most"},
        ),
    ] = 100_000


class Errors(Struct, frozen=True, kw_only=True):
    """What error answers show."""

    details: Annotated[
        bool, Meta(description="Add `details` with field and issue to OpenAI-shaped errors.")
    ] = False


class Log(Struct, frozen=True, kw_only=True):
    """The log, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Least level written.", extra={"reloadable": False}),
    ] = "info"
    format: Annotated[
        Literal["json", "console"],
        Meta(description='"json" for machines, "console" for people.', extra={"reloadable": False}),
    ] = "json"
    requests: Annotated[bool, Meta(description="One line for each finished request.")] = True


class Configuration(Struct, frozen=True, kw_only=True):
    """A configuration file of Penstock."""

    brand: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=60,
            description="Name that public messages carry and keys and model prefixes are made of.",
        ),
    ] = "Penstock"
    server: Server = Server()
    store: Store = Store()
    auth: Auth = Auth()
    limits: Limits = Limits()
    plans: tuple[Plan, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    models: tuple[Model, ...] = ()
    fallback: Fallback = Fallback()
    breaker: Breaker = Breaker()
    affinity: Affinity = Affinity()
    media: Media = Media()
    routes: tuple[Route, ...] = ()
    errors: Errors = Errors()
    log: Log = Log()
