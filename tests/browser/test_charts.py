"""The chart of the usage page: what is drawn, in which colours, and what a screen reader hears."""

from typing import Literal

import pytest
from playwright.sync_api import Page

from tests.e2e.program import until

from .conftest import Open, SignedIn

_PIXELS = """name => {
  const canvas = document.querySelector("[data-plot] canvas");
  const probe = document.createElement("i");
  document.body.append(probe);
  probe.style.color = `var(--${name})`;
  const [red, green, blue] = getComputedStyle(probe).color.match(/[0-9]+/g).map(Number);
  probe.remove();
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4)
    found += data[at] === red && data[at + 1] === green && data[at + 2] === blue;
  return found;
}"""
"""Pixels of the canvas in a colour of the style sheet as it is now."""

_FITS = """() => {
  const plot = document.querySelector("[data-plot]");
  return plot.querySelector(".uplot").offsetWidth === Math.floor(plot.clientWidth);
}"""


@pytest.fixture
def usage(open_page: Open, signed_in: SignedIn) -> Page:
    """The page of the holder, with its chart drawn."""
    page = open_page(
        "/app/usage?period=30d", expected=("willReadFrequently",), **signed_in("holder")
    )
    page.locator("[data-plot] canvas").wait_for()
    return page


def test_chart_has_the_role_and_the_name_of_a_picture(usage: Page) -> None:
    picture = usage.get_by_role("img", name="Bars: credits by model for each day")
    assert picture.evaluate("node => node.tagName") == "CANVAS"
    assert usage.get_by_role("table", name="Credits by model, the numbers of the bars").count() == 1


def test_chart_bars_have_the_colours_of_both_schemes(usage: Page) -> None:
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark", "light")
    for scheme in schemes:
        usage.emulate_media(color_scheme=scheme)
        until(lambda: usage.evaluate(_PIXELS, "chart-1") > 50, what=scheme)
        assert all(usage.evaluate(_PIXELS, f"chart-{series}") > 50 for series in (2, 3, 4))


def test_chart_follows_the_width_of_the_window(usage: Page) -> None:
    for width in (360, 1280, 700):
        usage.set_viewport_size({"width": width, "height": 800})
        until(lambda: usage.evaluate(_FITS), what=f"a chart for {width} px")
    assert usage.locator("[data-plot] canvas").count() == 1


def test_chart_pointer_reads_the_numbers_of_a_day(usage: Page) -> None:
    box = usage.locator(".u-over").bounding_box()
    assert box is not None
    usage.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + box["height"] / 2)
    table = usage.locator("#by-time ~ .scroll")
    today = table.locator("tbody th").first.inner_text()
    readout = usage.locator("[data-readout]")
    until(lambda: readout.inner_text().startswith(f"{today}: "), what="the newest day")
    names = table.locator("thead th.number").all_inner_texts()[:-1]
    cells = table.locator("tbody tr").first.locator("td.number").all()
    used = [
        name
        for name, cell in zip(names, cells, strict=False)
        if "none" not in str(cell.get_attribute("class")).split()
    ]
    assert used  # a single one just after midnight
    assert all(f" {name} " in readout.inner_text() for name in used)


def test_chart_hours_and_tokens_are_drawn_too(open_page: Open, signed_in: SignedIn) -> None:
    page = open_page("/app/usage?period=24h&measure=tokens", **signed_in("holder"))
    page.get_by_role("img", name="Bars: tokens by model for each hour").wait_for()
    assert page.locator("#by-time ~ .scroll tbody tr").count() == 24


def test_usage_page_without_scripts_has_its_numbers(open_page: Open, signed_in: SignedIn) -> None:
    page = open_page("/app/usage?period=30d", java_script_enabled=False, **signed_in("holder"))
    assert page.locator("#by-time ~ .scroll tbody tr").count() == 30
    assert "claude-opus-5" in page.locator("#by-name ~ .scroll").inner_text()
