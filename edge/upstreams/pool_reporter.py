"""Reports the connections to upstreams as metrics."""

from collections.abc import Callable, Mapping

from middlewares import Metrics

from .pool_figures import PoolFigures


class PoolReporter:
    """Sets the metrics of pools when it is called. Those of upstreams that are gone become 0.

    figures: by name of the upstream.
    """

    def __init__(self, metrics: Metrics, figures: Callable[[], Mapping[str, PoolFigures]]) -> None:
        self._metrics = metrics
        self._figures = figures
        self._known: set[str] = set()

    def __call__(self) -> None:
        metrics, found = self._metrics, self._figures()
        self._known.update(found)
        for upstream in self._known:
            now = found.get(upstream, PoolFigures())
            metrics.pool_connections.labels(upstream, "busy").set(now.busy)
            metrics.pool_connections.labels(upstream, "idle").set(now.idle)
            metrics.pool_waiting.labels(upstream).set(now.waiting)
