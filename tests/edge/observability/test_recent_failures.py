"""The last failed attempts of a worker: bounded, and without a text of the upstream."""

import pytest

from edge.observability.recent_failures import RecentFailures
from edge.observability.worker_figures import FigureSources
from edge.runtime.figures import MOST_ERRORS
from middlewares import Exchange, Problem, Target
from middlewares.exchange import Attempt, Candidate
from middlewares.stores.health.breakers import BreakerPolicy, Breakers

KNOWN, OTHER = Target("up", "m"), Target("up", "made-up\x1b[31m")
NOW = 1_800_000_000.0


@pytest.fixture
def failures() -> RecentFailures:
    return RecentFailures(lambda target: target == KNOWN, clock=lambda: NOW)


def fail(failures: RecentFailures, target: Target = KNOWN, status: int = 503) -> None:
    exchange = Exchange(request_id="req_1")
    exchange.attempts.append(Attempt(target, 0.0, status=status, error="secret words"))
    failures(exchange, Candidate(target), Problem("upstream_error", reason="secret words"))


def test_failure_is_kept_without_its_text(failures: RecentFailures) -> None:
    fail(failures)
    (kept,) = failures.last
    assert (kept.at, kept.upstream, kept.model, kept.status) == (NOW, "up", "m", 503)
    assert (kept.problem, kept.request_id) == ("upstream_error", "req_1")
    assert "secret" not in repr(kept)


def test_name_that_a_client_made_up_is_not_kept(failures: RecentFailures) -> None:
    fail(failures, OTHER)
    assert failures.last[0].model == "*"


def test_failure_before_an_attempt_has_no_status(failures: RecentFailures) -> None:
    failures(Exchange(), Candidate(KNOWN), Problem("upstream_error"))
    assert failures.last[0].status == 0


def test_last_are_bounded_and_all_are_counted(failures: RecentFailures) -> None:
    for status in range(400, 420):
        fail(failures, status=status)
    assert [one.status for one in failures.last] == list(range(419, 419 - MOST_ERRORS, -1))
    assert failures.counts == {"up": 20}


def test_figures_name_every_upstream_of_the_configuration(failures: RecentFailures) -> None:
    health = Breakers(BreakerPolicy(min_failures=1, failure_rate=1), clock=lambda: NOW)
    mark = health.began(KNOWN)
    health.ended(KNOWN, "bad", mark)
    health.began(Target("up", "n"))
    fail(failures)
    sources = FigureSources(
        health=health,
        failures=failures,
        streams=lambda: 3,
        queued=lambda: 2,
        ledger_rows=lambda: 1,
        ledger_age=lambda: 0.54,
    )
    found = sources.figures(["up", "idle"])
    assert (found.streams, found.queued, found.ledger_rows, found.ledger_age) == (3, 2, 1, 0.5)
    up, idle = found.upstreams
    assert (up.name, up.state, up.broken, up.in_flight, up.failures) == ("up", "open", 1, 1, 1)
    assert up.until > NOW
    assert (idle.name, idle.state, idle.broken, idle.until) == ("idle", "closed", 0, 0.0)
    assert found.errors == failures.last
