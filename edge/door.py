"""Requests beyond what the file descriptors of a worker carry are refused at the door."""

import logging
from collections.abc import Awaitable, Callable, Collection

from middlewares._asgi import ASGIApp, Header, Receive, Scope, Send
from middlewares._body import discard
from middlewares.exchange import exchange_of
from middlewares.problem import Problem

_log = logging.getLogger(__name__)

_CALM = 0.9
"""Share of the most at which requests have room again: it is said once, not at every other one."""
_CLOSE: tuple[Header, ...] = ((b"connection", b"close"),)


class Door:
    """How many requests a worker may have open, and how many it has refused for that. One for all
    editions.

    most: None is no bound. count: how many are open, the one that asks among them.
    """

    def __init__(self, most: int | None, count: Callable[[], int]) -> None:
        self.most = most
        self.refused = 0
        self._count = count
        self._since = 0
        self._refusing = False

    def full(self) -> bool:
        """Whether one more is too many. Says in the log when that is over."""
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
        """Count a request that is refused. Says in the log when that begins."""
        self.refused += 1
        if not self._refusing:
            self._refusing = True
            self._since = self.refused
            _log.error(
                "%d requests are open and no file descriptors are left: refusing further ones",
                self.most,
            )


class DoorMiddleware:
    """Refuse a request that there are no descriptors for, and have its client reconnect.

    free: what the router calls requests that are let in all the same.

    Reads:   endpoint
    Writes:  nothing
    Rejects: upstream_unavailable
    Order:   inside the router, which names the endpoint; outside all that costs
    Cost:    one call and one comparison
    """

    __slots__ = ("_door", "_free", "app")

    def __init__(self, app: ASGIApp, *, door: Door, free: Collection[str] = ()) -> None:
        self.app = app
        self._door = door
        self._free = frozenset(free)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """The awaitable of what is inside: no frame of this layer stays on the way of a stream."""
        if (
            self._door.full()
            and scope["type"] == "http"
            and exchange_of(scope).endpoint not in self._free
        ):
            self._door.refuse()
            return self._refuse(scope, receive, send)
        return self.app(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = Problem(
            "upstream_unavailable",
            reason=f"no file descriptors for more than {self._door.most} requests",
            headers=_CLOSE if scope.get("http_version", "1.1") in ("1.0", "1.1") else (),
        )
        await problem(scope, receive, send)
        await discard(receive, seconds=1.0)
