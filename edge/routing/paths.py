"""Look up the endpoint at a path; open paths and the management API.

Only `scope["path"]` decides, never the Host header or the query.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Self

import msgspec

from edge.config.load import Settings
from edge.config.model import RouteConfig
from edge.endpoints import CONVERSATIONS, ENDPOINTS, Endpoint, PathRules, offered_rows
from middlewares.asgi import Scope
from middlewares.exchange import Dialect, Exchange

_GET = ("GET", "HEAD")

OPEN: Final[Mapping[str, tuple[str, ...]]] = {
    "/": _GET,
    "/health": _GET,
    "/healthz": _GET,
    "/livez": _GET,
    "/readyz": _GET,
    "/metrics": _GET,
    "/status": _GET,
    "/api/hello": _GET,
}
"""Paths without a key, with their methods. `edge.api.health` answers them, the dashboard `/`."""

DASHBOARD: Final = "/app"
"""Path of the dashboard, and prefix of its pages."""

ADMIN: Final = "/admin/v1"
"""Prefix of the management API, which has its own token."""

UNROUTED: Final = frozenset(("ops", "admin", "dashboard", "unknown"))
"""Endpoint names of requests that match no row of the table."""


class Paths:
    """Table of endpoints by path."""

    __slots__ = ("_below", "_exact", "_hidden")

    def __init__(self, table: Mapping[str, Endpoint | None]) -> None:
        """table: a `*` in a path stands for one or more characters; the first match counts. None:
        nothing is there, although another path with a `*` may match."""
        self._exact = {path: row for path, row in table.items() if row is not None}
        self._hidden = table.keys() - self._exact.keys()
        self._below = tuple((*_around(path), row) for path, row in table.items() if "*" in path)

    @classmethod
    def of(cls, settings: Settings, endpoints: Sequence[Endpoint] = ENDPOINTS) -> Self:
        """The table of the endpoints offered, with the paths that the configuration adds or maps
        to another endpoint.

        With dialect "auto", a conversation gets the endpoint of its caller's dialect.
        """
        offered = offered_rows(settings.endpoints, endpoints)
        known = {row.path: row for row in offered}
        table = {row.path: known.get(row.path) for row in endpoints}
        for option in settings.routes:
            row = next(row for row in endpoints if row.name == option.endpoint)
            if row.dialect is not None and row is CONVERSATIONS.get(row.dialect):
                table[option.path] = _conversation(row, option, offered)
                if option.dialect != "auto":
                    row = CONVERSATIONS[option.dialect]
            else:
                table[option.path] = _with_dialect(row, option)
            below = known.get(f"{row.path}/*")
            if below is not None and below.name == row.name:
                table[f"{option.path}/*"] = _with_dialect(below, option)
        return cls(table)

    @property
    def rows(self) -> Mapping[str, Endpoint]:
        """The endpoint at each path; a `*` in a path stands for one or more characters."""
        return self._exact

    def find(self, path: str) -> Endpoint | None:
        """The endpoint at `path`, or None."""
        row = self._exact.get(path)
        if row is not None:
            return row
        path = plain_path(path)
        row = self._exact.get(path)
        if row is not None or path in self._hidden:
            return row
        for start, end, row in self._below:
            if path.startswith(start) and path.endswith(end) and len(path) > len(start + end):
                return row
        return None


def route_of(scope: Scope, exchange: Exchange) -> str:
    """The path template of a request, for traces: that of its row; "" at an unknown path."""
    if exchange.row is not None:
        return str(exchange.row.path)
    if exchange.endpoint == "admin":
        return f"{ADMIN}/*"
    if exchange.endpoint == "dashboard":
        return "/" if scope["path"] == "/" else f"{DASHBOARD}/*"
    return ""


def _conversation(own: Endpoint, option: RouteConfig, offered: Collection[Endpoint]) -> Endpoint:
    """The row of a path of conversations.

    own: the endpoint that the path names. At that of Chat Completions a body of Responses, as
    Cursor sends it, is answered as one of Chat Completions.
    """
    if option.dialect != "auto":
        row = CONVERSATIONS[option.dialect]
        if option.default_max_tokens is None or row.dialect is None:
            return row
        rows = {row.dialect: row}
    else:
        rows = {
            dialect: row
            for dialect, row in CONVERSATIONS.items()
            if row in offered and (dialect != "responses" or own.codec != "chat")
        }
    preferred = option.prefer or own.dialect
    prefer = preferred if preferred in rows else next(iter(rows))
    entries: dict[Dialect, Endpoint] = {}
    rules = PathRules(
        rows=rows, entries=entries, prefer=prefer, max_tokens=option.default_max_tokens
    )
    for dialect, row in rows.items():
        entries[dialect] = msgspec.structs.replace(row, rules=rules)
    if len(entries) == 1:
        return entries[prefer]
    return msgspec.structs.replace(own, dialect=None, rules=rules)


def _with_dialect(row: Endpoint, option: RouteConfig) -> Endpoint:
    """The row of another path: it answers every dialect as before, unless the path has one."""
    if row.dialect is not None:
        return row
    if option.dialect != "auto":
        dialect: Dialect = "anthropic" if option.dialect == "anthropic" else "openai"
        return msgspec.structs.replace(row, dialect=dialect)
    if option.prefer is None:
        return row
    return msgspec.structs.replace(row, rules=PathRules(prefer=option.prefer))


def _around(path: str) -> tuple[str, str]:
    """What is before and behind the `*` of a path."""
    start, _, end = path.partition("*")
    return start, end


def plain_path(path: str) -> str:
    """`path` without a trailing slash and without the doubled /v1 of a base URL set twice."""
    path = path.rstrip("/")
    return path[3:] if path.startswith("/v1/v1/") else path
