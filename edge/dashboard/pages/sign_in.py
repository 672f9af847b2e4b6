"""Sign in and out."""

from starlette.responses import RedirectResponse, Response

from edge.dashboard.page import ANYONE, Page
from edge.dashboard.public_url import next_page
from edge.dashboard.request import DashboardRequest

LONGEST = 300
"""Characters of a key or a password."""
WRONG_KEY = "This key does not open the dashboard: it is wrong, expired, revoked or disabled."


def _shown(request: DashboardRequest, next_: str, wrong: str = "", status: int = 200) -> Response:
    return request.render(
        "sign_in.html",
        status,
        next=next_,
        wrong=wrong,
        fault=request.sessions.fault(request.scope),
        keyless=request.parts.directory is None,
    )


async def sign_in(request: DashboardRequest) -> Response:
    """The forms."""
    next_ = next_page(request.query.get("next", "/app"))
    if request.signed_in:
        return RedirectResponse(next_, 303)
    return _shown(request, next_)


async def with_key(request: DashboardRequest) -> Response:
    """Sign in by API key."""
    next_ = next_page((await request.form()).get("next", [""])[-1])
    if request.sessions.fault(request.scope):
        return _shown(request, next_, status=400)
    secret = await request.field("key", longest=LONGEST)
    cookie = await request.sessions.with_key(request.scope, secret)
    if cookie is None:
        return _shown(request, next_, WRONG_KEY, 401)
    return RedirectResponse(next_, 303, headers={"set-cookie": cookie})


async def with_password(request: DashboardRequest) -> Response:
    """Sign in by the administrators' password."""
    next_ = next_page((await request.form()).get("next", [""])[-1])
    if request.sessions.fault(request.scope):
        return _shown(request, next_, status=400)
    password = (await request.form()).get("password", [""])[-1][:LONGEST]
    cookie = await request.sessions.with_password(request.scope, password)
    if cookie is None:
        return _shown(request, next_, "The password is wrong.", 401)
    return RedirectResponse(next_, 303, headers={"set-cookie": cookie})


async def sign_out(request: DashboardRequest) -> Response:
    """End the session of this browser."""
    cookie = await request.sessions.close(request.scope)
    return RedirectResponse("/app/sign-in?note=signed_out", 303, headers={"set-cookie": cookie})


NOTES = {"signed_out": "You are signed out."}

PAGES = (
    Page("/app/sign-in", ("GET",), ANYONE, sign_in),
    Page("/app/sign-in", ("POST",), ANYONE, with_key),
    Page("/app/sign-in/password", ("POST",), ANYONE, with_password),
    Page("/app/sign-out", ("POST",), ANYONE, sign_out),
)
