"""Who is calling: an API key, or the client's address where no key is needed."""

import re
from collections.abc import Callable, Collection
from hashlib import sha256
from time import time
from typing import Literal

from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.keys.base import LONGEST_SECRET
from middlewares.stores.keys.directory import KeyDirectory

from .asgi import ASGIApp, Receive, Scope, Send, refuse_scope, subscriber, within
from .exchange import Exchange, Principal, exchange_of
from .problem import Problem

_CLIMBS = re.compile(r"(?:^|/)\.\.?(?:/|$)|\\|//")
"""A path that a server behind may read as another one: it is not exempt."""
_CARRIERS = frozenset({b"authorization", b"x-api-key"})
"""Headers that may hold a key."""


class AuthMiddleware:
    """Let through whoever has a valid key, as a principal; or everybody, by address.

    The key comes as `Authorization: Bearer KEY` (RFC 6750) or `x-api-key: KEY`; two that differ
    are refused. Only its SHA-256 leaves this file. Whatever is wrong with a key, the caller reads
    the same; the log has the reason. In mode "none" no header is read, and the address is the
    principal, of IPv6 its /64.

    exempt: paths that need no key, as `scope["path"]` has them; one that ends in `/*` stands for
    all below it. Whoever comes there has no principal.

    Reads:   client, endpoint
    Writes:  principal
    Rejects: missing_key, invalid_key, endpoint_not_allowed, upstream_unavailable
    Order:   inside the address limit, outside all that spends memory or money on a caller
    Cost:    one SHA-256 and one look-up; a query for a key not seen lately
    """

    __slots__ = ("_below", "_clock", "_exempt", "_keys", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyDirectory | None = None,
        mode: Literal["keys", "none"] = "keys",
        exempt: Collection[str] = (),
        clock: Callable[[], float] = time,
    ) -> None:
        if mode not in ("keys", "none"):
            raise ValueError(f"mode {mode!r}: expected 'keys' or 'none'")
        if mode == "keys" and keys is None:
            raise ValueError("keys None: expected a KeyDirectory, as mode is 'keys'")
        if isinstance(exempt, str) or not all(path.startswith("/") for path in exempt):
            raise ValueError(f"exempt {exempt!r}: expected paths such as '/health' or '/static/*'")
        self.app = app
        self._exempt = frozenset(exempt)
        self._below = tuple(path[:-1] for path in exempt if path.endswith("/*"))
        self._keys = keys if mode == "keys" else None
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http":
            if kind == "lifespan":
                return await self.app(scope, receive, send)
            return await refuse_scope(scope, receive, send)
        if self._exempt and self._is_exempt(scope["path"]):
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        keys = self._keys
        if keys is None:
            exchange.principal = Principal(subscriber(_address(exchange, scope)) or "unknown")
            return await self.app(scope, receive, send)

        secret = b""
        for name, value in scope["headers"]:
            if name not in _CARRIERS:
                continue
            if name == b"authorization":
                if value[:7].lower() != b"bearer ":
                    continue  # another scheme, or none: not a key
                given = value[7:].strip()
            else:
                given = value.strip()
            if given and given != secret:
                if secret:
                    return await _invalid("two different keys")(scope, receive, send)
                secret = given
        if not secret:
            return await Problem("missing_key", reason="no key")(scope, receive, send)
        if len(secret) > LONGEST_SECRET:
            return await _invalid(f"a key of {len(secret)} bytes")(scope, receive, send)

        digest = sha256(secret).digest()
        grant = keys.peek(digest)
        if grant is None:
            try:
                grant = await keys.find(digest)
            except StoreUnavailable as raised:
                problem = Problem("upstream_unavailable", reason=f"key store: {raised}")
                return await problem(scope, receive, send)
            if grant is None:
                return await _invalid("no such key")(scope, receive, send)
        if self._clock() >= grant.until:
            problem = _invalid(f"key {grant.key.id} is {grant.key.refusal(digest)}")
            return await problem(scope, receive, send)
        if grant.networks is not None:
            address = _address(exchange, scope)
            if not within(address, grant.networks):
                problem = _invalid(f"key {grant.key.id} may not be used from {address!r}")
                return await problem(scope, receive, send)
        principal = grant.principal
        if principal.endpoints is not None and exchange.endpoint not in principal.endpoints:
            problem = Problem(
                "endpoint_not_allowed",
                reason=f"key {grant.key.id} may not use {exchange.endpoint!r}",
            )
            return await problem(scope, receive, send)
        exchange.principal = principal
        await self.app(scope, receive, send)

    def _is_exempt(self, path: str) -> bool:
        return path in self._exempt or (
            path.startswith(self._below) and not _CLIMBS.search(path) if self._below else False
        )


def _invalid(reason: str) -> Problem:
    return Problem("invalid_key", reason=reason)


def _address(exchange: Exchange, scope: Scope) -> str:
    """The address of the caller, as the router worked it out, else as the socket has it."""
    if exchange.client:
        return exchange.client
    client = scope.get("client")
    return str(client[0]) if client else ""
