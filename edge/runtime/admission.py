"""Admission of requests by the free file descriptors of a worker."""

import logging
from collections.abc import Awaitable, Callable, Collection

from middlewares.asgi import ASGIApp, Header, Receive, Scope, Send
from middlewares.body import discard
from middlewares.exchange import exchange_of
from middlewares.problem import Problem

_log = logging.getLogger(__name__)

_CALM = 0.9
"""Share of the bound at which refusals are over, so that the log does not alternate."""
_CLOSE: tuple[Header, ...] = ((b"connection", b"close"),)


class Admission:
    """The bound on the open requests of a worker, and the number of refused ones. All
    configurations of the worker share it.

    most: None is no bound. count: the number of open requests, with the present one.
    """

    def __init__(self, most: int | None, count: Callable[[], int]) -> None:
        self.most = most
        self.refused = 0
        self._count = count
        self._since = 0
        self._refusing = False

    def full(self) -> bool:
        """Whether the present request is beyond the bound. Logs the end of refusals."""
        if self.most is None:
            return False
        count = self._count()
        if count > self.most:
            return True
        if self._refusing and count <= self.most * _CALM:
            self._refusing = False
            _log.warning(
                "file descriptors are available again; %d requests were refused",
                self.refused - self._since + 1,
            )
        return False

    def refuse(self) -> None:
        """Count a refused request. Logs the first."""
        self.refused += 1
        if not self._refusing:
            self._refusing = True
            self._since = self.refused
            _log.error(
                "%d requests are open and no file descriptors are left: refusing further ones",
                self.most,
            )


class AdmissionMiddleware:
    """Refuse requests beyond the file descriptors of the worker, and close their connections.

    free: endpoints that are always admitted.

    Reads:   endpoint
    Writes:  nothing
    Rejects: upstream_unavailable
    Order:   inside the router, which names the endpoint; outside all that costs
    Cost:    one call and one comparison
    """

    __slots__ = ("_admission", "_free", "app")

    def __init__(self, app: ASGIApp, *, admission: Admission, free: Collection[str] = ()) -> None:
        self.app = app
        self._admission = admission
        self._free = frozenset(free)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return the awaitable of the inner app, so that streams pass no frame of this layer."""
        if (
            self._admission.full()
            and scope["type"] == "http"
            and exchange_of(scope).endpoint not in self._free
        ):
            self._admission.refuse()
            return self._refuse(scope, receive, send)
        return self.app(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = Problem(
            "upstream_unavailable",
            reason=f"no file descriptors for more than {self._admission.most} requests",
            headers=_CLOSE if scope.get("http_version", "1.1") in ("1.0", "1.1") else (),
        )
        await problem(scope, receive, send)
        await discard(receive, seconds=1.0)
