"""Router: the endpoint, dialect and client address of a request."""

from collections.abc import Awaitable, Sequence
from ipaddress import ip_address

from edge.requests.dialect_signs import dialect_of_headers
from middlewares.asgi import ASGIApp, Network, Receive, Scope, Send, header, refuse_scope, within
from middlewares.exchange import Dialect, Exchange, exchange_of
from middlewares.problem import Problem

from .paths import ADMIN, DASHBOARD, OPEN, Paths, plain_path


class RouterMiddleware:
    """Name the endpoint, the dialect and the client of each request.

    Reads:   nothing
    Writes:  endpoint, row, dialect, client, trace_id, sampled
    Rejects: method_not_allowed
    Order:   inside errors, which answers its refusals; outside all that needs the endpoint
    Cost:    one dict look-up; a second one for paths written unusually
    """

    __slots__ = ("_paths", "_trusted", "app")

    def __init__(
        self, app: ASGIApp, *, paths: Paths, trusted_proxies: Sequence[Network] = ()
    ) -> None:
        self.app = app
        self._paths = paths
        self._trusted = trusted_proxies

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the inner awaitable, so this layer adds no frame to a stream."""
        if scope["type"] != "http":
            if scope["type"] != "lifespan":
                return refuse_scope(scope, receive, send)
            return self.app(scope, receive, send)
        exchange = exchange_of(scope)
        exchange.client = client_address(scope, self._trusted)
        row = self._paths.find(scope["path"])
        if row is None:
            return self.app(_unrouted(exchange, scope), receive, send)
        dialect = row.dialect
        if dialect is None:
            rules = row.rules
            if rules is None:
                dialect = _dialect_of(scope)
            else:
                dialect = dialect_of_headers(scope["headers"], rules)
                row = rules.entries.get(dialect, row)
        exchange.dialect = dialect
        exchange.endpoint = row.name
        exchange.row = row
        if scope["method"] not in row.methods:
            raise _wrong_method(row.methods)
        return self.app(scope, receive, send)


def _unrouted(exchange: Exchange, scope: Scope) -> Scope:
    """The scope of a request at no endpoint, with the plain form of an open path."""
    exchange.dialect = _dialect_of(scope)
    path = plain_path(scope["path"]) or "/"
    methods = OPEN.get(path)
    if path == ADMIN or path.startswith(f"{ADMIN}/"):
        exchange.endpoint = "admin"
        exchange.dialect = "openai"
        return scope
    if path == DASHBOARD or path.startswith(f"{DASHBOARD}/"):
        exchange.endpoint = "dashboard"
        exchange.dialect = "openai"
        return scope if path == scope["path"] else {**scope, "path": path}
    if methods is None:
        exchange.endpoint = "unknown"
        return scope
    if path == "/":
        exchange.endpoint = "dashboard"
    else:
        exchange.endpoint = "ops"
        exchange.trace_id, exchange.sampled = 0, False  # has no spans to name
    if scope["method"] not in methods:
        raise _wrong_method(methods)
    return scope if path == scope["path"] else {**scope, "path": path}


def _dialect_of(scope: Scope) -> Dialect:
    return "openai" if header(scope, b"anthropic-version") is None else "anthropic"


def _wrong_method(methods: tuple[str, ...]) -> Problem:
    return Problem("method_not_allowed", headers=((b"allow", ", ".join(methods).encode()),))


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """The caller's address: that of the socket, or from the right of `x-forwarded-for`.

    A hop counts only if a trusted proxy reported it, so a caller cannot choose its own address. ""
    when the server knows none (a Unix socket).
    """
    peer = scope.get("client")
    address: str = peer[0] if peer else ""
    if not trusted or not within(address, trusted):
        return address
    hops: list[str] = []
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            hops += value.decode("latin-1").split(",")
    for hop in reversed(hops):
        candidate = _bare(hop.strip())
        if not candidate:
            return address
        address = candidate
        if not within(address, trusted):
            break
    return address


def scheme_of(scope: Scope, trusted: Sequence[Network]) -> str:
    """The caller's scheme, "http" or "https": that of the socket, or of a trusted proxy.

    Only the last value of `x-forwarded-proto` counts, because the proxy wrote it.
    """
    scheme: str = scope.get("scheme") or "http"
    peer = scope.get("client")
    if not trusted or not peer or not within(peer[0], trusted):
        return scheme
    given = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    last = given[-1].rpartition(b",")[2].strip().lower().decode("latin-1") if given else ""
    return last if last in ("http", "https") else scheme


def _bare(hop: str) -> str:
    """The address of a hop without port and brackets; "" if it is invalid."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ip_address(hop.partition("%")[0]))  # the sender chooses the zone
    except ValueError:
        return ""


def allowed_from(address: str, networks: Sequence[Network]) -> bool:
    """Whether `address` is in `networks`; an empty one (a Unix socket) is always allowed."""
    return not address or within(address, networks)


_FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip")
"""Headers by which a proxy names the client that it forwards for."""


def from_unknown_proxy(scope: Scope, trusted: Sequence[Network]) -> bool:
    """Whether a proxy outside `trusted_proxies` forwards the request: its address is not the
    client's."""
    if all(header(scope, name) is None for name in _FORWARDED):
        return False
    peer = scope.get("client")
    return not peer or not allowed_from(peer[0], trusted)
