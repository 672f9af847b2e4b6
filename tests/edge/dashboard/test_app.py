"""Who gets which page, with which headers, and how errors are shown."""

import re

import pytest

from edge.dashboard.app import POLICY
from edge.dashboard.page import Page
from edge.dashboard.pages import PAGES
from edge.dashboard.static_files import static_files, static_url
from edge.endpoints import NAMES

from .conftest import OpenSite
from .visits import Site

PATHS = sorted({page.path.replace("{", "").replace("}", "") for page in PAGES})
CLOSED = [page for page in PAGES if "anyone" not in page.roles]


async def test_holder_signs_in_by_key_and_sees_the_overview(site: Site) -> None:
    browser = await site.signed_in()
    page = await browser.get("/app")
    assert page.status == 200
    assert "Ann&#39;s key" in page.text
    assert site.secret not in page.text


async def test_anyone_sees_the_landing_page(site: Site) -> None:
    page = await site.browser().get("/")
    assert page.status == 200
    assert "m1" in page.text


@pytest.mark.parametrize("page", CLOSED, ids=lambda page: f"{page.methods[0]} {page.path}")
async def test_page_without_session_leads_to_sign_in(site: Site, page: Page) -> None:
    for method in page.methods:
        path = page.path.replace("{", "").replace("}", "")
        answer = await site.browser().send(method, path, b"", {})
        assert answer.status == 303
        assert str(answer.header("location")).startswith("/app/sign-in")
        assert not answer.body


@pytest.mark.parametrize("path", [*PATHS, "/app/nothing"])
async def test_every_page_has_the_security_headers(site: Site, path: str) -> None:
    for browser in (site.browser(), await site.signed_in()):
        answer = await browser.get(path)
        assert answer.header("content-security-policy") == POLICY
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("referrer-policy") == "same-origin"
        assert answer.header("cross-origin-opener-policy") == "same-origin"
        assert answer.header("cross-origin-resource-policy") == "same-origin"
        assert answer.header("cache-control") == "no-store"


async def test_unknown_page_is_a_page(site: Site) -> None:
    answer = await site.browser().get("/app/nothing")
    assert answer.status == 404
    assert "<h1>" in answer.text


async def test_error_for_htmx_is_a_fragment(site: Site) -> None:
    browser = await site.signed_in()
    answer = await browser.fragment("/app/nothing")
    assert answer.status == 404
    assert answer.text.startswith("<div")


async def test_htmx_without_session_goes_to_sign_in(site: Site) -> None:
    answer = await site.browser().fragment("/app/overview/live")
    assert answer.status == 401
    assert answer.header("hx-redirect") == "/app/sign-in"
    assert not answer.body


async def test_head_has_no_body(site: Site) -> None:
    answer = await site.browser().send("HEAD", "/app/sign-in", b"", {})
    assert answer.status == 200
    assert not answer.body


async def test_wrong_method_names_those_that_are_allowed(site: Site) -> None:
    answer = await site.browser().send("PUT", "/app/sign-in", b"", {})
    assert answer.status == 405
    assert answer.header("allow") == "GET, POST, HEAD"


async def test_disabled_dashboard_is_not_there_but_the_landing_page_is(open_site: OpenSite) -> None:
    site = await open_site(dashboard={"enabled": False})
    for path in ("/app", "/app/sign-in", "/app/nothing"):
        assert (await site.browser().get(path)).status == 404
    page = await site.browser().get("/")
    assert page.status == 200
    assert "/app/sign-in" not in page.text


async def test_dashboard_outside_its_networks_is_not_there(open_site: OpenSite) -> None:
    site = await open_site(dashboard={"networks": ["10.0.0.0/8"]})
    assert (await site.browser(client="192.0.2.1").get("/app/sign-in")).status == 404
    assert (await site.browser(client="10.1.1.1").get("/app/sign-in")).status == 200


async def test_static_file_is_kept_for_ever_under_its_hash(site: Site) -> None:
    answer = await site.browser().get(static_url("app.css"))
    assert answer.status == 200
    assert answer.header("content-type") == "text/css; charset=utf-8"
    assert "immutable" in str(answer.header("cache-control"))
    changed = static_url("app.css").replace(".css", "0.css")
    assert (await site.browser().get(changed)).status == 404


async def test_static_files_are_those_of_the_folder() -> None:
    assert {file.media_type.partition(";")[0] for file in static_files().values()} == {
        "text/css",
        "text/javascript",
    }


@pytest.mark.parametrize(
    ("endpoints", "shown"),
    [
        ([], ["Files", "Jobs", "Playground"]),
        (["chat.completions", "models"], ["Playground"]),
        (["music.generations"], ["Files", "Jobs"]),
        (["embeddings"], []),
    ],
)
async def test_navigation_has_the_pages_of_offered_endpoints(
    open_site: OpenSite, endpoints: list[str], shown: list[str]
) -> None:
    document = {"endpoints": endpoints} if endpoints else {}
    page = await (await (await open_site(**document)).signed_in()).get("/app")
    names = re.findall(r'<li[^>]*><a href="/app[^"]*"[^>]*>([^<]+)</a>', page.text)
    assert "Overview" in names
    assert [name for name in names if name in ("Files", "Jobs", "Playground")] == shown


def test_pages_name_endpoints_that_exist() -> None:
    assert {name for page in PAGES for name in page.endpoints} <= NAMES
