"""Keys of a holder in Chromium, with scripts and without: secrets are shown once."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.program import Program

from .conftest import Open, options_of
from .populated import KEYS, TEAMS, Populated, document
from .tab import shot, violations, wider_than_the_window

HOLDER = "ana-laptop"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Populated]:
    """A gateway whose keys these tests change."""
    one = Populated(
        tmp_path_factory.mktemp("own"), document(simulator.url), {HOLDER: KEYS[HOLDER]}, TEAMS
    )
    try:
        yield one
    finally:
        assert one.stop() == 0, one.stderr


def secret_of(page: Page) -> str:
    text = page.locator("#secret").inner_text()
    assert text.startswith("sk-acme-ai-live-")
    return text


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_key_is_created_rotated_and_revoked(open_page: Open, own: Populated, script: bool) -> None:
    name = f"laptop {script}"
    page = open_page(
        "/app/api-keys",
        java_script_enabled=script,
        expected=("status of 400",),  # a refused form is shown again
        permissions=["clipboard-read", "clipboard-write"],
        **options_of(own, "holder"),
    )
    page.get_by_role("link", name="Create a key").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Requests", exact=True).fill("9000/min")
    page.get_by_role("button", name="Create").click()
    expect(
        page.get_by_text("expected no more than the key that you create it with")
    ).to_be_visible()
    assert page.get_by_label("Name", exact=True).input_value() == name
    page.get_by_label("Requests", exact=True).fill("9/min")
    page.get_by_role("button", name="Create").click()

    secret = secret_of(page)
    assert secret not in page.url
    if script:
        assert violations(page) == [] and wider_than_the_window(page) == []
        shot(page, "holder-app-api-keys-secret-light-1280")
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == secret
    page.reload()  # sends the form again
    expect(page.get_by_text("Nothing was done again")).to_be_visible()
    assert secret not in page.content()
    assert page.get_by_role("link", name=name).count() == 1

    page.goto("/app/api-keys")
    page.get_by_role("link", name=name).click()
    expect(page.get_by_text("9/min requests")).to_be_visible()
    page.get_by_role("button", name="Rotate").click()
    second = secret_of(page)
    assert second != secret
    page.get_by_role("link", name="Done").click()
    page.get_by_label("Type the name of the key").fill("something else")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("expected the name of the key")).to_be_visible()
    page.get_by_label("Type the name of the key").fill(name)
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("The key is revoked.")).to_be_visible()
    assert not page.url.endswith(second)


def test_own_key_that_is_rotated_keeps_the_browser_signed_in(
    open_page: Open, own: Populated
) -> None:
    page = open_page("/app/api-keys", **options_of(own, "holder"))
    page.get_by_role("link", name=HOLDER).click()
    page.get_by_label("The old secret").select_option("1h")
    page.get_by_role("button", name="Rotate").click()
    own.secrets[HOLDER] = secret_of(page)
    own.session.cache_clear()
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_role("heading", name=HOLDER)).to_be_visible()
