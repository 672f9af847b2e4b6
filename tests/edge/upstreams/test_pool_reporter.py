"""Connections to upstreams as metrics."""

from edge.upstreams.pool_figures import PoolFigures
from edge.upstreams.pool_reporter import PoolReporter
from middlewares import Metrics


def test_pools_of_upstreams_that_are_gone_become_empty() -> None:
    metrics = Metrics()
    found = {"a": PoolFigures(busy=3, idle=2, waiting=5), "b": PoolFigures()}
    metrics.report_from(PoolReporter(metrics, lambda: found))

    def shown(upstream: str) -> list[float | None]:
        metrics.flush()
        value = metrics.registry.get_sample_value
        connections = "penstock_pool_connections"
        return [
            value(connections, {"upstream": upstream, "state": "busy"}),
            value(connections, {"upstream": upstream, "state": "idle"}),
            value("penstock_pool_waiting", {"upstream": upstream}),
        ]

    assert shown("a") == [3, 2, 5]
    assert shown("b") == [0, 0, 0]
    del found["a"]
    assert shown("a") == [0, 0, 0]
    assert shown("c") == [None, None, None]


def test_figures_of_two_generations_add_up() -> None:
    assert PoolFigures(1, 2, 3).plus(PoolFigures(10, 20, 30)) == PoolFigures(11, 22, 33)
