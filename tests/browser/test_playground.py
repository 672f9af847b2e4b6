"""The playground, the set-up page and the filter of the landing page, with their scripts."""

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.program import Program, quiet, release, until

from .conftest import Open, SignedIn
from .populated import Populated
from .tab import shot, violations, wider_than_the_window

SAID = "This answer was made by the simulator."
MARKUP = '<img src="/x" onerror="alert(1)"><p hx-get="/app/sign-out" hx-trigger="load">&amp;'


def ask(page: Page, user: str, dialect: str = "chat") -> None:
    page.fill("#model", "gpt-5.5-mini")
    page.select_option("#dialect", dialect)
    page.fill("#user", user)
    page.click("#send")


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_stream_is_shown_as_it_comes_and_as_text(
    dialect: str, open_page: Open, signed_in: SignedIn, gateway: Populated, simulator: Program
) -> None:
    page = open_page("/app/playground", **signed_in("holder"))
    ask(page, f"{MARKUP} and more words than one [[sim fault=hold:9]]", dialect)
    expect(page.locator("#text")).to_contain_text("You said")
    expect(page.locator("#state")).to_have_text("The answer is coming")
    assert SAID not in str(page.locator("#text").text_content())
    release(simulator)
    expect(page.locator("#state")).to_have_text("Complete")
    shown = str(page.locator("#text").text_content())
    assert MARKUP in shown and SAID in shown
    assert page.locator("#text *").count() == 0
    facts = page.locator("#facts")
    expect(facts).to_contain_text("gpt-5.5-mini")
    expect(facts).to_contain_text("tokens")
    expect(facts).to_contain_text("credits")
    request_id = str(facts.locator("dd code").text_content())
    assert gateway.request_line(request_id)["outcome"] == "completed"
    page.click("#events summary")
    expect(page.locator("#raw")).to_contain_text("data: {")
    assert page.locator("#raw *").count() == 0


def test_stop_ends_the_request_at_the_upstream(
    open_page: Open, signed_in: SignedIn, gateway: Populated, simulator: Program
) -> None:
    page = open_page("/app/playground", **signed_in("holder"))
    ask(page, "Hello there [[sim fault=stall:6]]")
    expect(page.locator("#text")).to_contain_text("You said")
    page.click("#stop")
    expect(page.locator("#state")).to_have_text("Stopped")
    until(lambda: quiet(gateway, simulator), what="the upstream without the request")
    expect(page.locator("#stop")).to_be_hidden()
    ask(page, "Hello again")
    expect(page.locator("#state")).to_have_text("Complete")


def test_failures_are_said_in_words(
    open_page: Open, signed_in: SignedIn, gateway: Populated, simulator: Program
) -> None:
    page = open_page("/app/playground", expected=("404",), **signed_in("holder"))
    page.fill("#model", "no-such-model")
    page.fill("#user", "Hello")
    page.click("#send")
    expect(page.locator("#fault")).to_contain_text("no-such-model")
    expect(page.locator("#state")).to_have_text("Failed")
    ask(page, "Hello [[sim fault=hold:6,error-event:9]]")
    expect(page.locator("#text")).to_contain_text("You said")
    release(simulator)
    expect(page.locator("#state")).to_have_text("Failed")
    expect(page.locator("#fault")).to_be_visible()
    shot(page, "holder-app-playground-failed-light-1280")
    assert violations(page) == []


def test_answer_is_accessible_and_fits_a_phone(
    open_page: Open, signed_in: SignedIn, gateway: Populated
) -> None:
    page = open_page("/app/playground", width=360, scheme="dark", **signed_in("holder"))
    ask(page, "Hello " + "long" * 200)
    expect(page.locator("#state")).to_have_text("Complete")
    page.click("#events summary")
    shot(page, "holder-app-playground-answer-dark-360")
    assert violations(page) == []
    assert wider_than_the_window(page) == []


def test_request_is_copied_as_a_curl_line(
    open_page: Open, signed_in: SignedIn, gateway: Populated
) -> None:
    page = open_page(
        "/app/playground",
        permissions=["clipboard-read", "clipboard-write"],
        **signed_in("holder"),
    )
    page.fill("#user", 'It\'s "this"')
    page.click("#curl")
    expect(page.locator("#state")).to_have_text("The curl line is copied.")
    line = page.evaluate("navigator.clipboard.readText()")
    assert line.startswith(f"curl -N {gateway.url}/v1/chat/completions")
    assert "$ACME_AI_API_KEY" in line


def test_chosen_model_changes_the_guides_at_once(
    open_page: Open, signed_in: SignedIn, gateway: Populated
) -> None:
    page = open_page("/app/setup", **signed_in("holder"))
    page.select_option("#model", "claude-haiku-5")
    expect(page.locator("#codex-1")).to_contain_text('model = "claude-haiku-5"')
    assert "model=claude-haiku-5" in page.url
    page.reload()
    expect(page.locator("#codex-1")).to_contain_text('model = "claude-haiku-5"')
    assert page.input_value("#model") == "claude-haiku-5"


def test_filter_hides_the_rows_of_other_models(open_page: Open) -> None:
    page = open_page("/")
    page.fill("#q", "haiku")
    expect(page.locator("#shown")).to_have_text("1 model")
    rows = page.locator("#models tbody tr:visible")
    assert rows.count() == 1
    expect(rows).to_contain_text("claude-haiku-5")
