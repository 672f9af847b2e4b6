"""Reports circuit breakers in the log and as metrics."""

from collections.abc import Mapping

import structlog

from edge.config.load import Settings
from edge.observability.log_text import LONGEST_REASON, shown
from middlewares import Metrics
from middlewares.exchange import Target
from middlewares.stores.health.base import State

_log = structlog.get_logger()

_NUMBERS: Mapping[State, float] = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


class BreakerReporter:
    """Reports changes of circuit breakers in the log and as a metric.

    The label of the metric is a target of the configuration, closed until it changes. Targets
    behind a `*` share one label, which has the state of the last change.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._broken: dict[tuple[str, str], State] = {}
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Take the names of a new configuration. Targets that it does not have are not broken."""
        self._named = {target for model in settings.models for target in model.targets}
        upstreams = {upstream.name for upstream in settings.upstreams}
        for upstream, label in tuple(self._broken):
            named = upstream in upstreams if label == "*" else f"{upstream}/{label}" in self._named
            if not named:
                self._show(upstream, label, "closed")
        for name in self._named:
            upstream, _, label = name.partition("/")
            if (upstream, label) not in self._broken:
                self._show(upstream, label, "closed")

    def _show(self, upstream: str, label: str, state: State) -> None:
        self._metrics.breaker_state.labels(upstream, label).set(_NUMBERS[state])
        self._metrics.broken.labels(upstream, label).set(float(state != "closed"))
        if state == "closed":
            self._broken.pop((upstream, label), None)
        else:
            self._broken[upstream, label] = state

    def knows(self, target: Target) -> bool:
        """Whether the configuration names the target, so that no client made up its name."""
        return target.name in self._named

    def __call__(self, target: Target, state: State, reason: str) -> None:
        label = target.model if self.knows(target) else "*"
        self._show(target.upstream, label, state)
        say = _log.warning if state == "open" else _log.info
        say(
            "circuit breaker", target=target.name, state=state, reason=shown(reason, LONGEST_REASON)
        )
