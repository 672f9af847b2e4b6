"""While the store of sessions is away nothing is shown, and no one is signed out."""

import pytest

from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.sessions.base import Session
from tests.edge.dashboard.visits import Site


async def test_pages_answer_503_and_sessions_go_on_afterwards(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await site.signed_in()

    async def away(digest: bytes) -> Session | None:
        raise StoreUnavailable("away: secret address")

    with monkeypatch.context() as patched:
        patched.setattr(site.sessions, "find", away)
        page = await browser.get("/app")
        assert page.status == 503
        assert page.header("retry-after") == "1"
        assert "secret address" not in page.text
        assert "Ann" not in page.text
        assert (await browser.fragment("/app/overview/live")).status == 503
        for path in ("/", "/app/sign-in"):
            assert (await browser.get(path)).status == 200
    assert (await browser.get("/app")).status == 200
