"""The ASGI app of the dashboard: who may open which page, headers, errors.

The table of pages is gathered from `edge.dashboard.pages`. Each request passes, in this order:
static files, networks, the table, the check for other sites, the session, the role. A visitor
without the role gets the same answer as at a path that does not exist.
"""

import logging
from collections.abc import Mapping, Sequence

from starlette.responses import Response

from edge.billing.period import PeriodRefused
from edge.management.fields import Refused
from middlewares.asgi import Header, Message, Receive, Scope, Send, header
from middlewares.exchange import exchange_of
from middlewares.problem import Problem, invalid_value
from middlewares.stores.errors import CountersUnavailable, StoreUnavailable

from .page import ANYONE, Page, PageTable
from .pages import NOTES, PAGES
from .parts import DashboardParts
from .public_url import dashboard_url
from .request import DashboardRequest
from .sessions.cross_site import cross_site_fault
from .sessions.sessions import Sessions, sign_in_path
from .sign_in_ways import has_dashboard
from .static_files import PREFIX, static_files
from .templating import compile_all
from .visitor import Visitor

_log = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SECURITY: tuple[Header, ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_FRESH: Header = (b"cache-control", b"no-store")
_KEPT: Header = (b"cache-control", b"public, max-age=31536000, immutable")
_TITLES = {
    400: "That did not work",
    401: "Sign in again",
    403: "Not allowed",
    404: "Page not found",
    405: "Not possible here",
    429: "Too many attempts",
    503: "Try again in a moment",
}


class DashboardApp:
    """The pages at / and below /app."""

    def __init__(
        self,
        parts: DashboardParts,
        *,
        pages: Sequence[Page] = PAGES,
        notes: Mapping[str, str] = NOTES,
    ) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._sessions = Sessions(parts)
        self.table = PageTable(pages)
        self._notes = notes
        offered = parts.settings.offered
        self._nav = tuple(
            page
            for page in self.table.pages
            if page.nav and not (page.endpoints and offered.isdisjoint(page.endpoints))
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await compile_all()
        path = scope["path"]
        if path.startswith(PREFIX):  # also where the page at / is the only one
            response, kept = _static(scope), _KEPT
        else:
            if path != "/":
                self._admit(scope)
            response, kept = await self._answer(scope, receive), _FRESH
        head = scope["method"] == "HEAD"
        await response(scope, receive, _stamped(send, (*_SECURITY, kept), head=head))
        exchange = exchange_of(scope)
        exchange.outcome = exchange.outcome or "completed"

    def _admit(self, scope: Scope) -> None:
        """Raises Problem where the dashboard does not exist for this client."""
        if not has_dashboard(self._parts, scope):
            raise Problem("not_found", reason="dashboard.enabled is off, or dashboard.networks")

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        """The response, whatever happens."""
        request = self._request(scope, receive)
        try:
            rows, params = self.table.find(scope["path"])
            if not rows:
                raise Problem("not_found")
            page = next((row for row in rows if request.method in row.methods), None)
            if page is None:
                methods = [method for row in rows for method in row.methods]
                allowed = [*methods, *(["HEAD"] if "GET" in methods else [])]
                raise Problem(
                    "method_not_allowed", headers=((b"allow", ", ".join(allowed).encode()),)
                )
            if fault := cross_site_fault(scope, dashboard_url(scope, self._settings)):
                message = f"The form was not accepted: {fault}."
                raise Problem("endpoint_not_allowed", message=message, reason="cross-site")
            visitor = await self._visitor(scope, page)
            if visitor is None:
                if "anyone" not in page.roles:
                    return self._to_sign_in(request)
            elif page.roles != ANYONE and visitor.role not in page.roles:
                raise Problem("not_found", reason=f"a page for {', '.join(page.roles)}")
            request = self._request(scope, receive, params, visitor)
            return await page.handler(request)
        except Exception as raised:
            problem = problem_of(raised)
            if problem.kind == "internal":
                _log.exception("request %s raised", exchange_of(scope).request_id)
            return refused(request, problem)

    def _request(
        self,
        scope: Scope,
        receive: Receive,
        params: Mapping[str, str] = {},
        visitor: Visitor | None = None,
    ) -> DashboardRequest:
        role = None if visitor is None else visitor.role
        nav = tuple(page for page in self._nav if role in page.roles)
        return DashboardRequest(
            scope,
            receive,
            self._parts,
            params=params,
            visitor=visitor,
            nav=nav,
            notes=self._notes,
            sessions=self._sessions,
        )

    async def _visitor(self, scope: Scope, page: Page) -> Visitor | None:
        if not self._settings.dashboard.enabled:
            return None
        try:
            return await self._sessions.visitor(scope)
        except StoreUnavailable:
            if "anyone" not in page.roles:
                raise
            return None

    def _to_sign_in(self, request: DashboardRequest) -> Response:
        query = request.scope["query_string"].decode("latin-1")
        asked = request.path + (f"?{query}" if query else "")
        path = sign_in_path(asked if request.method == "GET" and not request.fragment else "/app")
        if request.fragment:
            return Response(status_code=401, headers={"hx-redirect": path})
        return Response(status_code=303, headers={"location": path})


def problem_of(raised: Exception) -> Problem:
    """The problem that an exception of a handler is answered with."""
    match raised:
        case Problem():
            return raised
        case Refused():
            return invalid_value(raised.field, raised.expected)
        case PeriodRefused():
            return invalid_value(raised.field, f"expected {raised.expected}")
        case StoreUnavailable():
            return Problem("store_unavailable", reason=f"store: {raised}")
        case CountersUnavailable():
            return Problem("store_unavailable", reason=f"counters: {raised}")
    return Problem("internal", reason=f"{type(raised).__name__}: {raised}")


def refused(request: DashboardRequest, problem: Problem) -> Response:
    """A problem as a page, or as a fragment for htmx."""
    exchange = request.exchange
    problem.answered(exchange)
    status = problem.status(exchange)
    response = request.render(
        "fragments/error.html" if request.fragment else "error.html",
        status,
        title=_TITLES.get(status, "Something went wrong"),
        message=problem.text(exchange),
        request_id=exchange.request_id,
    )
    for name, value in problem.headers:
        response.headers.append(name.decode(), value.decode())
    if problem.retry_after:
        response.headers["retry-after"] = str(problem.retry_after)
    return response


def _static(scope: Scope) -> Response:
    """A static file; its URL contains its hash, so it may be kept for ever."""
    file = static_files().get(scope["path"].removeprefix(PREFIX))
    if file is None or scope["method"] not in ("GET", "HEAD"):
        raise Problem("not_found")
    packed = b"gzip" in (header(scope, b"accept-encoding") or b"")
    response = Response(file.packed if packed else file.body, media_type=file.media_type)
    response.headers["vary"] = "accept-encoding"
    if packed:
        response.headers["content-encoding"] = "gzip"
    return response


def _stamped(send: Send, headers: Sequence[Header], *, head: bool) -> Send:
    """`send` that adds headers, and leaves the body out where HEAD is asked."""
    ours = frozenset(name for name, _ in headers)

    async def send_stamped(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [pair for pair in message.get("headers", ()) if pair[0] not in ours]
            message = {**message, "headers": [*given, *headers]}
        elif head and message.get("body"):
            message = {**message, "body": b""}
        await send(message)

    return send_stamped
