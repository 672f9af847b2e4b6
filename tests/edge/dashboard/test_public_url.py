"""Which URL the dashboard has, and where sign-in may lead."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.load import parse
from edge.dashboard.public_url import dashboard_url, is_loopback, is_secure, next_page, origin_of
from tests.asgi import http_scope

from .visits import Site

BASE = {"upstreams": [{"name": "sim", "dialect": "simulator"}]}
PROXIED = {"server": {"trusted_proxies": ["10.0.0.1/32"]}}


def url(document: dict[str, Any], peer: str = "192.0.2.1", **headers: str) -> str | None:
    settings = parse({**BASE, **document})
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return dashboard_url(http_scope("GET", "/app", headers=given, client=(peer, 1)), settings)


@pytest.mark.parametrize(
    ("document", "peer", "headers", "expected"),
    [
        ({"dashboard": {"public_url": "https://a.example:443"}}, "", {}, "https://a.example"),
        ({"server": {"public_url": "https://b.example/x"}}, "", {}, "https://b.example"),
        ({}, "127.0.0.1", {"host": "localhost:8080"}, "http://localhost:8080"),
        ({}, "127.0.0.1", {"host": "127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({}, "127.0.0.1", {"host": "[::1]:8080"}, "http://[::1]:8080"),
        ({}, "127.0.0.1", {"host": "evil.test"}, None),
        ({}, "127.0.0.1", {"host": "localhost.evil.test"}, None),
        ({}, "127.0.0.1", {"host": "localhost@evil.test"}, None),
        ({}, "127.0.0.1", {}, None),
        ({}, "10.0.0.1", {"host": "x", "x_forwarded_host": "c.example"}, None),
        (
            PROXIED,
            "10.0.0.1",
            {"host": "x", "x_forwarded_host": "y, c.example", "x_forwarded_proto": "https"},
            "https://c.example",
        ),
        (PROXIED, "10.0.0.2", {"host": "x", "x_forwarded_host": "c.example"}, None),
        (PROXIED, "10.0.0.1", {"host": "c.example", "x_forwarded_proto": "https"}, None),
        (PROXIED, "10.0.0.1", {"x_forwarded_host": "c.example/path"}, None),
    ],
)
def test_url_is_configured_or_of_a_trusted_proxy_or_of_this_machine(
    document: dict[str, Any], peer: str, headers: dict[str, str], expected: str | None
) -> None:
    assert url(document, peer or "192.0.2.1", **headers) == expected


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_host_of_another_machine_never_decides(host: str) -> None:
    found = url({}, host=host)
    assert found is None or is_loopback(found)


@pytest.mark.parametrize(
    ("text", "secure"),
    [
        ("https://x.example", True),
        ("http://localhost:1", True),
        ("http://a.localhost", True),
        ("http://127.9.9.9", True),
        ("http://[::1]", True),
        ("http://10.0.0.1", False),
        ("http://x.example", False),
        (None, False),
    ],
)
def test_secure_cookies_are_kept_for_https_and_loopback(text: str | None, secure: bool) -> None:
    assert is_secure(text) is secure


def test_origin_is_written_as_browsers_do() -> None:
    assert origin_of("HTTPS://A.example:443/x") == "https://a.example"
    assert origin_of("http://a.example:8080") == "http://a.example:8080"
    assert origin_of("javascript:alert(1)") is None
    assert origin_of("http://a:99999999") is None


@pytest.mark.parametrize("path", ["/app", "/app/usage", "/app/usage?days=7&m=a%2Fb", "/app?x=1"])
def test_sign_in_goes_on_to_pages_of_the_dashboard(path: str) -> None:
    assert next_page(path) == path


EVIL = [
    "",
    "/",
    "/apple",
    "/app\\..\\..",
    "//evil.test",
    "/\\evil.test",
    "https://evil.test",
    "https:/evil.test/app",
    "javascript:alert(1)",
    "/app/../v1/files",
    "/app//evil.test",
    "/app/%2e%2e/x",
    "/app/\t//evil.test",
    "/app\r\nset-cookie: x=1",
    "\x01/app",
    "/app/" + "x" * 3000,
    "/app@evil.test",
    "/app:evil.test",
]


@pytest.mark.parametrize("path", EVIL)
def test_sign_in_goes_on_to_no_other_place(path: str) -> None:
    assert next_page(path) == "/app"


@given(st.text(max_size=60))
def test_next_page_is_always_one_below_app(text: str) -> None:
    for candidate in (text, f"/app{text}", f"/app/{text}"):
        found = next_page(candidate)
        path = found.partition("?")[0].partition("#")[0]
        assert path == "/app" or path.startswith("/app/")
        assert found.isascii()
        assert not set(found) & set("\r\n\\")


@pytest.mark.parametrize("path", EVIL)
async def test_location_after_sign_in_stays_here(site: Site, path: str) -> None:
    answer = await site.browser().post("/app/sign-in", key=site.secret, next=path)
    assert answer.status == 303
    assert answer.header("location") == "/app"


async def test_host_stands_in_no_answer(site: Site) -> None:
    browser = await site.signed_in()
    browser.host = "evil.test"
    anyone = site.browser(host="evil.test")
    for path in ("/app", "/app/sign-in", "/app/account", "/app/nothing"):
        for one in (browser, anyone):
            answer = await one.get(path)
            assert "evil.test" not in answer.text
            assert "evil.test" not in str(answer.headers)


async def test_page_asked_for_comes_after_sign_in(site: Site) -> None:
    browser = site.browser()
    sent = await browser.get("/app/account?x=1")
    location = str(sent.header("location"))
    assert location == "/app/sign-in?next=%2Fapp%2Faccount%3Fx%3D1"
    page = await browser.get(location)
    assert 'value="/app/account?x=1"' in page.text
    answer = await browser.post("/app/sign-in", key=site.secret, next="/app/account?x=1")
    assert answer.header("location") == "/app/account?x=1"
