"""The effective configuration by an allow-list, and which workers run it."""

from starlette.responses import Response

from edge.dashboard.config_view import config_lines
from edge.dashboard.page import ADMINS, Page
from edge.dashboard.request import DashboardRequest


async def configuration(request: DashboardRequest) -> Response:
    """The page."""
    parts = request.parts
    return request.render(
        "admin/config.html",
        lines=config_lines(parts.settings),
        snapshot=parts.snapshot,
        loaded=parts.loaded,
        gateway={"workers": (), "last_reload": None, **await parts.status()},
    )


PAGES = (Page("/app/admin/config", ("GET",), ADMINS, configuration, "Configuration"),)
