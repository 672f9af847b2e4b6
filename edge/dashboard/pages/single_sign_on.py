"""Sign-in by OpenID Connect: to the provider, and back."""

import logging

from starlette.responses import RedirectResponse, Response

from edge.dashboard.oidc.attempt import (
    PLAIN,
    SECURE,
    Attempt,
    attempt_cookie,
    opened,
    sealed,
)
from edge.dashboard.oidc.id_token import TokenRefused, verified
from edge.dashboard.oidc.identity import Identity, NotAdmitted, identity_of, rules_digest
from edge.dashboard.oidc.provider import CodeRefused, IdentityProvider, ProviderUnavailable
from edge.dashboard.page import ANYONE, Page
from edge.dashboard.public_url import is_secure, next_page
from edge.dashboard.request import DashboardRequest
from edge.dashboard.sessions.cookies import cookie
from middlewares.problem import Problem

CALLBACK = "/app/oidc/callback"
_LONGEST = 4000
_AWAY = (
    "The sign-in service does not answer as expected, so no one can sign in with it now. Try again "
    "in a minute, or sign in with an API key."
)
_BEGIN_AGAIN = (
    "The sign-in took too long, was already used, or was begun in another browser. Begin it again."
)
_NOT_ADMITTED = "Your account may not use this dashboard. Ask the operator of this gateway."
_NOT_GRANTED = "The sign-in service did not let you sign in."

_log = logging.getLogger(__name__)


def _provider(request: DashboardRequest) -> IdentityProvider:
    provider = request.parts.identity_provider
    if provider is None:
        raise Problem("not_found")
    return provider


def _redirect_uri(request: DashboardRequest) -> str:
    base = request.base_url
    if base is None or request.sessions.fault(request.scope):
        message = request.sessions.fault(request.scope) or "dashboard.public_url is not set."
        raise Problem("invalid_request", message=message)
    return base + CALLBACK


async def start(request: DashboardRequest) -> Response:
    """Go to the provider. A link leads here, as the policy of pages lets no form leave."""
    provider, redirect_uri = _provider(request), _redirect_uri(request)
    attempt = Attempt.begin(next_page(request.query.get("next", "/app")), request.now)
    try:
        metadata = await provider.metadata()
    except ProviderUnavailable as failure:
        raise Problem("store_unavailable", message=_AWAY, reason=str(failure)) from None
    url = provider.sign_in_url(metadata, attempt, redirect_uri)
    value = sealed(attempt, await request.parts.sealing.seal(), provider.config.issuer)
    kept = attempt_cookie(value, secure=is_secure(request.base_url))
    return RedirectResponse(url, 303, headers={"set-cookie": kept})


async def callback(request: DashboardRequest) -> Response:
    """Come back from the provider."""
    provider, redirect_uri = _provider(request), _redirect_uri(request)
    gone = attempt_cookie("", secure=is_secure(request.base_url))
    try:
        attempt = await _attempt(request, provider)
        await request.sessions.begin_identity(request.scope)
        identity = await _identity(request, provider, attempt, redirect_uri)
    except Problem as problem:
        problem.headers += ((b"set-cookie", gone.encode()),)
        raise
    rules = rules_digest(provider.config)
    session = await request.sessions.with_identity(request.scope, identity, rules)
    response = RedirectResponse(attempt.next, 303, headers={"set-cookie": session})
    response.headers.append("set-cookie", gone)
    return response


async def _attempt(request: DashboardRequest, provider: IdentityProvider) -> Attempt:
    """The attempt that this browser began and that this callback answers. Raises Problem."""
    value = cookie(request.scope, SECURE if is_secure(request.base_url) else PLAIN)
    seal = await request.parts.sealing.seal()
    attempt = None
    if value:
        attempt = opened(value, seal, provider.config.issuer, request.now)
    if attempt is None or not attempt.has_state(request.query.get("state", "")):
        raise Problem("invalid_request", message=_BEGIN_AGAIN, reason="no attempt with this state")
    return attempt


async def _identity(
    request: DashboardRequest, provider: IdentityProvider, attempt: Attempt, redirect_uri: str
) -> Identity:
    """Who comes back. Raises Problem."""
    query = request.query
    try:
        metadata = await provider.metadata()
        issuer = query.get("iss")
        if issuer is None and metadata.authorization_response_iss_parameter_supported:
            raise TokenRefused("no iss in the callback")
        if issuer not in (None, provider.config.issuer):  # RFC 9207
            raise TokenRefused("another iss in the callback")
        code = query.get("code", "")
        if "error" in query or not 0 < len(code) <= _LONGEST:
            raise Problem("endpoint_not_allowed", message=_NOT_GRANTED, reason="no code came back")
        token = await provider.id_token(code, attempt, redirect_uri)
        claims = await verified(token, provider, nonce=attempt.nonce, now=request.now)
        return identity_of(claims, provider.config)
    except ProviderUnavailable as failure:
        raise Problem("store_unavailable", message=_AWAY, reason=str(failure)) from None
    except (NotAdmitted, CodeRefused, TokenRefused) as refused:
        request.sessions.identity_refused(request.scope)
        raise _refusal(refused) from None


def _refusal(refused: Exception) -> Problem:
    if isinstance(refused, NotAdmitted):
        return Problem("endpoint_not_allowed", message=_NOT_ADMITTED, reason=str(refused))
    if isinstance(refused, CodeRefused):
        return Problem("invalid_request", message=_BEGIN_AGAIN, reason=str(refused))
    _log.warning("sign-in by dashboard.oidc: ID token refused: %s", refused)
    reason = f"ID token: {refused}"
    return Problem("endpoint_not_allowed", message=_NOT_GRANTED, reason=reason)


PAGES = (
    Page("/app/oidc/start", ("GET",), ANYONE, start),
    Page(CALLBACK, ("GET",), ANYONE, callback),
)
