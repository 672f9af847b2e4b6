"""Names that try to become markup are shown as text."""

from urllib.parse import quote

import pytest

from edge.management import keys as management

from .conftest import OpenSite
from .hostile import HOSTILE, TRACES
from .visits import PREFIXES, Site


@pytest.mark.parametrize("text", HOSTILE)
async def test_name_of_a_key_and_of_a_browser_is_text(open_site: OpenSite, text: str) -> None:
    site = await open_site(dashboard={"self_service": True})
    _, secret = await management.create(
        site.keys,
        PREFIXES,
        now=site.clock(),
        name=text,
        owner=text,
        plan="gold",
    )
    await management.create(site.keys, PREFIXES, now=site.clock(), name=text, owner=text)
    browser = await site.signed_in(secret, headers={"user-agent": text})
    for path in ("/app", "/app/account", "/app/overview/live"):
        page = await browser.get(path)
        assert page.status == 200
        assert not [trace for trace in TRACES if trace in page.text], path


@pytest.mark.parametrize("text", HOSTILE)
async def test_query_is_not_repeated_as_markup(site: Site, text: str) -> None:
    browser = await site.signed_in()
    for path in ("/app", "/app/sign-in", "/app/account", "/app/nothing"):
        for name in ("next", "key", "note", "x"):
            page = await browser.get(f"{path}?{name}={quote(text)}")
            anyone = await site.browser().get(f"{path}?{name}={quote(text)}")
            for answer in (page, anyone):
                assert not [trace for trace in TRACES if trace in answer.text], path
