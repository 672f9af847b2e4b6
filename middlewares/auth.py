"""Authentication by API key, or by client address where no key is needed."""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from hashlib import sha256
from time import time
from typing import Literal

from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.keys.base import LONGEST_SECRET
from middlewares.stores.keys.directory import KeyDirectory
from middlewares.stores.keys.known_grants import Grant

from .asgi import ASGIApp, Entered, Header, Receive, Scope, Send, refuse_scope, subscriber, within
from .exchange import Exchange, Principal, client_of, exchange_of
from .problem import Problem

_AMBIGUOUS = re.compile(r"(?:^|/)\.\.?(?:/|$)|\\|//")
"""Paths that an inner server may resolve to another path: never exempt."""
_KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})
"""Headers that may hold a key."""


class AuthMiddleware(Entered):
    """Authenticate callers by API key; without keys, identify them by address.

    The key comes as `Authorization: Bearer KEY` (RFC 6750) or `x-api-key: KEY`; two different keys
    are refused. Only its SHA-256 leaves this file. The caller gets the same error whatever is wrong
    with a key; the log has the reason. In mode "none" no header is read, and the principal is the
    address, or its /64 for IPv6.

    undecided: whether the endpoint of a request depends on its body; the layer that decides it
        checks the allow-list of the key. None: it never does.
    exempt: paths that need no key, compared with `scope["path"]`; a path that ends in `/*` exempts
        all below it. A request to one has no principal.

    Reads:   client, endpoint
    Writes:  principal
    Rejects: missing_key, invalid_key, endpoint_not_allowed, upstream_unavailable
    Order:   inside the address limit, outside all that uses memory or money for a caller
    Cost:    one SHA-256 and one lookup; a query for a key that is not cached
    """

    __slots__ = ("_clock", "_exempt", "_exempt_prefixes", "_keys", "_undecided", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyDirectory | None = None,
        mode: Literal["keys", "none"] = "keys",
        exempt: Collection[str] = (),
        undecided: Callable[[Exchange], bool] | None = None,
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
        self._exempt_prefixes = tuple(path[:-1] for path in exempt if path.endswith("/*"))
        self._keys = keys if mode == "keys" else None
        self._undecided = undecided
        self._clock = clock

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the inner awaitable where the key is in memory, so it adds no frame."""
        kind = scope["type"]
        if kind != "http":
            if kind == "lifespan":
                return self.app(scope, receive, send)
            return refuse_scope(scope, receive, send)
        if self._exempt and self._is_exempt(scope["path"]):
            return self.app(scope, receive, send)
        exchange = exchange_of(scope)
        keys = self._keys
        if keys is None:
            exchange.principal = Principal(subscriber(client_of(exchange, scope)) or "unknown")
            return self.app(scope, receive, send)
        secret = _secret(scope["headers"])
        if isinstance(secret, Problem):
            return secret(scope, receive, send)
        digest = sha256(secret).digest()
        grant = keys.peek(digest)
        if grant is None:
            return self._find(keys, digest, exchange, scope, receive, send)
        return self._granted(grant, digest, exchange, scope, receive, send)

    async def _find(
        self,
        keys: KeyDirectory,
        digest: bytes,
        exchange: Exchange,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Go on with a key that is not in memory."""
        try:
            grant = await keys.find(digest)
        except StoreUnavailable as raised:
            problem = Problem("upstream_unavailable", reason=f"key store: {raised}")
            return await problem(scope, receive, send)
        if grant is None:
            return await _invalid("no such key")(scope, receive, send)
        await self._granted(grant, digest, exchange, scope, receive, send)

    def _granted(
        self,
        grant: Grant,
        digest: bytes,
        exchange: Exchange,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> Awaitable[None]:
        """Go on with a known key."""
        client = "" if grant.networks is None else client_of(exchange, scope)
        endpoint: str | None = exchange.endpoint
        if self._undecided is not None and self._undecided(exchange):
            endpoint = None
        refused = refusal(grant, digest, client, endpoint, self._clock())
        if refused is not None:
            return refused(scope, receive, send)
        exchange.principal = grant.principal
        return self.app(scope, receive, send)

    def _is_exempt(self, path: str) -> bool:
        return path in self._exempt or (
            path.startswith(self._exempt_prefixes) and not _AMBIGUOUS.search(path)
            if self._exempt_prefixes
            else False
        )


def _secret(headers: Iterable[Header]) -> bytes | Problem:
    """The key in the headers of a request, or why there is none."""
    secret = b""
    for name, value in headers:
        if name not in _KEY_HEADERS:
            continue
        if name == b"authorization":
            if value[:7].lower() != b"bearer ":
                continue  # another scheme, or none: not a key
            given = value[7:].strip()
        else:
            given = value.strip()
        if given and given != secret:
            if secret:
                return _invalid("two different keys")
            secret = given
    if not secret:
        return Problem("missing_key", reason="no key")
    if len(secret) > LONGEST_SECRET:
        return _invalid(f"a key of {len(secret)} bytes")
    return secret


def refusal(
    grant: Grant, digest: bytes, client: str, endpoint: str | None, now: float
) -> Problem | None:
    """Why a known key may not be used; None where it may.

    client: address of the caller. endpoint: None checks none. now: Unix seconds.
    """
    key, principal = grant.key, grant.principal
    if now >= grant.until:
        return _invalid(f"key {key.id} is {grant.refusal(digest, now)}")
    if grant.networks is not None and not within(client, grant.networks):
        return _invalid(f"key {key.id} may not be used from {client!r}")
    endpoints = principal.endpoints
    if endpoints is not None and endpoint is not None and endpoint not in endpoints:
        reason = f"key {key.id} may not use {endpoint!r}"
        return Problem("endpoint_not_allowed", reason=reason)
    return None


def _invalid(reason: str) -> Problem:
    return Problem("invalid_key", reason=reason)
