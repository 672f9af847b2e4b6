"""Figures of the newest finished requests: rate, failures, first content, and each upstream."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from middlewares.fallback.retry_state import FAILED as RETRIED
from middlewares.stores.ledger.base import Entry, LedgerStore
from middlewares.stores.ledger.spend import FAILED

SECONDS = 300.0
MOST = 500
"""What is read: the newest requests of so many seconds, and no more than so many."""


class UpstreamFigures(msgspec.Struct, frozen=True):
    """Attempts at one upstream. p95: milliseconds. fault: the last one, in our words."""

    attempts: int
    failed: int
    p95: float | None
    fault: str
    fault_at: float | None


class Recent(NamedTuple):
    """requests, failed: counts. seconds: the time that they cover. p95: milliseconds to the first
    content. capped: whether there were more."""

    requests: int
    failed: int
    seconds: float
    p95: float | None
    capped: bool
    upstreams: dict[str, UpstreamFigures]

    @property
    def rate(self) -> float:
        """Requests for each second."""
        return self.requests / self.seconds if self.requests else 0.0

    @property
    def failed_percent(self) -> float:
        """Share of requests that failed or broke off."""
        return 100 * self.failed / self.requests if self.requests else 0.0


async def recent(ledger: LedgerStore, now: float) -> Recent:
    """Figures up to `now`, over all workers and replicas. Raises StoreUnavailable."""
    rows = await ledger.page(kind="use", since=now - SECONDS, limit=MOST)
    capped = len(rows) == MOST
    seconds = max(1.0, now - rows[-1].at) if capped else SECONDS
    own = [row for row in rows if not row.parent]
    return Recent(
        requests=len(own),
        failed=sum(row.ended in FAILED for row in own),
        seconds=seconds,
        p95=_p95([row.first_content_ms for row in own if row.first_content_ms is not None]),
        capped=capped,
        upstreams=_by_upstream(rows),
    )


def _by_upstream(rows: Sequence[Entry]) -> dict[str, UpstreamFigures]:
    took: defaultdict[str, list[float]] = defaultdict(list)
    failed: defaultdict[str, int] = defaultdict(int)
    last: dict[str, tuple[str, float]] = {}
    for row in rows:  # newest first
        for tried in reversed(row.attempts):
            took[tried.upstream].append(tried.ms)
            if tried.problem in RETRIED:  # others are faults of requests
                failed[tried.upstream] += 1
                status = f", status {tried.status}" if tried.status else ""
                last.setdefault(tried.upstream, (tried.problem + status, row.at))
    return {
        name: UpstreamFigures(len(times), failed[name], _p95(times), *last.get(name, ("", None)))
        for name, times in took.items()
    }


def _p95(values: list[float]) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] if ordered else None
