"""What is at a path: an endpoint of the table, an open path, the management API, or nothing.

Decisions rest on `scope["path"]` alone; a Host header or a query has no part in them.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import msgspec

from edge.config.load import Settings
from edge.endpoints import CONVERSATIONS, ENDPOINTS, Endpoint

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
"""The paths that need no key, with their methods. What they answer is in `edge.api.health`."""

ADMIN: Final = "/admin/v1"
"""Below it is the management API, with a token of its own."""

UNROUTED: Final = frozenset(("ops", "admin", "unknown"))
"""What requests are called that are at no endpoint of the table."""


class Paths:
    """Endpoints by path."""

    __slots__ = ("_below", "_exact")

    def __init__(self, table: Mapping[str, Endpoint]) -> None:
        """table: a path that ends in `*` is for everything below it."""
        self._exact = table
        self._below = tuple((path[:-1], row) for path, row in table.items() if path[-1] == "*")

    @classmethod
    def of(cls, settings: Settings, endpoints: Sequence[Endpoint] = ENDPOINTS) -> Self:
        """Those of the table, and the paths that a profile adds or maps to another endpoint.

        A conversation without a dialect is at the endpoint of the dialect that its caller speaks.
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
        """The endpoint at `path`; None where there is none."""
        row = self._exact.get(path)
        if row is not None:
            return row
        path = plain_path(path)
        row = self._exact.get(path)
        if row is not None:
            return row
        for start, row in self._below:
            if path.startswith(start):
                return row
        return None


def plain_path(path: str) -> str:
    """`path` without a trailing slash and without the doubled /v1 of a base URL set twice."""
    path = path.rstrip("/")
    return path[3:] if path.startswith("/v1/v1/") else path
