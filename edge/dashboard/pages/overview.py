"""What a key may still use: windows, credits, rates, spend. Read without passing any limit."""

from decimal import Decimal
from typing import Any

from starlette.responses import RedirectResponse, Response

from edge.billing.period import DAY, last_days, moment
from edge.dashboard.formats import share
from edge.dashboard.page import SIGNED_IN, Page
from edge.dashboard.problem_hints import what_to_do
from edge.dashboard.request import DashboardRequest
from middlewares.pricing import decimal
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.base import Wanted

_FAILED = 5
_WARNED = 80
"""Percent of a window at which a banner says so."""


async def overview(request: DashboardRequest) -> Response:
    """The page. Administrators without a key go on to their own overview, others to their keys."""
    choices = await request.keys()
    if not choices and not request.query.get("key"):
        pages = {page.path for page in request.nav}
        path = "/app/admin" if request.visitor.role == "admin" else "/app/api-keys"
        return RedirectResponse(path if path in pages else "/app/account", 303)
    return request.render("overview.html", **await _figures(request), choices=choices)


async def live(request: DashboardRequest) -> Response:
    """The figures alone, which the page asks for again and again."""
    return request.render("fragments/overview.html", **await _figures(request))


async def _figures(request: DashboardRequest) -> dict[str, Any]:
    key = await request.key()
    principal = await request.principal(key)
    limits = await request.parts.usage_report.limits(principal)
    await request.parts.flush()
    week = last_days(7, request.now)
    sums = await request.parts.ledger.sums(key.id, week.since, week.until)
    today = str(moment(week.until - DAY))[:10]
    levels = [("", limits), *((("team", limits["team"]),) if limits.get("team") else ())]
    windows = [
        _window(window, whose, level["credits"])
        for whose, level in levels
        for window in level["windows"]
    ]
    return {
        "key": key,
        "limits": limits,
        "team": limits.get("team"),
        "windows": windows,
        "longest_wait": str(request.parts.settings.limits.throttle_max_wait),
        "failed": await _failed(request, key),
        "warned": [window for window in windows if window["percent"] >= _WARNED],
        "spent_today": decimal(sum(one.cost for one in sums if one.day == today)),
        "spent_week": decimal(sum(one.cost for one in sums)),
        "requests_today": sum(one.requests for one in sums if one.day == today),
        "requests_week": sum(one.requests for one in sums),
    }


async def _failed(request: DashboardRequest, key: Key) -> list[dict[str, Any]]:
    """The last requests that failed before anything was answered, and what to do about them."""
    wanted = Wanted(account=key.id, kind="use", purpose="", ended="failed")
    rows = await request.parts.ledger.search(wanted, limit=_FAILED)
    found = []
    for row in rows.rows:
        problems = [attempt.problem for attempt in row.attempts if attempt.problem]
        problem = problems[-1] if problems else ""
        found.append({"row": row, "problem": problem, "hint": what_to_do(problem)})
    return found


def _window(window: dict[str, Any], whose: str, prepaid: dict[str, Any] | None) -> dict[str, Any]:
    percent = share(window["used"], window["cap"])
    calendar = window["length"] == "calendar month"
    return {
        **window,
        "whose": whose,
        "percent": percent,
        "credits_pay": prepaid is not None and Decimal(prepaid["balance"]) > 0,
        "name": "Calendar month" if calendar else f"{window['length']} window",
        "kind": "from the first of each month, UTC" if calendar else "from its first request",
    }


PAGES = (
    Page("/app", ("GET",), SIGNED_IN, overview, "Overview"),
    Page("/app/overview/live", ("GET",), SIGNED_IN, live),
)
