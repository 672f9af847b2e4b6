"""Requests that need no key: open paths, open endpoints, the management API, the dashboard and
unknown paths."""

from collections.abc import Awaitable, Mapping

from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.error_kinds import KINDS
from middlewares.exchange import ErrorStyle, exchange_of
from middlewares.problem import Problem

from .paths import Paths, plain_path


class UnroutedMiddleware:
    """Answer requests at no endpoint of the table and at open endpoints; pass on all others.

    apps: by endpoint name of the router ("ops", "admin", "dashboard") or of an open row.
    paths: the table, to suggest a path.

    Reads:   row, endpoint, error_style
    Writes:  nothing
    Rejects: endpoint_not_allowed, not_found
    Order:   inside the limit of addresses, which holds for the management API and unknown paths
             too; outside auth, since none of these has the key of a caller
    Cost:    one comparison
    """

    __slots__ = ("_apps", "_paths", "app")

    def __init__(self, app: ASGIApp, *, apps: Mapping[str, ASGIApp], paths: Paths) -> None:
        self.app = app
        self._apps = apps
        self._paths = paths

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the inner awaitable, so this layer adds no frame to a stream."""
        if scope["type"] == "http":
            exchange = exchange_of(scope)
            row = exchange.row
            if row is None or row.open:
                app = self._apps.get(exchange.endpoint, self._refuse)
                return app(scope, receive, send)
        return self.app(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = plain_path(scope["path"]) or "/"
        if path == "/v1" or path.startswith("/v1/"):
            raise Problem(
                "endpoint_not_allowed", message=_not_offered(exchange_of(scope).error_style)
            )
        if not self._lacks_version(path):
            raise Problem("not_found")
        # The usual reason is a base URL without /v1.
        said = "There is nothing at this address. Put /v1 at the end of the base URL."
        raise Problem("not_found", message=said)

    def _lacks_version(self, path: str) -> bool:
        """Whether `path` is in the table with a /v1 between its first parts."""
        parts = path.split("/", 4)
        versioned = ("/".join((*parts[:n], "v1", *parts[n:])) for n in range(1, len(parts)))
        return any(self._paths.find(other) is not None for other in versioned)


def _not_offered(style: ErrorStyle) -> str | None:
    """The text at an unknown path; None where the operator's is sent: the table's own names a
    key."""
    kind = "endpoint_not_allowed"
    if style.kind(kind).message != KINDS[kind].message:
        return None
    return f"{style.brand} does not offer this endpoint."
