"""Chromium, and a gateway whose pages it opens."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.e2e.program import DEADLINE, Program

from .chromium import ARGUMENTS, chromium
from .populated import Populated, populated
from .tab import Watch

Open = Callable[..., Page]
SignedIn = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A provider that speaks every dialect."""
    program = Program("simulate", "--port", "0", folder=tmp_path_factory.mktemp("simulator"))
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Populated]:
    """A gateway with keys and a month of use, that no test changes."""
    one = populated(tmp_path_factory.mktemp("gateway"), simulator.url)
    try:
        yield one
    finally:
        assert one.stop() == 0, one.stderr


@pytest.fixture(scope="module")
def playwright(gateway: Populated) -> Iterator[Playwright]:
    """The driver of one module: while it runs, its event loop is the thread's running one, so no
    test of another module could run its own."""
    with sync_playwright() as one:
        yield one


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    found = chromium()
    one = playwright.chromium.launch(
        executable_path=found.program, env={**found.env}, args=ARGUMENTS, timeout=DEADLINE * 1000
    )
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def open_page(browser: Browser, gateway: Populated) -> Iterator[Open]:
    """Open a path in a new context with no cookies. Whatever is wrong in its pages fails the test:
    see `Watch`, which `expected` patterns let pass.

    width, height: of the window. scheme: "light" or "dark". base: of another gateway.
    """
    watches: list[Watch] = []

    def begin(
        path: str = "/",
        *,
        width: int = 1280,
        height: int = 800,
        scheme: Any = "light",
        base: str = "",
        expected: tuple[str, ...] = (),
        **options: Any,
    ) -> Page:
        base = base or gateway.url
        context = browser.new_context(
            base_url=base,
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
            service_workers="block",
            **options,
        )
        context.set_default_timeout(DEADLINE * 1000)
        watch = Watch(context, base)
        for pattern in expected:
            watch.expect(pattern)
        watches.append(watch)
        page = context.new_page()
        page.goto(path)
        return page

    yield begin
    for watch in watches:
        watch.close()
    faults = [fault for watch in watches for fault in watch.faults]
    assert not faults, "\n".join(faults)


@pytest.fixture
def signed_in(gateway: Populated) -> SignedIn:
    """Options of `open_page` with the session of a role, "anyone", "holder" or "admin"."""
    return partial(options_of, gateway)


def options_of(gateway: Populated, role: str) -> dict[str, Any]:
    """Options of `open_page` for a visitor of a gateway."""
    if role == "anyone":
        return {"base": gateway.url}
    cookies = gateway.session(role)
    return {"base": gateway.url, "storage_state": {"cookies": cookies, "origins": []}}
