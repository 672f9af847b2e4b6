"""What fails a browser test: the harness itself, on pages that are wrong on purpose."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Error, Page

from .populated import Populated
from .tab import Watch, violations, wider_than_the_window


class Watched(NamedTuple):
    page: Page
    watch: Watch

    def faults(self) -> str:
        """Everything seen, once the page is closed."""
        self.watch.close()
        return "\n".join(self.watch.faults)


@pytest.fixture
def watched(browser: Browser, gateway: Populated) -> Iterator[Watched]:
    context = browser.new_context(base_url=gateway.url, viewport={"width": 360, "height": 640})
    page = context.new_page()
    yield Watched(page, Watch(context, gateway.url))
    context.close()


def test_harness_page_without_faults_has_none(watched: Watched) -> None:
    watched.page.goto("/")
    assert watched.faults() == ""


def test_harness_violation_of_the_policy_is_a_fault(watched: Watched) -> None:
    watched.page.goto("/")
    watched.page.evaluate("document.body.append(document.createElement('script'))")
    watched.page.evaluate(
        "document.body.innerHTML += '<img src=http://elsewhere.example/x onerror=alert(1)>'"
    )
    faults = watched.faults()
    assert "content security policy: img-src" in faults
    assert "content security policy: script-src-attr" in faults


def test_harness_error_in_the_console_is_a_fault(watched: Watched) -> None:
    watched.page.goto("/")
    watched.page.evaluate("console.error('wrong here')")
    assert "console: wrong here" in watched.faults()


def test_harness_error_of_a_script_is_a_fault(watched: Watched) -> None:
    watched.page.goto("/")
    watched.page.evaluate("setTimeout(() => { throw new Error('thrown') })")
    watched.page.wait_for_timeout(50)
    assert "error of a script: thrown" in watched.faults()


def test_harness_request_to_another_host_is_a_fault(watched: Watched) -> None:
    watched.page.goto("/")
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        watched.page.goto("http://elsewhere.example/pixel.gif")
    assert "another host: http://elsewhere.example/pixel.gif" in watched.faults()


def test_harness_expected_fault_passes(watched: Watched) -> None:
    watched.page.goto("/")
    watched.watch.expect("known, and n[o]ne other")
    watched.page.evaluate("console.error('known, and none other')")
    watched.page.evaluate("console.error('new')")
    assert watched.faults().startswith("console: new at ")


def test_axe_picture_without_text_is_a_violation(watched: Watched) -> None:
    watched.page.goto("/")
    watched.page.evaluate("document.querySelector('h1').style.color = 'rgb(200, 200, 200)'")
    (found,) = violations(watched.page)
    assert found.startswith("color-contrast: <h1")


def test_overflow_element_wider_than_the_window_is_named(watched: Watched) -> None:
    watched.page.goto("/")
    assert wider_than_the_window(watched.page) == []
    watched.page.evaluate(
        "document.querySelector('h1').outerHTML = '<h1 class=wide>' + 'x'.repeat(200) + '</h1>';"
        "document.querySelector('h1').style.overflowWrap = 'normal'"
    )
    found = wider_than_the_window(watched.page)
    assert any(one.startswith('<h1 class="wide"') for one in found), found


def test_fonts_are_those_of_the_packages(watched: Watched) -> None:
    """Letters of code are as wide as each other, and signs are no empty boxes."""
    watched.page.set_content(
        "<style>span { font: 16px monospace } b { font: 16px sans-serif }</style>"
        "<span>iiii</span> <span>mmmm</span> <b>iiii</b> <b>mmmm</b>"
    )
    widths = watched.page.evaluate(
        "[...document.querySelectorAll('span, b')].map(one => one.getBoundingClientRect().width)"
    )
    assert widths[0] == widths[1] > 30
    assert 10 < widths[2] < widths[3]
