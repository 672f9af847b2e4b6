"""States of circuit breakers as metrics."""

import pytest

from edge.config.load import parse
from edge.routing.breaker_reporter import BreakerReporter
from middlewares import Metrics
from middlewares.exchange import Target
from middlewares.stores.health.base import State


def document(*targets: str) -> dict[str, object]:
    return {
        "upstreams": [{"name": "up", "dialect": "simulator"}],
        "models": [
            {"id": f"m{n}" + "*" * target.endswith("*"), "targets": [target]}
            for n, target in enumerate(targets)
        ],
    }


def shown(metrics: Metrics, target: str) -> tuple[float | None, float | None]:
    """The state of a target, and whether it is broken."""
    labels = {"upstream": "up", "target": target}
    value = metrics.registry.get_sample_value
    return (
        value("penstock_breaker_state", labels),
        value("penstock_target_broken", labels),
    )


def test_targets_of_the_configuration_are_closed_at_first() -> None:
    metrics = Metrics()
    reporter = BreakerReporter(parse(document("up/a")), metrics)
    assert shown(metrics, "a") == (0, 0)
    reporter.adopt(parse(document("up/a", "up/b")))
    assert shown(metrics, "b") == (0, 0)


@pytest.mark.parametrize(
    ("state", "number", "broken"), [("closed", 0, 0), ("half_open", 1, 1), ("open", 2, 1)]
)
def test_state_is_a_number(state: State, number: int, broken: int) -> None:
    metrics = Metrics()
    reporter = BreakerReporter(parse(document("up/a")), metrics)
    reporter(Target("up", "a"), state, "why")
    assert shown(metrics, "a") == (number, broken)


def test_adopt_keeps_the_state_of_a_target_and_closes_those_that_are_gone() -> None:
    metrics = Metrics()
    reporter = BreakerReporter(parse(document("up/a", "up/b")), metrics)
    reporter(Target("up", "a"), "open", "why")
    reporter(Target("up", "b"), "half_open", "why")
    reporter.adopt(parse(document("up/a")))
    assert shown(metrics, "a") == (2, 1)
    assert shown(metrics, "b") == (0, 0)


def test_target_that_a_client_named_has_no_series_of_its_own() -> None:
    metrics = Metrics()
    reporter = BreakerReporter(parse(document("up/*")), metrics)
    reporter(Target("up", "made-up"), "open", "why")
    assert shown(metrics, "made-up") == (None, None)
    assert shown(metrics, "*") == (2, 1)
