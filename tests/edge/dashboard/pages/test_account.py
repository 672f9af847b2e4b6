"""Sessions and preferences of a visitor."""

import pytest

from tests.edge.dashboard.visits import Site


async def test_account_lists_the_sessions_of_this_key(site: Site) -> None:
    first = await site.signed_in(headers={"user-agent": "First Browser"}, client="192.0.2.1")
    await site.signed_in(headers={"user-agent": "Second Browser"})
    page = await first.get("/app/account")
    assert page.text.count('<th scope="row">') == 2
    assert "Second Browser" in page.text
    assert "First Browser" in page.text
    assert "192.0.2.1" in page.text


@pytest.mark.parametrize(
    ("theme", "times", "kept"),
    [("dark", "utc", "dark.utc"), ("light", "local", "light.local"), ("x", "y", "system.local")],
)
async def test_preferences_are_kept_in_a_cookie_of_the_browser(
    site: Site, theme: str, times: str, kept: str
) -> None:
    browser = await site.signed_in()
    answer = await browser.post("/app/account/preferences", theme=theme, times=times)
    assert answer.header("location") == "/app/account?note=preferences_saved"
    assert browser.cookies["penstock-preferences"] == kept
    page = await browser.get("/app/account?note=preferences_saved")
    name, _, zone = kept.partition(".")
    assert f'data-theme="{name}" data-times="{zone}"' in page.text
    assert "Saved for this browser." in page.text


async def test_preferences_that_cannot_be_read_are_the_defaults(site: Site) -> None:
    browser = site.browser(cookies={"penstock-preferences": '"><script>x'})
    page = await browser.get("/app/sign-in")
    assert 'data-theme="system" data-times="local"' in page.text
    assert "<script>x" not in page.text


async def test_note_of_another_is_not_shown(site: Site) -> None:
    """A link can choose among our messages, and add none."""
    browser = await site.signed_in()
    page = await browser.get("/app/account?note=Your+key+was+stolen")
    assert "stolen" not in page.text
