"""Which endpoint and dialect a path means, by the table of endpoints.

Decisions rest on `scope["path"]` alone; a Host header or a query has no part in them.
"""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address

import msgspec

from middlewares._asgi import ASGIApp, Network, Receive, Scope, Send, header, refuse_scope, within
from middlewares.exchange import Dialect, Exchange, exchange_of
from middlewares.problem import Problem

from .endpoints import CONVERSATIONS, ENDPOINTS, Endpoint
from .settings import Settings

_GET = ("GET", "HEAD")

OPEN: Mapping[str, tuple[str, ...]] = {
    "/": _GET,
    "/health": _GET,
    "/healthz": _GET,
    "/livez": _GET,
    "/readyz": _GET,
    "/metrics": _GET,
    "/status": _GET,
    "/api/hello": _GET,
}
"""The paths that need none. What they answer is in `ops`."""

ADMIN = "/admin/v1"
"""Below it is the management API, with a token of its own."""


def paths_of(settings: Settings, endpoints: Sequence[Endpoint] = ENDPOINTS) -> dict[str, Endpoint]:
    """By path, the row of its endpoint; with the paths that a profile adds or maps anew.

    A conversation without a dialect is at the endpoint of the dialect that its caller speaks.
    """
    known = {row.path: row for row in endpoints}
    table = dict(known)
    for option in settings.routes:
        name = option.endpoint or ""
        row = next(row for row in endpoints if row.name == name)
        if row is CONVERSATIONS.get(row.dialect or "openai"):
            if option.dialect == "auto":
                table[option.path] = msgspec.structs.replace(row, dialect=None)
                continue
            row = CONVERSATIONS[option.dialect]
        table[option.path] = row
        below = known.get(f"{row.path}/*")
        if below is not None and below.name == row.name:
            table[f"{option.path}/*"] = below
    return table


class RouterMiddleware:
    """Name the endpoint, the dialect and the client, and refuse what is not offered.

    Open paths go to `open_app`, the management API's to `admin_app`; a path of the table goes on
    inside. net: put around what is answered here and is not open.

    Reads:   nothing
    Writes:  endpoint, row, dialect, client
    Rejects: endpoint_not_allowed, method_not_allowed, not_found
    Order:   inside errors, which answers its refusals; outside auth, which needs the endpoint
    Cost:    one dict look-up; a second one for paths written unusually
    """

    __slots__ = ("_admin", "_below", "_nowhere", "_open", "_table", "_trusted", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        table: Mapping[str, Endpoint],
        open_app: ASGIApp,
        admin_app: ASGIApp,
        trusted_proxies: Sequence[Network] = (),
        net: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    ) -> None:
        self.app = app
        self._table = table
        self._below = tuple((path[:-1], row) for path, row in table.items() if path[-1] == "*")
        self._open = open_app
        self._admin = net(admin_app)
        self._nowhere = net(self._refuse)
        self._trusted = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await refuse_scope(scope, receive, send)
        exchange = exchange_of(scope)
        exchange.client = client_address(scope, self._trusted)
        row = self._find(scope["path"])
        if row is None:
            return await self._other(exchange, scope, receive, send)
        dialect = row.dialect
        if dialect is None:
            dialect = _dialect_of(scope)
            if row.conversation:
                row = CONVERSATIONS[dialect]
        exchange.dialect = dialect
        exchange.endpoint = row.name
        exchange.row = row
        if scope["method"] not in row.methods:
            raise _wrong_method(row.methods)
        await self.app(scope, receive, send)

    def _find(self, path: str) -> Endpoint | None:
        row = self._table.get(path)
        if row is not None:
            return row
        path = plain_path(path)
        row = self._table.get(path)
        if row is not None:
            return row
        for start, row in self._below:
            if path.startswith(start):
                return row
        return None

    async def _other(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        exchange.dialect = _dialect_of(scope)
        path = plain_path(scope["path"]) or "/"
        methods = OPEN.get(path)
        if path == ADMIN or path.startswith(f"{ADMIN}/"):
            exchange.endpoint = "admin"
            exchange.dialect = "openai"
            return await self._admin(scope, receive, send)
        if methods is None:
            exchange.endpoint = "unknown"
            return await self._nowhere(scope, receive, send)
        exchange.endpoint = "ops"
        if scope["method"] not in methods:
            raise _wrong_method(methods)
        if path != scope["path"]:
            scope = {**scope, "path": path}
        await self._open(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = plain_path(scope["path"]) or "/"
        if path == "/v1" or path.startswith("/v1/"):
            brand = exchange_of(scope).house.brand
            raise Problem("endpoint_not_allowed", message=f"{brand} does not offer this endpoint.")
        raise self._not_found(path)

    def _not_found(self, path: str) -> Problem:
        """Nothing; a base URL without its /v1 is the usual reason, so say so."""
        if self._find(f"/v1{path}") is None:
            return Problem("not_found")
        said = "There is nothing at this address. Put /v1 at the end of the base URL."
        return Problem("not_found", message=said)


def plain_path(path: str) -> str:
    """`path` without a trailing slash and without the doubled /v1 of a base URL set twice."""
    path = path.rstrip("/")
    return path[3:] if path.startswith("/v1/v1/") else path


def _dialect_of(scope: Scope) -> Dialect:
    return "openai" if header(scope, b"anthropic-version") is None else "anthropic"


def _wrong_method(methods: tuple[str, ...]) -> Problem:
    return Problem("method_not_allowed", headers=((b"allow", ", ".join(methods).encode()),))


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """The address of the caller: the socket's, or counted from the right of `x-forwarded-for`.

    Each hop is believed only as far as the hop that reported it is a trusted proxy, so a caller
    cannot choose its own address. "" when the server knows none (a Unix socket).
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
    """ "http" or "https" as the caller wrote it: the socket's, or what a trusted proxy says in
    `x-forwarded-proto`, of which the last value is the one it wrote itself."""
    scheme: str = scope.get("scheme") or "http"
    peer = scope.get("client")
    if not trusted or not peer or not within(peer[0], trusted):
        return scheme
    given = [value for name, value in scope["headers"] if name == b"x-forwarded-proto"]
    last = given[-1].rpartition(b",")[2].strip().lower().decode("latin-1") if given else ""
    return last if last in ("http", "https") else scheme


def _bare(hop: str) -> str:
    """A hop as a plain address, without port or brackets; "" when it is none."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ip_address(hop.partition("%")[0]))  # a zone is what its sender likes
    except ValueError:
        return ""


def allowed_from(address: str, networks: Sequence[Network]) -> bool:
    """Whether `address` lies in `networks`; an address that is none, as on a Unix socket, does."""
    return not address or within(address, networks)
