"""An upstream in memory that plays a script, and the whole chain over it.

    up = Scripted(Answer(body=[b"data: ...\\n\\n", gate, Disconnected("cut")]))
    gateway = ScriptedGateway(up)
    answer = await request(gateway.app, "POST", "/v1/chat/completions", json=...)

A script is data: bytes are returned by reads, an event is waited for, an exception is raised.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from opentelemetry.sdk.resources import Resource

from edge.api.account import AccountApp
from edge.api.handlers import handlers, responses_layer
from edge.api.health import health_app
from edge.billing.plans import Plans
from edge.billing.token_estimate import Estimator
from edge.billing.usage_report import UsageReport
from edge.chain import INNER_LAYERS, OUTER_LAYERS, SUBREQUEST_LAYERS, Parts, compose
from edge.config.load import parse
from edge.dashboard.app import DashboardApp
from edge.dashboard.parts import DashboardParts
from edge.dialects.sealing import Sealing
from edge.endpoints import ENDPOINTS, Codec, Endpoint
from edge.management.http import AdminApp
from edge.media.decode.sandbox import Sandbox
from edge.observability.span_export import facts_of
from edge.proxy.describing.build import media_steps
from edge.proxy.describing.steps import DescribingSlots
from edge.proxy.form_intake import FileSource
from edge.proxy.forwarder import MediaSteps
from edge.proxy.image_links import ImageLinks
from edge.proxy.subrequests import Subrequests
from edge.routing.candidates import Candidates
from edge.routing.catalog import Catalog
from edge.routing.paths import route_of
from edge.runtime.admission import Admission
from edge.runtime.worker_table import WorkerSlot
from edge.services import uploads_of
from edge.upstreams import Header, Request, Response, Sink
from edge.upstreams.build import providers_of
from edge.upstreams.provider import Provider
from middlewares import Exchange, Metrics
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import Dialect
from middlewares.rate_limit.throttle_queue import ThrottleQueue
from middlewares.stores import (
    KeyDirectory,
    MemoryKeyStore,
    MemoryResponseStore,
    MemorySecretStore,
    ResponseStore,
)
from middlewares.stores.accounts import Accounts
from middlewares.stores.audit.base import MemoryAuditStore
from middlewares.stores.counters.base import Counters
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.descriptions.base import DescriptionStore
from middlewares.stores.health.breakers import Breakers
from middlewares.stores.ledger.memory import MemoryLedgerStore
from middlewares.stores.ledger.writer import LedgerWriter
from middlewares.stores.replays.memory import MemoryReplays
from middlewares.stores.sessions.base import MemorySessionStore
from middlewares.tracing.spans import EndedSpans, Spans

SSE: Header = (b"content-type", b"text/event-stream; charset=utf-8")
JSON: Header = (b"content-type", b"application/json")


@dataclass(frozen=True)
class Pulse:
    """The same bytes again and again, `every` so many seconds, for ever."""

    data: bytes
    every: float


Step = bytes | asyncio.Event | BaseException | Pulse


@dataclass
class Answer:
    """status, headers and body of one answer. `before` happens in place of or before the head.

    pumping: whether the bytes are pushed from event loop callbacks, as the native transport does.
    """

    body: Sequence[Step] = ()
    status: int = 200
    headers: Sequence[Header] = (SSE,)
    before: Sequence[Step] = ()
    pumping: bool = False


class _Response:
    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers = list(answer.headers)
        self.reads = 0
        self.closed = asyncio.Event()
        self._steps = list(answer.body)

    async def read(self) -> bytes:
        self.reads += 1
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, BaseException):
                raise step
            elif isinstance(step, Pulse):
                self._steps.insert(0, step)
                await asyncio.sleep(step.every)
                return step.data
            elif step:
                return step
        return b""

    def close(self) -> None:
        self.closed.set()


class _PumpingResponse(_Response):
    async def pump(self, sink: Sink) -> None:
        loop = asyncio.get_running_loop()
        while data := await self.read():
            taken: asyncio.Future[Any] = loop.create_future()

            def push(data: bytes = data, taken: asyncio.Future[Any] = taken) -> None:
                if taken.done():
                    return
                try:
                    taken.set_result(sink(data))
                except Exception as raised:
                    taken.set_exception(raised)

            loop.call_soon(push)
            rest = await taken
            if rest is not None:
                await rest


class Scripted:
    """Plays `answers` one after the other, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.responses: list[_Response] = []
        self.opening = asyncio.Event()
        """Set when a request has come."""
        self.abandoned = asyncio.Event()
        """Set when `open` was cancelled before the head."""

    async def open(self, request: Request) -> Response:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        self.opening.set()
        try:
            for step in answer.before:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, BaseException):
                    raise step
        except asyncio.CancelledError:
            self.abandoned.set()
            raise
        response = _PumpingResponse(answer) if answer.pumping else _Response(answer)
        self.responses.append(response)
        return response

    async def aclose(self) -> None:
        return

    def header(self, name: bytes) -> list[bytes]:
        """Values of a header of the last request."""
        return [value for key, value in self.requests[-1].headers if key == name]


