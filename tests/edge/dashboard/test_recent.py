"""Figures of the newest requests."""

import pytest

from edge.dashboard.recent import MOST, SECONDS, recent
from middlewares.stores.ledger.base import AttemptRecord
from middlewares.stores.ledger.memory import MemoryLedgerStore
from tests.middlewares.stores.entries import use

NOW = 10_000.0


async def test_recent_counts_what_ended_within_the_time() -> None:
    ledger = MemoryLedgerStore()
    rows = [use(at=NOW - n, first_content_ms=float(n), ended="completed") for n in range(1, 21)]
    rows += [use(at=NOW - 5, ended="failed"), use(at=NOW - SECONDS - 1, ended="failed")]
    rows += [use(at=NOW - 6, parent="req_1", ended="failed")]
    await ledger.append(rows)
    found = await recent(ledger, NOW)
    assert (found.requests, found.failed, found.capped) == (21, 1, False)
    assert found.rate == pytest.approx(21 / SECONDS)
    assert found.failed_percent == pytest.approx(100 / 21)
    assert found.p95 == 20.0


async def test_recent_of_a_busy_gateway_covers_the_newest() -> None:
    ledger = MemoryLedgerStore()
    await ledger.append([use(at=NOW - n / 100) for n in range(MOST + 50)])
    found = await recent(ledger, NOW)
    assert (found.requests, found.capped) == (MOST, True)
    assert found.rate == pytest.approx(100, rel=0.01)


async def test_recent_of_nothing_is_nothing() -> None:
    found = await recent(MemoryLedgerStore(), NOW)
    assert (found.rate, found.failed_percent, found.p95, found.upstreams) == (0.0, 0.0, None, {})


async def test_upstreams_have_their_attempts_and_the_last_failure() -> None:
    ledger = MemoryLedgerStore()
    bad = AttemptRecord("a", "m", 500, "m", "upstream_error", 30.0, "words of the upstream")
    worse = AttemptRecord("a", "m", 0, "m", "upstream_timeout", 90.0)
    good = AttemptRecord("b", "m", 200, "m", "", 10.0)
    await ledger.append(
        [use(at=NOW - 20, attempts=[worse, good]), use(at=NOW - 10, attempts=[bad, good])]
    )
    found = (await recent(ledger, NOW)).upstreams
    assert (found["a"].attempts, found["a"].failed, found["a"].p95) == (2, 2, 90.0)
    assert (found["a"].fault, found["a"].fault_at) == ("upstream_error, status 500", NOW - 10)
    assert (found["b"].attempts, found["b"].failed, found["b"].fault) == (2, 0, "")
