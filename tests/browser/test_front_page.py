"""The page at `/` in Chromium, which needs no key."""

import pytest

from .conftest import Open
from .tab import shot, violations, wider_than_the_window


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_front_page_is_accessible_and_fits(open_page: Open, scheme: str, width: int) -> None:
    page = open_page("/", width=width, scheme=scheme)
    assert page.title() == "Acme AI"
    shot(page, f"anyone-home-{scheme}-{width}")
    assert violations(page) == []
    assert wider_than_the_window(page) == []
