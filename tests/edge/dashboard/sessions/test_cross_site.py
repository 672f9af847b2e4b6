"""Requests that another site makes with a visitor's cookie change nothing."""

import pytest

from edge.dashboard.page import Page
from edge.dashboard.pages import PAGES
from edge.dashboard.sessions.cross_site import cross_site_fault
from tests.asgi import http_scope
from tests.edge.dashboard.visits import Browser, Site

ORIGIN = "https://llm.example.com"
CHANGING = [
    (page, method) for page in PAGES for method in page.methods if method not in ("GET", "HEAD")
]


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, True),
        ({"sec-fetch-site": "same-site", "origin": ORIGIN}, False),
        ({"sec-fetch-site": "cross-site", "origin": ORIGIN}, False),
        ({"sec-fetch-site": "none", "origin": ORIGIN}, False),
        ({"sec-fetch-site": "SAME-ORIGIN"}, False),
        ({"sec-fetch-site": ""}, False),
        ({"origin": ORIGIN}, True),
        ({"origin": "https://llm.example.com:443"}, False),
        ({"origin": "https://llm.example.com.evil.test"}, False),
        ({"origin": "http://llm.example.com"}, False),
        ({"origin": "null"}, False),
        ({}, False),
        ({"referer": f"{ORIGIN}/app"}, False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "SURPRISE"])
def test_request_that_changes_something_must_come_from_our_pages(
    headers: dict[str, str], allowed: bool, method: str
) -> None:
    scope = http_scope(method, "/app/sign-out", headers=headers)
    assert (cross_site_fault(scope, ORIGIN) == "") is allowed


def test_unknown_public_url_allows_no_origin() -> None:
    scope = http_scope(
        "POST", "/app/sign-out", headers={"origin": ORIGIN, "host": "llm.example.com"}
    )
    assert "dashboard.public_url" in cross_site_fault(scope, None)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_is_not_checked(method: str) -> None:
    assert cross_site_fault(http_scope(method, "/app"), ORIGIN) == ""


async def _cross_site(browser: Browser, page: Page, method: str) -> int:
    path = page.path.replace("{", "").replace("}", "")
    browser.fetch_site = "cross-site"
    form = {"content-type": "application/x-www-form-urlencoded", "origin": "https://evil.test"}
    answer = await browser.send(method, path, b"key=x", form)
    return answer.status


@pytest.mark.parametrize(
    ("page", "method"), CHANGING, ids=lambda one: one.path if isinstance(one, Page) else one
)
async def test_every_action_refuses_another_site(site: Site, page: Page, method: str) -> None:
    browser = await site.signed_in()
    before = dict(site.sessions.sessions)
    assert await _cross_site(browser, page, method) == 403
    assert site.sessions.sessions == before


async def test_get_changes_nothing(site: Site) -> None:
    """A crawl over all pages leaves keys, sessions, audit and ledger as they were."""
    browser = await site.signed_in()
    keys, sessions = await site.keys.every(), dict(site.sessions.sessions)
    for page in PAGES:
        if "GET" in page.methods:
            await browser.get(page.path.replace("{", "").replace("}", ""))
    assert await site.keys.every() == keys
    assert site.sessions.sessions == sessions
    assert await site.parts.audit.page() == []
    assert await site.ledger.page() == []