DOCUMENT: dict[str, Any] = {
    "brand": "Acme",
    "auth": {"mode": "none"},
    "store": {"responses_ttl": "30d"},
    "limits": {"address": "1000000/s"},
    "server": {"max_body": 10_000, "trusted_proxies": ["10.0.0.0/8"]},
    "upstreams": [
        {"name": "both", "dialect": "simulator"},
        {"name": "oai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
        {"name": "ant", "dialect": "anthropic", "base_url": "http://127.0.0.1:9/v1"},
    ],
    "models": [
        {"id": "m1", "aliases": ["m1-alias"], "targets": ["both/upstream-model-x"]},
        {"id": "only-oai", "targets": ["oai/o1"]},
        {"id": "only-ant", "targets": ["ant/a1"]},
        {
            "id": "priced",
            "display_name": "Priced One",
            "context": 128000,
            "max_output": 4096,
            "targets": ["both/p"],
            "price": {"input": "3.00", "output": "15", "cache_read": "0.3"},
        },
    ],
}

UPSTREAM_KEY = b"sk-upstream-canary-0123456789"


@dataclass
class ScriptedGateway:
    """The whole chain over one scripted upstream. `log` gathers the lines.

    configured: whether providers are made of the document's upstreams, all but their transports.
    processor: takes the spans of requests, all of which are traced; None: none is.
    others: upstreams of providers by name, in place of `upstream`.
    sandbox: decodes media; with it media are described, and kept in `descriptions`.
    """

    upstream: Scripted
    hold: float = 10.0
    keep_alive: float = 12.0
    first_content: float = 120.0
    max_answer: int = 1 << 20
    keys: KeyDirectory | None = None
    document: dict[str, Any] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    ready: bool = True
    estimator: Estimator = field(default_factory=Estimator)
    responses: ResponseStore | None = field(default_factory=MemoryResponseStore)
    ledger: MemoryLedgerStore = field(default_factory=MemoryLedgerStore)
    configured: bool = False
    endpoints: Sequence[Endpoint] = ENDPOINTS
    others: dict[str, Scripted] = field(default_factory=dict)
    sandbox: Sandbox | None = None
    descriptions: DescriptionStore | None = None
    image_links: ImageLinks | None = None
    form_sources: Mapping[Codec, FileSource] = field(default_factory=dict)
    counters: Counters | None = None
    processor: EndedSpans | None = None

    def __post_init__(self) -> None:
        given = {**DOCUMENT, **self.document}
        times = {"first_token_hold": f"{self.hold}s", "ping_interval": f"{self.keep_alive}s"}
        given["server"] = {**given["server"], **times}
        self.settings = parse(given)
        self.catalog = Catalog.build(self.settings)
        self.exchanges: list[Exchange] = []
        spoken: dict[str, tuple[Dialect, ...]] = {
            "both": ("openai", "anthropic", "responses"),
            "oai": ("openai",),
            "ant": ("anthropic",),
            "res": ("responses",),
        }
        providers = {
            name: Provider(
                name=name,
                upstream=self.others.get(name, self.upstream),
                dialects=frozenset(dialects),
                base_url="https://upstream.example/v1",
                base_path=b"/v1",
                headers=((b"authorization", b"Bearer " + UPSTREAM_KEY),),
                first_content=self.first_content,
            )
            for name, dialects in spoken.items()
        }
        if self.configured:
            providers = {
                name: msgspec.structs.replace(provider, upstream=self.upstream)
                for name, provider in providers_of(self.settings).items()
            }
        counters = self.counters or MemoryCounters()
        self.accounts = Accounts(counters, self.ledger)
        self.ledger_writer = LedgerWriter(self.ledger, None, committed=self.accounts.committed)
        plans = Plans(self.settings)
        health = Breakers()
        usage_report = UsageReport(
            limits=plans.limits,
            team_limits=plans.team_limits,
            accounts=self.accounts,
            rates=counters,
            ledger=self.ledger,
        )
        keys = MemoryKeyStore()
        sealing = Sealing(MemorySecretStore())
        parts = Parts(
            settings=self.settings,
            catalog=self.catalog,
            plans=plans,
            keys=self.keys,
            counters=counters,
            accounts=self.accounts,
            ledger_writer=self.ledger_writer,
            replays=MemoryReplays(),
            responses_layer=responses_layer(
                self.settings,
                metrics=self.metrics,
                responses=self.responses,
                sealing=sealing,
                estimator=self.estimator,
            ),
            candidates=Candidates(
                self.catalog,
                health=health,
                affinity=None,
                dialects=lambda name: providers[name].dialects,
            ),
            health=health,
            throttle_queue=ThrottleQueue(),
            token_queue=ThrottleQueue(),
            uploads=uploads_of(self.settings),
            metrics=self.metrics,
            estimator=self.estimator,
            log=lambda event, fields: self.log.append({"event": event, **fields}),
            health_app=health_app(
                self.settings,
                self.metrics,
                lambda: {} if self.ready else {"reason": "stopping"},
                self._status,
                WorkerSlot.alone().fleet,
            ),
            admin_app=AdminApp(
                token=None,
                settings=self.settings,
                catalog=self.catalog,
                keys=keys,
                teams=keys.teams,
                audit=MemoryAuditStore(),
                usage_report=usage_report,
            ),
            dashboard_app=DashboardApp(
                DashboardParts(
                    settings=self.settings,
                    catalog=self.catalog,
                    plans=plans,
                    keys=keys,
                    teams=keys.teams,
                    directory=None,
                    sessions=MemorySessionStore(),
                    sealing=sealing,
                    audit=MemoryAuditStore(),
                    usage_report=usage_report,
                    ledger=self.ledger,
                    counters=counters,
                    metrics=self.metrics,
                )
            ),
            admission=Admission(None, lambda: 0),
            spans=self._spans(),
            endpoints=self.endpoints,
            form_sources=self.form_sources,
        )
        bottom = handlers(
            self.settings,
            self.catalog,
            providers,
            sealing=sealing,
            estimator=self.estimator,
            account=AccountApp(usage_report, flush=self.ledger_writer.flush),
            files={},
            max_answer=self.max_answer,
            image_links=self.image_links,
            media=None if self.sandbox is None else partial(self._media_steps, parts, self.sandbox),
        )
        inner = compose(bottom, parts, INNER_LAYERS)
        self.inner = inner.app
        """The layers behind `auth`, for requests that have a principal."""
        self._app = compose(inner.app, parts, OUTER_LAYERS).app

    def _media_steps(self, parts: Parts, sandbox: Sandbox, forwarder: ASGIApp) -> MediaSteps:
        around = compose(forwarder, parts, SUBREQUEST_LAYERS).app
        return media_steps(
            self.settings.media,
            self.catalog,
            Subrequests(around, estimator=self.estimator),
            sandbox=sandbox,
            store=self.descriptions,
            slots=DescribingSlots(),
            metrics=self.metrics,
        )

    def _spans(self) -> Spans | None:
        """What hands the spans of requests to `processor`."""
        if self.processor is None:
            return None
        facts = {config.name: facts_of(config) for config in self.settings.upstreams}
        resource = Resource({"service.name": "penstock"})
        return Spans(self.processor, resource=resource, upstreams=facts, route=route_of)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The chain; what it knows of each request is kept in `exchanges`."""
        if scope["type"] == "http":
            self.exchanges.append(Exchange.of(scope))
        await self._app(scope, receive, send)

    async def _status(self) -> dict[str, Any]:
        return {"state": "ready" if self.ready else "draining"}

    def sample(self, name: str, **labels: str) -> float | None:
        """The value of one metric."""
        self.metrics.flush()
        return self.metrics.registry.get_sample_value(name, labels)
