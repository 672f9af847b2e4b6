"""Metrics of configuration reloads."""

from prometheus_client import CollectorRegistry

from middlewares import metric_table as table
from middlewares.metric_rows import NAMESPACE


class ReloadMetrics:
    """Metrics of configuration reloads, in the parent process that makes them.

    Written at once: reloads are rare, and that process has no event loop. Forked processes have
    their own zeros, so the gauge takes the maximum.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry if registry is not None else CollectorRegistry()
        self.reloads = table.CONFIG_RELOADS.make(registry, NAMESPACE)
        self.valid = table.CONFIG_VALID.make(registry, NAMESPACE)
        self.valid.set(1)

    def record(self, result: str, *, valid: bool) -> None:
        """Count a reload. valid: whether the file is valid."""
        self.reloads.labels(result).inc()
        self.valid.set(float(valid))
