"""Usage and requests of all keys."""

from typing import get_args

from starlette.responses import Response

from edge.dashboard.page import ADMINS, Page
from edge.dashboard.pages.requests import detail_page, list_page
from edge.dashboard.pages.usage_charts import By, Subject, usage_csv, usage_page
from edge.dashboard.request import DashboardRequest
from middlewares.stores.ledger.base import Wanted
from middlewares.stores.ledger.spend import Filters

_BY: tuple[By, ...] = get_args(By)


async def usage(request: DashboardRequest) -> Response:
    """The page."""
    return await usage_page(request, _subject(request))


async def as_csv(request: DashboardRequest) -> Response:
    """Its numbers as CSV."""
    return await usage_csv(request, _subject(request))


def _subject(request: DashboardRequest) -> Subject:
    query = request.query
    given = {
        name: query[name][:200]
        for name in ("key", "team", "owner", "model", "tag")
        if query.get(name)
    }
    by: By = next((one for one in _BY if one == query.get("by")), "model")
    about = ", ".join(f"{name} {value}" for name, value in given.items())
    return Subject(
        path="/app/admin/usage",
        title="Usage",
        about=f"What was used: {about}." if about else "What all keys used.",
        filters=Filters(**given),
        by=by,
        choices=_BY,
    )


async def requests(request: DashboardRequest) -> Response:
    """The list."""
    about = "What all keys asked for, newest first."
    return await list_page(request, about, Wanted(), operator=True)


async def detail(request: DashboardRequest) -> Response:
    """One request, with its upstreams and attempts."""
    return await detail_page(request, None, operator=True)


PAGES = (
    Page("/app/admin/usage", ("GET",), ADMINS, usage, "All usage"),
    Page("/app/admin/usage.csv", ("GET",), ADMINS, as_csv),
    Page("/app/admin/requests", ("GET",), ADMINS, requests, "All requests"),
    Page("/app/admin/requests/{id}", ("GET",), ADMINS, detail),
)
