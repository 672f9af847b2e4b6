"""Refuse requests that another site makes with the cookie of a visitor."""

from middlewares.asgi import Scope, header

SAFE = frozenset(("GET", "HEAD"))
"""Methods that change nothing."""


def cross_site_fault(scope: Scope, origin: str | None) -> str:
    """Why a request that changes something is refused; "" if it comes from our own pages.

    Browsers send `Sec-Fetch-Site` to https and to loopback; elsewhere `Origin` is compared.
    origin: of the dashboard; None if it is not known.
    """
    if scope["method"] in SAFE:
        return ""
    site = header(scope, b"sec-fetch-site")
    if site is not None:
        return "" if site == b"same-origin" else "it comes from another site"
    given = header(scope, b"origin")
    if given is None or given == b"null":
        return "the browser does not say which site it comes from"
    if origin is None:
        return "the URL of the dashboard is not known: set dashboard.public_url"
    return "" if given == origin.encode() else "it comes from another site"
