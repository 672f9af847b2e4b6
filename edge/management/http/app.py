"""The ASGI app of the management API: access and routes.

Without a token the API is off: every path below /admin/v1 is 404. Requests with an `Origin` are
refused, so that no web page can call it; cookies and API keys give no access. Only `scope["path"]`
and the token decide; the Host header does not.
"""

import hmac
from collections.abc import Awaitable, Callable, Collection, Mapping
from time import time
from typing import Any

import orjson
from starlette.routing import Route, Router

from edge.billing.period import UsageRefused
from edge.billing.usage_report import UsageReport
from edge.config.load import Settings
from edge.management.fields import Refused
from edge.routing.catalog import Catalog
from edge.routing.paths import plain_path
from middlewares.asgi import Receive, Scope, Send, header, send_json
from middlewares.body import refuse
from middlewares.exchange import Exchange
from middlewares.problem import Problem, expected, invalid_value
from middlewares.stores.audit.base import AuditStore
from middlewares.stores.errors import CountersUnavailable, StoreUnavailable
from middlewares.stores.keys.base import KeyStore
from middlewares.stores.teams.base import TeamStore

from .admin_request import AdminRequest
from .csv_file import CsvFile
from .keys import Keys
from .money import Money
from .teams import Teams

_UNREAD = ("request_too_large", "request_timeout", "unsupported_media_type")
"""Refusals after which the client may still be sending its body."""

Answer = tuple[int, Mapping[str, Any] | CsvFile]
Handler = Callable[[AdminRequest], Awaitable[Answer]]


class AdminApp:
    """/admin/v1 and everything below it.

    token: the token of callers; None turns the API off. keys, teams, audit: stores.
    usage_report: reads limits, counters and ledger. origins: web origins that may call it.
    """

    def __init__(
        self,
        *,
        token: str | None,
        settings: Settings,
        catalog: Catalog,
        keys: KeyStore,
        teams: TeamStore,
        audit: AuditStore,
        usage_report: UsageReport,
        origins: Collection[str] = (),
        clock: Callable[[], float] = time,
    ) -> None:
        if token is not None and not token:
            raise ValueError("token '': expected at least one character, or None for no admin API")
        self._token = None if token is None else token.encode()
        self._origins = frozenset(origin.encode() for origin in origins)
        keys_ = Keys(settings, catalog, keys, teams, audit, clock)
        teams_ = Teams(settings, teams, audit, clock)
        money = Money(settings, keys, teams, audit, usage_report, clock)
        self._routes = Router(
            [
                Route("/admin/v1/keys", Resource(GET=keys_.page, POST=keys_.create)),
                Route("/admin/v1/keys/{id}", Resource(GET=keys_.show, PATCH=keys_.edit)),
                Route("/admin/v1/keys/{id}/rotate", Resource(POST=keys_.rotate)),
                Route("/admin/v1/keys/{id}/revoke", Resource(POST=keys_.revoke)),
                Route("/admin/v1/keys/{id}/limits", Resource(GET=money.limits)),
                Route(
                    "/admin/v1/keys/{id}/credits", Resource(GET=money.credits, POST=money.credit)
                ),
                Route("/admin/v1/teams", Resource(GET=teams_.page, POST=teams_.create)),
                Route("/admin/v1/teams/{id}", Resource(GET=teams_.show, PATCH=teams_.edit)),
                Route("/admin/v1/teams/{id}/limits", Resource(GET=money.team_limits)),
                Route(
                    "/admin/v1/teams/{id}/credits",
                    Resource(GET=money.team_credits, POST=money.team_credit),
                ),
                Route("/admin/v1/plans", Resource(GET=money.plans)),
                Route("/admin/v1/usage", Resource(GET=money.usage)),
                Route("/admin/v1/ledger", Resource(GET=money.ledger)),
                Route("/admin/v1/ledger/{id}", Resource(GET=money.entry)),
                Route("/admin/v1/audit", Resource(GET=money.audit)),
            ],
            redirect_slashes=False,
            default=_not_found,
        )

    @property
    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Methods by path; `{id}` stands for an id."""
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
        except Refused as raised:
            raise _refused(raised.field, raised.expected) from None
        except UsageRefused as raised:
            raise expected(raised.field, raised.expected) from None
        except StoreUnavailable as raised:
            raise Problem("store_unavailable", reason=f"store: {raised}") from raised
        except CountersUnavailable as raised:
            raise Problem("store_unavailable", reason=f"counters: {raised}") from raised
        exchange.outcome = exchange.outcome or "completed"

    def _admit(self, scope: Scope) -> None:
        """Check origin and token. Raises Problem."""
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
                message="The token of the management API is wrong.",
                reason="a wrong admin token",
            )


class Resource:
    """One path: a handler for each method."""

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
            status, content = await handler(AdminRequest(scope, receive))
        except Problem as problem:
            if problem.kind not in _UNREAD:
                raise
            return await refuse(problem, scope, receive, send)
        if isinstance(content, CsvFile):
            return await content(scope, receive, send)
        await send_json(scope, send, orjson.dumps(content), status)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem("not_found")


def _refused(field: str, sentence: str) -> Problem:
    """The problem of a refused operation. Its sentence need not begin with what was expected."""
    return invalid_value(field, sentence, issue=sentence)
