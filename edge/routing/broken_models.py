"""Models of which no target may be tried now, as a metric.

Theory of operation. A model is sampled from the first time that a circuit breaker of one of its
targets opens: nothing is done for models that never failed. Its value is computed at each write of
the metrics, and follows the clock: it is 0 again when a target may be tried, without a request that
tries it.
"""

from collections.abc import Callable
from functools import partial

from edge.config.load import Settings
from middlewares.exchange import Target
from middlewares.stores.health.base import Health, State


class BrokenModels:
    """Whether all targets of a model are kept from requests.

    Models with a target that ends in `*` are left out: what callers name has breakers of its own.

    sample: registers the source of a model's value, by the id of the model.
    """

    def __init__(
        self, settings: Settings, sample: Callable[[str, Callable[[], float]], None]
    ) -> None:
        self._sample = sample
        self._shown: set[str] = set()
        self._health: Health | None = None
        self.adopt(settings)

    def adopt(self, settings: Settings) -> None:
        """Take the models of a new configuration. One that it does not have is not broken."""
        self._targets = {
            model.id: tuple(Target(*name.split("/", 1)) for name in model.targets)
            for model in settings.models
            if not any(name.endswith("/*") for name in model.targets)
        }

    def watch(self, health: Health) -> None:
        """Read the state of targets from `health`, which is opened after this."""
        self._health = health

    def changed(self, target: Target, state: State) -> None:
        """Note that the circuit breaker of a target has changed."""
        if state != "open":
            return
        for model, targets in self._targets.items():
            if target in targets and model not in self._shown:
                self._shown.add(model)
                self._sample(model, partial(self._value, model))

    def broken(self, model: str) -> bool:
        """Whether no target of this model may be tried now."""
        health, targets = self._health, self._targets.get(model)
        if health is None or not targets:
            return False
        return all(health.wait(target) > 0 for target in targets)

    def _value(self, model: str) -> float:
        return float(self.broken(model))
