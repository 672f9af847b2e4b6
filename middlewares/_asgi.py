"""ASGI type aliases and header look-up. No I/O, no state."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Header = tuple[bytes, bytes]
"""A header as ASGI carries it: lower-case name, value, both latin-1 bytes."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of header `name` (lower case) in a request scope, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return value  # type: ignore[no-any-return]
    return None


def without(headers: Iterable[Header], *names: bytes) -> list[Header]:
    """`headers` as a new list, less every header whose name is in `names`."""
    return [pair for pair in headers if pair[0] not in names]
