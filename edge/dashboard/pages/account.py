"""The visitor's own sessions and preferences."""

from starlette.responses import RedirectResponse, Response

from edge.dashboard.page import SIGNED_IN, Page
from edge.dashboard.preferences import read_preferences
from edge.dashboard.request import DashboardRequest


async def account(request: DashboardRequest) -> Response:
    """Sessions, theme and zone."""
    session = request.visitor.session
    sessions = await request.parts.sessions.of_subject(session.how, session.subject)
    return request.render(
        "account.html",
        session=session,
        sessions=[one for one in sessions if not one.ended(request.now)],
    )


async def save_preferences(request: DashboardRequest) -> Response:
    """Keep theme and zone in a cookie of this browser."""
    chosen = read_preferences(await request.field("theme"), await request.field("times"))
    response = request.redirect("/app/account", note="preferences_saved")
    response.headers.append("set-cookie", chosen.set_cookie)
    return response


async def sign_out_everywhere(request: DashboardRequest) -> Response:
    """End all sessions of this key or identity."""
    await request.sessions.close_all(request.visitor)
    cookie = await request.sessions.close(request.scope)
    return RedirectResponse("/app/sign-in?note=signed_out", 303, headers={"set-cookie": cookie})


NOTES = {"preferences_saved": "Saved for this browser."}

PAGES = (
    Page("/app/account", ("GET",), SIGNED_IN, account, "Account"),
    Page("/app/account/preferences", ("POST",), SIGNED_IN, save_preferences),
    Page("/app/account/sign-out-everywhere", ("POST",), SIGNED_IN, sign_out_everywhere),
)
