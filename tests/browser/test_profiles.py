"""What a stranger sees of each profile in a browser: the page at / and the set-up of clients; and
the budget of a holder."""

from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.program import Program
from tests.profiles.system import NAMES, serve_profile

from .conftest import Open
from .tab import shot, violations, wider_than_the_window

Scheme = Literal["light", "dark"]
NARROW, WIDE = 360, 1280
EVERY_RUN = {"claudin", "multimodal"}
"""A profile of plans and one of all kinds of models; the others have the same pages."""
CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.mark.parametrize(
    "name",
    [name if name in EVERY_RUN else pytest.param(name, marks=pytest.mark.full) for name in NAMES],
)
def test_pages_for_strangers_are_accessible_and_fit(
    open_page: Open, name: str, simulator: Program, tmp_path: Path, full: bool
) -> None:
    """axe runs once for each scheme, the layout is measured at both widths."""
    gateway = serve_profile(name, tmp_path, simulator, claude="unchanged")
    try:
        page = open_page("/", base=gateway.url, width=WIDE, permissions=CLIPBOARD)
        page.click('[data-copy="request-1"]')
        expect(page.locator("#announce")).to_have_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.locator("#request-1").text_content()
        found = faults(page, f"{name}-landing", full)
        page.set_viewport_size({"width": WIDE, "height": 800})
        page.click("text=Set up a client")
        page.wait_for_url("**/app/setup")
        found |= faults(page, f"{name}-setup", full)
        assert not any(found.values()), found
        assert gateway.stop() == 0, gateway.stderr
    finally:
        gateway.kill()


def faults(page: Page, name: str, full: bool) -> dict[str, list[str]]:
    """What is wrong with a page, in both schemes and at both widths."""
    assert page.locator("h1").count() == 1
    settings: tuple[tuple[int, Scheme, bool], ...] = (
        (WIDE, "light", True),
        (WIDE, "dark", full),
        (NARROW, "dark", True),
        (NARROW, "light", full),
    )
    found: dict[str, list[str]] = {}
    for width, scheme, whole in settings:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        found[f"{name}, {scheme}, {width} px, layout"] = wider_than_the_window(page)
        if whole:
            found[f"{name}, {scheme}, {width} px"] = violations(page)
        if full or (whole and width == WIDE):
            shot(page, f"{name}-{scheme}-{width}")
    return found


def test_holder_sees_when_a_window_resets_with_its_zone(
    open_page: Open, simulator: Program, tmp_path: Path
) -> None:
    gateway = serve_profile("claudin", tmp_path, simulator)
    try:
        headers = {"authorization": f"Bearer {gateway.key}"}
        body = {"model": "claudinio", "messages": [{"role": "user", "content": "Hi"}]}
        assert gateway.post("/v1/chat/completions", body).status_code == 200
        limits = httpx.get(f"{gateway.url}/v1/limits", headers=headers, trust_env=False).json()
        page = open_page("/app/sign-in", base=gateway.url)
        page.fill("#key", gateway.key)
        page.click("text=Sign in >> nth=-1")
        for window in limits["windows"]:
            card = page.locator("article", has_text=f"{window['length']} window")
            zoned = card.locator("time[data-form=zoned]")
            assert zoned.get_attribute("datetime") == window["resets_at"]
            expect(zoned).to_contain_text("UTC")
            expect(card.locator("time[data-form=countdown]")).to_contain_text("in ")
            expect(card).to_contain_text("credits left")
            expect(card).to_contain_text("Used")
        expect(page.locator("main")).to_contain_text("wait for their turn and are not refused")
        shot(page, "claudin-overview-light-1280")
        page.set_viewport_size({"width": NARROW, "height": 800})
        assert wider_than_the_window(page) == []
        assert violations(page) == []
        assert gateway.stop() == 0, gateway.stderr
    finally:
        gateway.kill()
