"""Who changed what, and when."""

from starlette.responses import Response

from edge.dashboard.links import link
from edge.dashboard.page import ADMINS, Page
from edge.dashboard.request import DashboardRequest

from .changes import ROWS


async def audit(request: DashboardRequest) -> Response:
    """The rows, newest first."""
    query = request.query
    subject, text = query.get("subject", "").strip()[:200], query.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    found = await request.parts.audit.page(subject=subject or None, before=before, limit=ROWS + 1)
    more, rows = len(found) > ROWS, found[:ROWS]
    return request.render(
        "admin/audit.html",
        rows=rows,
        subject=subject,
        first=before is None,
        newest=link(request.path, query, before=None),
        older=link(request.path, query, before=str(rows[-1].id)) if more else "",
    )


PAGES = (Page("/app/admin/audit", ("GET",), ADMINS, audit, "Audit"),)
