"""A finished request in words and bars."""

from typing import Any, get_args

import pytest

from edge.dashboard.request_view import OUTCOMES, request_view, waited_ms
from middlewares import KINDS, ErrorStyle
from middlewares.stores.ledger.base import AttemptRecord, Ended, Entry

ACME = ErrorStyle("Acme")


def entry(**fields: Any) -> Entry:
    return Entry("req_1", "key_1", 1000.0, 1004.0, duration_ms=4000.0, cost=7, **fields)


FAILED = AttemptRecord("up-secret", "up-model", 529, "opus", "upstream_unavailable", 1000.0, "raw")
GOOD = AttemptRecord("up-secret", "up-model", 200, "haiku", "", 2000.0)


def test_outcomes_are_those_of_the_ledger() -> None:
    assert set(OUTCOMES) == set(get_args(Ended))


def test_view_steps_follow_each_other() -> None:
    view = request_view(entry(attempts=[FAILED, GOOD], first_content_ms=2000.0), [], ACME)
    first, second = view.steps
    assert (first.model, first.start, first.length) == ("opus", 0.0, 25.0)
    assert (second.model, second.start, second.length) == ("haiku", 25.0, 50.0)
    assert first.problem == KINDS["upstream_unavailable"].message.format(brand="Acme")
    assert (second.problem, view.problem) == ("", "")
    assert view.first_content == 50.0


def test_view_of_a_failed_request_says_the_last_problem() -> None:
    view = request_view(entry(attempts=[FAILED], ended="failed"), [], ACME)
    assert "Acme is currently overloaded" in view.problem
    assert view.outcome.kind == "bad"


@pytest.mark.parametrize("kind", [*KINDS, "a kind of an older version"])
def test_view_problem_is_in_public_words(kind: str) -> None:
    failed = AttemptRecord("up-secret", "up-model", 500, "opus", kind, 1.0, "raw text of theirs")
    view = request_view(entry(attempts=[failed], ended="failed"), [], ACME)
    assert view.problem
    shown = [view.problem, view.outcome.about, *(step.model for step in view.steps)]
    assert not any("secret" in text or "raw" in text or "{" in text for text in shown)


def test_view_cost_includes_what_was_made_for_it() -> None:
    child = entry(parent="req_1", purpose="describe", from_credits=3)
    view = request_view(entry(), [child, child], ACME)
    assert (view.cost, view.from_credits) == (21, 6)


def test_view_bars_stay_within_their_row() -> None:
    """Attempts of one request may overlap its measured duration by a little."""
    late = AttemptRecord("u", "m", 200, "opus", "", 9000.0)
    view = request_view(entry(attempts=[FAILED, late], first_content_ms=8000.0), [], ACME)
    assert all(step.start + step.length <= 100 for step in view.steps)
    assert view.first_content == 100


def test_view_without_attempts_and_duration_has_no_bars() -> None:
    view = request_view(Entry("req_1", "key_1", 1000.0, 1000.0), [], ACME)
    assert (view.steps, view.first_content) == ([], 0.0)


def throttled(seconds: float) -> Entry:
    """A request of 4 s that waited for so long."""
    return Entry("req_1", "key_1", 1000.0 + seconds, 1004.0, duration_ms=4000.0, attempts=[GOOD])


def test_view_of_a_throttled_request_begins_with_its_wait() -> None:
    view = request_view(throttled(1.0), [], ACME)
    assert view.waited[0] == pytest.approx(1000, abs=1)
    assert view.waited[1] == pytest.approx(25, abs=0.1)
    assert view.steps[0].start == pytest.approx(25, abs=0.1)


@pytest.mark.parametrize(("seconds", "waited"), [(0.09, 0), (0.11, 110), (9.0, 4000), (-5.0, 0)])
def test_wait_is_within_the_request_and_worth_a_word(seconds: float, waited: float) -> None:
    assert waited_ms(throttled(seconds)) == pytest.approx(waited, abs=1)
