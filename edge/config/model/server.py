"""Tables of the process: how it listens, its paths and its log."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edge.config.secrets import HttpUrl
from edge.config.units import Duration, Network, Size, network

from .names import EndpointName, Positive, RoutePath

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
    max_connections: Annotated[
        Annotated[int, Meta(ge=16, le=10**9)] | None,
        Meta(
            description="Connections of clients that a worker accepts; about half of its file "
            "descriptors unless given. Fewer, where many requests share a connection (`http2`), "
            "leave the others for connections to upstreams. Further clients wait, those of /livez "
            "too.",
            extra={"reloadable": False},
        ),
    ] = None
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


class RouteConfig(Struct, frozen=True, kw_only=True):
    """An additional path, or another dialect on an existing path."""

    path: Annotated[RoutePath, Meta(description="Exact path, without a slash at its end.")]
    dialect: Annotated[
        Literal["openai", "anthropic", "responses", "auto"],
        Meta(description='Dialect of the path; "auto" takes it from the shape of each request.'),
    ]
    prefer: Annotated[
        Literal["openai", "anthropic", "responses"] | None,
        Meta(
            description='Dialect of a request whose shape does not decide, with dialect "auto". '
            "Unless given, that of the endpoint."
        ),
    ] = None
    default_max_tokens: Annotated[
        Positive | None,
        Meta(
            description="`max_tokens` of requests in Anthropic's dialect that have none, at most "
            "the model's `max_output`. They are refused unless it is given."
        ),
    ] = None
    endpoint: Annotated[
        EndpointName | None,
        Meta(description="Endpoint of the path. The end of the path decides unless given."),
    ] = None


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
