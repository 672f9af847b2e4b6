"""The way in to the management API, and its table of addresses.

Off without a token: everything below is then 404. Requests with an `Origin` are refused, so that no
page in a browser drives it, wherever that page says it comes from; no cookie and no API key opens
it. Decisions rest on `scope["path"]` and the token alone; a Host header has no part in them.
"""

import hmac
from collections.abc import Awaitable, Callable, Collection, Mapping
from time import time
from typing import Any

import orjson
from starlette.routing import Route, Router

from edge.catalog import Catalog
from edge.keys import KeyRefused
from edge.money import MoneyRefused
from edge.period import PeriodRefused
from edge.routing.paths import plain_path
from edge.settings import Settings
from edge.statement import Statement
from middlewares._asgi import Receive, Scope, Send, header, send_json
from middlewares._body import refuse
from middlewares.exchange import Exchange
from middlewares.problem import Problem, expected, invalid_value
from middlewares.stores.audit import AuditStore
from middlewares.stores.counters import CountersUnavailable
from middlewares.stores.keys import KeyStore, StoreUnavailable

from .asked import Asked
from .keys import Keys
from .money import Money

_UNREAD = ("request_too_large", "request_timeout", "unsupported_media_type")
"""Refusals behind which the client may still be sending."""

Answer = tuple[int, Mapping[str, Any]]
Handler = Callable[[Asked], Awaitable[Answer]]


class AdminApp:
    """/admin/v1 and all below it.

    token: what a caller must have; None switches it off. keys, audit: stores. statement: looks at
    terms, counters and ledger. origins: web origins that may call all the same.
    """

    def __init__(
        self,
        *,
        token: str | None,
        settings: Settings,
        catalog: Catalog,
        keys: KeyStore,
        audit: AuditStore,
        statement: Statement,
        origins: Collection[str] = (),
        clock: Callable[[], float] = time,
    ) -> None:
        if token is not None and not token:
            raise ValueError("token '': expected at least one character, or None for no admin API")
        self._token = None if token is None else token.encode()
        self._origins = frozenset(origin.encode() for origin in origins)
        one = Keys(settings, catalog, keys, audit, clock)
        other = Money(settings, keys, audit, statement, clock)
        self._routes = Router(
            [
                Route("/admin/v1/keys", Resource(GET=one.page, POST=one.create)),
                Route("/admin/v1/keys/{id}", Resource(GET=one.show, PATCH=one.edit)),
                Route("/admin/v1/keys/{id}/rotate", Resource(POST=one.rotate)),
                Route("/admin/v1/keys/{id}/revoke", Resource(POST=one.revoke)),
                Route("/admin/v1/keys/{id}/limits", Resource(GET=other.limits)),
                Route(
                    "/admin/v1/keys/{id}/credits", Resource(GET=other.credits, POST=other.credit)
                ),
                Route("/admin/v1/plans", Resource(GET=other.plans)),
                Route("/admin/v1/usage", Resource(GET=other.usage)),
                Route("/admin/v1/ledger", Resource(GET=other.ledger)),
                Route("/admin/v1/ledger/{id}", Resource(GET=other.entry)),
                Route("/admin/v1/audit", Resource(GET=other.audit)),
            ],
            redirect_slashes=False,
            default=_nowhere,
        )

    @property
    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Methods by path; an id stands as `{id}`."""
        return {
            route.path: route.app.methods
            for route in self._routes.routes
            if isinstance(route, Route) and isinstance(route.app, Resource)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._admit(scope)
        exchange = Exchange.of(scope)
        try:
            await self._routes({**scope, "path": plain_path(scope["path"])}, receive, send)
        except (KeyRefused, MoneyRefused) as raised:
            raise _refused(raised.field, raised.expected) from None
        except PeriodRefused as raised:
            raise expected(raised.field, raised.expected) from None
        except StoreUnavailable as raised:
            raise Problem("store_unavailable", reason=f"store: {raised}") from raised
        except CountersUnavailable as raised:
            raise Problem("store_unavailable", reason=f"counters: {raised}") from raised
        exchange.outcome = exchange.outcome or "completed"

    def _admit(self, scope: Scope) -> None:
        """Raises Problem for whoever may not come in."""
        if self._token is None:
            raise Problem("not_found", reason="there is no auth.admin_token")
        origin = header(scope, b"origin")
        if origin is not None and origin not in self._origins:
            raise Problem(
                "endpoint_not_allowed",
                message="The management API does not answer to web pages.",
                reason="a request with an Origin",
            )
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given or given[0][:7].lower() != b"bearer " or not given[0][7:].strip():
            raise Problem(
                "missing_key",
                message="The management API needs its token: send `Authorization: Bearer TOKEN`.",
                reason="no admin token",
            )
        if len(given) > 1 or not hmac.compare_digest(given[0][7:].strip(), self._token):
            raise Problem(
                "invalid_key",
                message="The token of the management API is not this one.",
                reason="a wrong admin token",
            )


class Resource:
    """One address: a handler for each method."""

    def __init__(self, **handlers: Handler) -> None:
        self._handlers = handlers
        self.methods = (*handlers, *(("HEAD",) if "GET" in handlers else ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        handler = self._handlers.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(self.methods).encode()
            raise Problem("method_not_allowed", headers=((b"allow", allowed),))
        try:
            status, content = await handler(Asked(scope, receive))
        except Problem as problem:
            if problem.kind not in _UNREAD:
                raise
            return await refuse(problem, scope, receive, send)
        await send_json(scope, send, orjson.dumps(content), status)


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem("not_found")


def _refused(field: str, sentence: str) -> Problem:
    """Theirs are sentences of their own, which need not begin with what was expected."""
    return invalid_value(field, sentence, issue=sentence)
