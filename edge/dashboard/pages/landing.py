"""The page at /: what this gateway offers, for anyone."""

from starlette.responses import Response

from edge.dashboard.page import ANYONE, Page
from edge.dashboard.request import DashboardRequest
from edge.endpoints import ENDPOINTS
from edge.routing.public_url import public_url
from middlewares.exchange import Principal


async def landing(request: DashboardRequest) -> Response:
    """Models, and how to call them."""
    settings = request.parts.settings
    server = settings.server
    return request.render(
        "landing.html",
        base=public_url(request.scope, server.public_url, server.trusted_proxies),
        models=request.parts.catalog.visible(Principal(id="")),
        needs_key=settings.auth.mode == "keys",
        endpoints=[row.path.replace("*", "{id}") for row in ENDPOINTS],
        dashboard=settings.dashboard.enabled,
    )


PAGES = (Page("/", ("GET",), ANYONE, landing),)
