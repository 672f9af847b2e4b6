"""ASGI types, and helpers for scopes, addresses and messages. No state."""

from collections.abc import (
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    MutableMapping,
)
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

BODILESS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
"""Methods whose requests have no body, unless a header announces one."""

Header = tuple[bytes, bytes]
"""An ASGI header: lower-case name and value, both latin-1 bytes."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of header `name` (lower case) in a request scope, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return value  # type: ignore[no-any-return]
    return None


class Entered:
    """A middleware that returns the awaitable of the app inside, so that a stream passes no frame
    of it.

    `enter` does its work; who composes the layers of an app may call that, unless a subclass has
    its own `__call__`. This one stays a coroutine function, by which servers recognise ASGI 3
    (uvicorn).
    """

    __slots__ = ()

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """The awaitable of the rest."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.enter(scope, receive, send)


async def refuse_scope(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a scope that a gatekeeper cannot check: close a WebSocket (RFC 6455, 1008).

    Raises RuntimeError for an unknown type.
    """
    if scope["type"] != "websocket":
        raise RuntimeError(f"cannot check a scope of type {scope['type']!r}")
    await receive()
    await send({"type": "websocket.close", "code": 1008})


Network = IPv4Network | IPv6Network


def within(address: str, networks: Iterable[Network]) -> bool:
    """Whether `address` is in one of `networks`; False for a text that is no address."""
    ip = _parsed(address)
    return ip is not None and any(ip in network for network in networks)


@lru_cache(4096)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip  # ::ffff:192.0.2.1 is 192.0.2.1


async def send_json(scope: Scope, send: Send, body: bytes, status: int = 200) -> None:
    """Answer with a JSON document; a HEAD request gets its headers."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def subscriber(address: str) -> str:
    """The address, or its /64 for IPv6, which is what one subscriber has (RFC 6177)."""
    return _network(address) if ":" in address else address


@lru_cache(4096)
def _network(address: str) -> str:
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(ip, "ipv4_mapped", None)  # ::ffff:192.0.2.1 is 192.0.2.1
    return str(mapped or ip_network((ip, 64), strict=False))


class OneUse(Generic[T]):
    """An awaitable that drops `awaitable` once it is awaited.

    Variables and arguments that refer to a finished coroutine would keep its frame.
    """

    __slots__ = ("_awaitable",)

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._awaitable: Awaitable[T] | None = awaitable

    def __await__(self) -> Generator[Any, Any, T]:
        awaitable, self._awaitable = self._awaitable, None
        assert awaitable is not None, "awaited twice"
        return awaitable.__await__()


def offer(send: Send, message: Message) -> Awaitable[None] | None:
    """Start to send from a callback, which cannot await.

    None if `send` took the message at once, as servers do while there is room; otherwise the
    awaitable of the rest, to await in a task before the next message.
    """
    steps = send(message).__await__()
    waits_for = next(steps, SENT)
    return None if waits_for is SENT else Rest(steps, waits_for)


SENT: Any = object()
"""What `next` gives for the steps of a `send` that did not wait: cheaper than StopIteration."""


class Rest:
    """The rest of an awaitable whose first step has been taken."""

    __slots__ = ("_steps", "_waits_for")

    def __init__(self, steps: Iterator[Any], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        # Like `yield from`, but awaitables of servers are often plain iterators, which have neither
        # `send` nor `throw`.
        steps, waits_for = self._steps, self._waits_for
        while True:
            try:
                try:
                    yield waits_for
                except BaseException as raised:
                    if not isinstance(steps, Generator):
                        raise
                    waits_for = steps.throw(raised)
                else:
                    waits_for = next(steps)
            except StopIteration:
                return
