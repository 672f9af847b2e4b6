"""How conformance builds each exported middleware.

A case is given the module of the middleware and yields what wraps it around an app. This file
imports no feature module itself: each case also runs where nothing else may be imported.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from middlewares.asgi import ASGIApp
from middlewares.exchange import Candidate, Exchange, Principal, Target
from middlewares.limits import Budget, Limits, Rate, Window
from middlewares.pricing import NANO, Price
from middlewares.stores import Key, KeyDirectory, MemoryKeyStore, digest, mint, prefix
from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.health.breakers import Breakers
from middlewares.stores.ledger.memory import MemoryLedgerStore
from middlewares.stores.ledger.writer import LedgerWriter
from middlewares.stores.replays.memory import MemoryReplays
from middlewares.tracing.sampling import Sampling
from middlewares.tracing.spans import Spans

Wrap = Callable[[ASGIApp], ASGIApp]

SECRET = mint("conformance", "test")


@dataclass(frozen=True)
class Case:
    """ready: what makes the middleware around an app, for as long as a test runs.
    headers: request headers with which it lets a request pass.
    gatekeeper: whether it refuses scopes that it does not know.
    answers_exceptions: whether an Exception raised before the start becomes an answer.
    """

    ready: Callable[[ModuleType], AbstractAsyncContextManager[Wrap]]
    headers: Mapping[str, str] = field(default_factory=dict)
    gatekeeper: bool = False
    answers_exceptions: bool = False


@asynccontextmanager
async def _auth(m: ModuleType) -> AsyncIterator[Wrap]:
    store = MemoryKeyStore()
    await store.insert(Key(id="k", digest=digest(SECRET), prefix=prefix(SECRET), created_at=0.0))
    keys = KeyDirectory(store)
    await keys.start()
    try:
        yield lambda app: m.AuthMiddleware(app, keys=keys)
    finally:
        await keys.aclose()


@asynccontextmanager
async def _budget(m: ModuleType) -> AsyncIterator[Wrap]:
    ledger = MemoryLedgerStore()
    counters = MemoryCounters()
    accounts = Accounts(counters, ledger)
    ledger_writer = LedgerWriter(ledger, None, committed=accounts.committed)
    await ledger_writer.start()
    budget = Budget(windows=(Window("1d", 86400.0, NANO),))

    def quote(exchange: Exchange) -> Any:
        """For somebody who was let in further out."""
        exchange.principal = Principal("conformance")
        return m.Quote(budget, "", input=10, output=20, price=Price(NANO, NANO))

    try:
        yield lambda app: m.BudgetMiddleware(
            app, accounts=accounts, ledger_writer=ledger_writer, quote=quote
        )
        assert accounts.holds == 0
    finally:
        await ledger_writer.aclose()
        await counters.aclose()


@asynccontextmanager
async def _downgrade(m: ModuleType) -> AsyncIterator[Wrap]:
    downgrade_to = {"rate_limited": "small", "budget_exceeded": "small"}
    yield lambda app: m.DowngradeMiddleware(app, downgrade_to=lambda exchange: downgrade_to)


@asynccontextmanager
async def _errors(m: ModuleType) -> AsyncIterator[Wrap]:
    yield lambda app: m.ErrorsMiddleware(app)


@asynccontextmanager
async def _fallback(m: ModuleType) -> AsyncIterator[Wrap]:
    """One place, so that the body is not held; what more of them change has tests of its own."""
    target = Target("up", "conformance")
    health = Breakers()
    yield lambda app: m.FallbackMiddleware(
        app, candidates=lambda exchange: (Candidate(target),), health=health
    )
    assert health.in_flight(target) == 0


@asynccontextmanager
async def _headers(m: ModuleType) -> AsyncIterator[Wrap]:
    yield lambda app: m.HeaderStampMiddleware(
        app, stamp=lambda exchange: [(b"x-endpoint", exchange.endpoint.encode())]
    )


@asynccontextmanager
async def _idempotency(m: ModuleType) -> AsyncIterator[Wrap]:
    """Without the header; what a key changes has tests of its own."""
    yield lambda app: m.IdempotencyMiddleware(app, store=MemoryReplays())


@asynccontextmanager
async def _metrics(m: ModuleType) -> AsyncIterator[Wrap]:
    metrics = m.Metrics()
    yield lambda app: m.MetricsMiddleware(app, metrics=metrics)


@asynccontextmanager
async def _rate_limit(m: ModuleType) -> AsyncIterator[Wrap]:
    limits = Limits(Rate(1000, 1.0), Rate(1_000_000, 1.0), concurrency=1000, on_excess="throttle")
    yield lambda app: m.RateLimitMiddleware(
        app, counters=MemoryCounters(), limits=lambda exchange: limits
    )


@asynccontextmanager
async def _request_id(m: ModuleType) -> AsyncIterator[Wrap]:
    yield lambda app: m.RequestIDMiddleware(app)


@asynccontextmanager
async def _tracing(m: ModuleType) -> AsyncIterator[Wrap]:
    """Every request is traced."""
    exporter = InMemorySpanExporter()
    spans = Spans(SimpleSpanProcessor(exporter), resource=Resource({}))
    yield lambda app: m.TracingMiddleware(app, spans=spans, sampling=Sampling(1.0))
    kinds = [span.kind for span in exporter.get_finished_spans()]
    assert set(kinds) <= {SpanKind.SERVER}


CASES: Mapping[str, Case] = {
    "AuthMiddleware": Case(_auth, headers={"x-api-key": SECRET}, gatekeeper=True),
    "BudgetMiddleware": Case(_budget, gatekeeper=True),
    "DowngradeMiddleware": Case(_downgrade),
    "ErrorsMiddleware": Case(_errors, answers_exceptions=True),
    "FallbackMiddleware": Case(_fallback),
    "HeaderStampMiddleware": Case(_headers),
    "IdempotencyMiddleware": Case(_idempotency),
    "MetricsMiddleware": Case(_metrics),
    "RateLimitMiddleware": Case(_rate_limit, gatekeeper=True),
    "RequestIDMiddleware": Case(_request_id),
    "TracingMiddleware": Case(_tracing),
}
