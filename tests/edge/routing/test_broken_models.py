"""Models of which no target may be tried."""

from collections.abc import Callable
from typing import Any

from edge.config.load import Settings, parse
from edge.routing.broken_models import BrokenModels
from middlewares.exchange import Target
from middlewares.stores.health.breakers import BreakerPolicy, Breakers

ONE, TWO = Target("up", "one"), Target("up", "two")
POLICY = BreakerPolicy(min_failures=1, failure_rate=1)


def configured(**models: list[str]) -> Settings:
    document: dict[str, Any] = {
        "auth": {"mode": "none"},
        "upstreams": [{"name": "up", "dialect": "simulator"}],
        "models": [
            {"id": "*" if name == "any" else name, "targets": targets}
            for name, targets in models.items()
        ],
    }
    return parse(document)


class Shown:
    """The metric: a source for each model that it was given."""

    def __init__(self) -> None:
        self.sources: dict[str, Callable[[], float]] = {}

    def __call__(self, model: str, source: Callable[[], float]) -> None:
        assert model not in self.sources
        self.sources[model] = source

    @property
    def values(self) -> dict[str, float]:
        return {model: source() for model, source in self.sources.items()}


class Parts:
    """Broken models over real breakers with a clock of their own."""

    def __init__(self, settings: Settings) -> None:
        self.now = 1_000_000.0
        self.shown = Shown()
        self.models = BrokenModels(settings, self.shown)
        self.health = Breakers(
            POLICY,
            changed=lambda target, state, reason: self.models.changed(target, state),
            clock=lambda: self.now,
            random=lambda: 0.5,
        )
        self.models.watch(self.health)

    def fail(self, target: Target) -> None:
        self.health.ended(target, "bad", self.health.began(target))

    def answer(self, target: Target) -> None:
        mark = self.health.began(target)
        self.health.answered(target, mark)
        self.health.ended(target, "none", mark)


def test_broken_all_targets_open_until_one_may_be_tried() -> None:
    parts = Parts(configured(both=["up/one", "up/two"], other=["up/three"]))
    parts.fail(ONE)
    assert parts.shown.values == {"both": 0.0}
    parts.fail(TWO)
    assert parts.shown.values == {"both": 1.0}
    parts.now += POLICY.open_for + 1
    assert parts.shown.values == {"both": 0.0}  # idle, and no request tried it


def test_broken_probe_fails_model_is_broken_again() -> None:
    parts = Parts(configured(single=["up/one"]))
    parts.fail(ONE)
    parts.now += POLICY.open_for + 1
    parts.fail(ONE)
    assert parts.shown.values == {"single": 1.0}
    parts.now += 2 * POLICY.open_for + 1
    parts.answer(ONE)
    assert parts.shown.values == {"single": 0.0}


def test_broken_reload_without_the_model_is_not_broken() -> None:
    parts = Parts(configured(single=["up/one"]))
    parts.fail(ONE)
    parts.models.adopt(configured(single=["up/two"]))
    assert parts.shown.values == {"single": 0.0}
    parts.models.adopt(configured(other=["up/one"]))
    assert parts.shown.values == {"single": 0.0}


def test_broken_model_behind_a_star_is_left_out() -> None:
    parts = Parts(configured(any=["up/*"]))
    parts.fail(ONE)
    assert parts.shown.values == {}


def test_broken_before_health_is_known_is_not_broken() -> None:
    shown = Shown()
    models = BrokenModels(configured(single=["up/one"]), shown)
    models.changed(ONE, "open")
    assert shown.values == {"single": 0.0}
