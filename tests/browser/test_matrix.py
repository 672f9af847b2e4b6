"""Every page of the table, for every role that may open it, in both schemes and both widths."""

from typing import Literal

import pytest

from .conftest import Open, SignedIn
from .populated import Populated
from .tab import keyboard_faults, shot, violations, wider_than_the_window
from .visits import NO_PAGES, Visit, visits

VISITS = [pytest.param(visit, id=visit.name) for visit in visits()]
PATTERNS = [
    pytest.param(visit, id=visit.name)
    for visit in {visit.pattern: visit for visit in reversed(visits())}.values()
]
"""Each page once, for the first role of its row."""
Scheme = Literal["light", "dark"]
NARROW, WIDE = 360, 1280


@pytest.mark.parametrize("visit", VISITS)
def test_page_is_accessible_and_fits(
    open_page: Open, signed_in: SignedIn, gateway: Populated, visit: Visit, full: bool
) -> None:
    """In `make test` axe runs once for each scheme, at one width each, with one screenshot; the
    layout is measured at both. At full size everything runs with everything."""
    page = open_page(visit.path(gateway), width=WIDE, **signed_in(visit.role))
    assert page.locator("h1").count() == 1
    assert not page.url.startswith(f"{gateway.url}/app/sign-in") or "sign-in" in visit.pattern
    settings: tuple[tuple[int, Scheme, bool], ...] = (
        (WIDE, "light", True),
        (WIDE, "dark", full),
        (NARROW, "dark", True),
        (NARROW, "light", full),
    )
    found = {}
    for width, scheme, whole in settings:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        found[f"{scheme}, {width} px, layout"] = wider_than_the_window(page)
        if whole:
            found[f"{scheme}, {width} px"] = violations(page)
        if full or (whole and width == WIDE):
            shot(page, f"{visit.name}-{scheme}-{width}")
    assert not any(found.values()), found


@pytest.mark.parametrize("visit", PATTERNS)
def test_page_is_usable_by_keyboard(
    open_page: Open, signed_in: SignedIn, gateway: Populated, visit: Visit
) -> None:
    page = open_page(visit.path(gateway), **signed_in(visit.role))
    assert keyboard_faults(page) == []


@pytest.mark.parametrize("path", sorted(NO_PAGES))
def test_what_is_no_page_is_none(gateway: Populated, path: str) -> None:
    role = "admin" if path.startswith("/app/admin") else "holder"
    cookies = [f"{one['name']}={one['value']}" for one in gateway.session(role)]
    path = Visit(path, role).path(gateway)
    answer = gateway.get(path, headers={"cookie": "; ".join(cookies)})
    assert answer.status_code == 200
    assert "<html" not in answer.text
