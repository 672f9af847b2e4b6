"""The figures of this worker for the status, from the parts that count them."""

from collections.abc import Callable, Iterable

import msgspec

from edge.runtime.figures import UpstreamFigures, WorkerFigures
from middlewares.stores.health.base import Health, UpstreamHealth

from .recent_failures import RecentFailures

_IDLE = UpstreamHealth("closed", 0, 0.0, 0)


class FigureSources(msgspec.Struct, frozen=True):
    """Where the figures come from. Each is called about once a second.

    streams, queued, ledger_rows, ledger_age: see `WorkerFigures`.
    """

    health: Health
    failures: RecentFailures
    streams: Callable[[], int]
    queued: Callable[[], int]
    ledger_rows: Callable[[], int]
    ledger_age: Callable[[], float]

    def figures(self, upstreams: Iterable[str]) -> WorkerFigures:
        """The figures now. upstreams: names of the configuration."""
        health, failures = self.health.by_upstream(), self.failures.counts
        return WorkerFigures(
            streams=self.streams(),
            queued=self.queued(),
            ledger_rows=self.ledger_rows(),
            ledger_age=round(self.ledger_age(), 1),
            upstreams=tuple(
                UpstreamFigures(
                    name=name,
                    state=found.state,
                    broken=found.broken,
                    until=round(found.until, 3),
                    in_flight=found.in_flight,
                    failures=failures[name],
                )
                for name in upstreams
                for found in (health.get(name, _IDLE),)
            ),
            errors=self.failures.last,
        )
