"""The overview asks for its figures again and again, but not while no one sees it."""

from .conftest import Open, SignedIn

_SECONDS = 16_000
"""Milliseconds of one poll, and a little more."""


def test_overview_polls_while_it_is_visible_only(open_page: Open, signed_in: SignedIn) -> None:
    page = open_page("/app", **signed_in("holder"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.install()
    page.reload()
    asked.clear()
    with page.expect_response("**/app/overview/live"):
        page.clock.fast_forward(_SECONDS)
    before = len(asked)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.clock.fast_forward(3 * _SECONDS)
    page.evaluate("0")
    assert len(asked) == before
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
    with page.expect_response("**/app/overview/live"):
        page.clock.fast_forward(_SECONDS)


def test_countdown_goes_on_and_times_are_local(open_page: Open, signed_in: SignedIn) -> None:
    page = open_page("/app", **signed_in("holder"))
    page.clock.install()
    page.reload()
    place = page.locator("time[data-form=countdown]").first
    before = place.text_content()
    assert before is not None and before.startswith("in ")
    page.clock.run_for(61_000)
    assert place.text_content() != before
    shown = page.locator("time[data-shown]").first
    assert str(shown.get_attribute("title")).endswith(" UTC")
