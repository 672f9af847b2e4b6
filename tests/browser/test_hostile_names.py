"""Names that are attempts to run or to fetch something, on every page: they are shown as text.
Names as long as they may be: every page fits a narrow window."""

from collections.abc import Iterator

import pytest

from tests.e2e.program import Program

from .conftest import Open, options_of
from .hostile import CORPUS, INJECTED, LONG, hostile, long_paths
from .populated import Populated
from .tab import wider_than_the_window
from .visits import visits


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Populated]:
    one = hostile(tmp_path_factory.mktemp("hostile"), simulator.url)
    try:
        yield one
    finally:
        assert one.stop() == 0, one.stderr


@pytest.mark.parametrize("role", sorted({visit.role for visit in visits()}))
def test_hostile_names_run_and_fetch_nothing_and_long_ones_fit(
    open_page: Open, gateway: Populated, role: str
) -> None:
    """On all pages of a role, one after the other in one tab."""
    page = open_page("/", width=360, **options_of(gateway, role))
    called: list[str] = []
    fetched: list[str] = []
    page.context.expose_function("pwned", lambda: called.append(page.url))
    page.context.on("request", lambda request: fetched.append(request.url))
    page.on("dialog", lambda dialog: called.append(dialog.message))
    shown: set[str] = set()
    wide: dict[str, list[str]] = {}
    paths = [visit.path(gateway) for visit in visits() if visit.role == role]
    for path in (*paths, *long_paths(gateway, role)):
        page.goto(path)
        assert page.evaluate(INJECTED) == [], path
        if found := wider_than_the_window(page):
            wide[path] = found
        text = page.evaluate("document.body.innerText")
        shown |= {one for one in (*CORPUS, LONG) if one in text}
        page.mouse.move(400, 300)
    assert not called
    assert not [url for url in fetched if "pwned" in url or url.endswith("/app/sign-out")]
    assert shown == {*CORPUS, LONG}
    assert not wide
