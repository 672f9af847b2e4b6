"""Look up the endpoint at a path; open paths and the management API.

Only `scope["path"]` decides, never the Host header or the query.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import msgspec

from edge.config.load import Settings
from edge.endpoints import CONVERSATIONS, ENDPOINTS, Endpoint
from middlewares.asgi import Scope
from middlewares.exchange import Exchange

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

    __slots__ = ("_below", "_exact")

    def __init__(self, table: Mapping[str, Endpoint]) -> None:
        """table: a `*` in a path stands for one or more characters; the first match counts."""
        self._exact = table
        self._below = tuple((*_around(path), row) for path, row in table.items() if "*" in path)

    @classmethod
    def of(cls, settings: Settings, endpoints: Sequence[Endpoint] = ENDPOINTS) -> Self:
        """The table with the paths that the configuration adds or maps to another endpoint.

        With dialect "auto", a conversation gets the endpoint of its caller's dialect.
        """
        known = {row.path: row for row in endpoints}
        table = dict(known)
        for option in settings.routes:
            row = next(row for row in endpoints if row.name == option.endpoint)
            if row.dialect is not None and row is CONVERSATIONS[row.dialect]:
                if option.dialect == "auto":
                    table[option.path] = msgspec.structs.replace(row, dialect=None)
                    continue
                row = CONVERSATIONS[option.dialect]
            table[option.path] = row
            below = known.get(f"{row.path}/*")
            if below is not None and below.name == row.name:
                table[f"{option.path}/*"] = below
        return cls(table)

    def find(self, path: str) -> Endpoint | None:
        """The endpoint at `path`, or None."""
        row = self._exact.get(path)
        if row is not None:
            return row
        path = plain_path(path)
        row = self._exact.get(path)
        if row is not None:
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


def _around(path: str) -> tuple[str, str]:
    """What is before and behind the `*` of a path."""
    start, _, end = path.partition("*")
    return start, end


def plain_path(path: str) -> str:
    """`path` without a trailing slash and without the doubled /v1 of a base URL set twice."""
    path = path.rstrip("/")
    return path[3:] if path.startswith("/v1/v1/") else path
