"""What the gateway does now: traffic, spend, workers, upstreams, and what needs attention."""

from typing import Any

from starlette.responses import Response

from edge.billing.period import last_days
from edge.dashboard.page import ADMINS, Page
from edge.dashboard.recent import recent
from edge.dashboard.request import DashboardRequest
from edge.management.advice import advice

_TOP = 10


async def overview(request: DashboardRequest) -> Response:
    """The page."""
    return request.render("admin/overview.html", **await _figures(request))


async def live(request: DashboardRequest) -> Response:
    """The figures alone, which the page asks for again and again."""
    return request.render("admin/overview_live.html", **await _figures(request))


async def _figures(request: DashboardRequest) -> dict[str, Any]:
    parts = request.parts
    await parts.flush()
    month, today = last_days(30, request.now), last_days(1, request.now)
    by_day = await parts.ledger.grouped(("day",), since=month.since, until=month.until)
    of_today = await parts.ledger.grouped(("model",), since=today.since, until=today.until)
    conditions = parts.health.conditions() if parts.health is not None else {}
    status = await parts.status()
    return {
        "recent": await recent(parts.ledger, request.now),
        "month": by_day.total,
        "today": of_today.total,
        "models": sorted(of_today.groups, key=lambda group: -group.spend.cost)[:_TOP],
        "keys": await parts.ledger.top_keys(request.now, _TOP),
        "gateway": {"workers": (), "last_reload": None, **status},
        "running": status.get("requests", 0),
        "streams": status.get("streams", 0),
        "queued": status.get("queued", 0),
        "targets": sorted(
            (
                (target.name, condition)
                for target, condition in conditions.items()
                if condition.state != "closed"
            ),
            key=lambda pair: pair[0],
        ),
        "known_targets": len(conditions),
        "warnings": advice(parts.settings),
        "digest": "" if parts.snapshot is None else parts.snapshot.digest,
    }


PAGES = (
    Page("/app/admin", ("GET",), ADMINS, overview, "Gateway"),
    Page("/app/admin/live", ("GET",), ADMINS, live),
)
