"""The middleware chain, outermost layer first, with the reason for each layer's position."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from starlette.middleware.cors import CORSMiddleware

from edge.billing.plans import Plans
from edge.billing.token_estimate import Estimator
from edge.config.error_checks import kind_changes
from edge.config.load import Settings
from edge.media.audio_length import AudioMeter
from edge.media.decode.sandbox import Sandbox
from edge.observability.request_log import RequestLogMiddleware
from edge.proxy.audio_source import AudioSource, NamedFiles
from edge.proxy.form_intake import FileSource
from edge.proxy.intake import IntakeMiddleware
from edge.proxy.quote import Quoter
from edge.routing.candidates import Candidates
from edge.routing.catalog import Catalog, Model
from edge.routing.paths import UNROUTED, Paths
from edge.routing.router import RouterMiddleware, allowed_from
from edge.routing.unrouted import UnroutedMiddleware
from edge.runtime.admission import Admission, AdmissionMiddleware
from middlewares import (
    AuthMiddleware,
    BudgetMiddleware,
    DowngradeMiddleware,
    ErrorsMiddleware,
    Exchange,
    FallbackMiddleware,
    HeaderStampMiddleware,
    IdempotencyMiddleware,
    Metrics,
    MetricsMiddleware,
    RateLimitMiddleware,
    RequestIDMiddleware,
    RetryPolicy,
    Sampling,
    TracingMiddleware,
    by_address,
    rate_limit_headers,
)
from middlewares.asgi import ASGIApp, Entered, Header, Scope
from middlewares.budget import credits_used
from middlewares.fallback.middleware import Failed
from middlewares.idempotency.middleware import members
from middlewares.limits import Limits, Rate
from middlewares.rate_limit.throttle_queue import ThrottleQueue
from middlewares.stores import KeyDirectory
from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.base import RateCounters
from middlewares.stores.health.base import Health
from middlewares.stores.ledger.writer import LedgerWriter
from middlewares.stores.replays.base import ReplayStore
from middlewares.tracing.middleware import SpanWriter
from middlewares.uploads import Uploads

from .endpoints import ENDPOINTS, Codec, Endpoint

if TYPE_CHECKING:
    from edge.api.handlers import ResponsesLayer

LARGEST_IMAGE_FILE = 50 << 20
"""Bytes of an image in a form, as at OpenAI."""


class Parts(msgspec.Struct, frozen=True):
    """The settings, stores and apps that the layers need. spans: writes the spans of requests;
    None makes no traces. log: takes an event name and its fields, a dict that it may keep.
    stopped: see `ErrorsMiddleware`. failed: see `FallbackMiddleware`. open_apps: of open
    endpoints, by name. form_sources: see `IntakeMiddleware`."""

    settings: Settings
    catalog: Catalog
    plans: Plans
    keys: KeyDirectory | None
    counters: RateCounters
    accounts: Accounts
    ledger_writer: LedgerWriter
    replays: ReplayStore
    responses_layer: Callable[[ASGIApp], "ResponsesLayer"]
    candidates: Candidates
    health: Health
    throttle_queue: ThrottleQueue
    token_queue: ThrottleQueue
    uploads: Uploads
    metrics: Metrics
    estimator: Estimator
    log: Callable[[str, dict[str, Any]], Any]
    health_app: ASGIApp
    admin_app: ASGIApp
    dashboard_app: ASGIApp
    admission: Admission
    spans: SpanWriter | None = None
    sandbox: Sandbox | None = None
    named_files: NamedFiles | None = None
    stopped: Callable[[], bool] = lambda: False
    failed: Failed | None = None
    open_apps: Mapping[str, ASGIApp] = {}
    form_sources: Mapping[Codec, FileSource] = {}
    endpoints: Sequence[Endpoint] = ENDPOINTS


class Layer(NamedTuple):
    """One middleware of the chain."""

    name: str
    why: str
    make: Callable[[ASGIApp, Parts], ASGIApp]


def _tracing(app: ASGIApp, parts: Parts) -> ASGIApp:
    if parts.spans is None:
        return app
    tracing = parts.settings.tracing
    sampling = Sampling(tracing.ratio, parent_rate=tracing.parent_rate)
    return TracingMiddleware(app, spans=parts.spans, sampling=sampling, watch=False)


def _for_operators(parts: Parts) -> Callable[[Exchange], bool]:
    """Whether a request is a health check or a scrape from the operator's own networks."""
    networks = parts.settings.server.ops_networks
    return lambda exchange: exchange.endpoint == "ops" and allowed_from(exchange.client, networks)


def _request_log(app: ASGIApp, parts: Parts) -> ASGIApp:
    if not parts.settings.log.requests:
        return app
    return RequestLogMiddleware(app, log=parts.log, quiet=_for_operators(parts))


def _address_limit(app: ASGIApp, parts: Parts) -> ASGIApp:
    rate = parts.settings.limits.safety_net
    limits = Limits(requests=Rate(rate.count, rate.seconds))
    free = _for_operators(parts)
    return RateLimitMiddleware(
        app,
        counters=parts.counters,
        limits=lambda exchange: None if free(exchange) else limits,
        subject=by_address,
        name="address",
        report=False,
        body_unread=True,
    )


def _auth(app: ASGIApp, parts: Parts) -> ASGIApp:
    settings = parts.settings
    shared = any(route.dialect == "auto" for route in settings.routes)
    return AuthMiddleware(
        app,
        keys=parts.keys,
        mode=settings.auth.mode,
        undecided=_depends_on_body if shared else None,
    )


def _depends_on_body(exchange: Exchange) -> bool:
    row: Endpoint = exchange.row
    return row.rules is not None and len(row.rules.rows) > 1


def _request_limit(app: ASGIApp, parts: Parts) -> ASGIApp:
    return RateLimitMiddleware(
        app,
        counters=parts.counters,
        limits=parts.plans.before_body,
        team=parts.plans.team_before_body,
        exempt=_unlimited(parts),
        queue=parts.throttle_queue,
        body_unread=True,
        refund_refused=True,
    )


def _unlimited(parts: Parts) -> frozenset[str]:
    return frozenset(row.name for row in parts.endpoints if not row.limited)


def _token_limit(app: ASGIApp, parts: Parts) -> ASGIApp:
    """Token limit, with its own queue. Its requests hold slots: if they waited behind requests
    that wait for a slot, no slot would be released."""
    return RateLimitMiddleware(
        app,
        counters=parts.counters,
        limits=parts.plans.with_body,
        team=parts.plans.team_with_body,
        exempt=_unlimited(parts),
        tokens=lambda exchange: 0 if exchange.row.billed in ("free", "job") else exchange.estimate,
        queue=parts.token_queue,
    )


def _downgrade(app: ASGIApp, parts: Parts) -> ASGIApp:
    catalog, plans = parts.catalog, parts.plans

    def downgrade_to(exchange: Exchange) -> Mapping[str, str]:
        if not exchange.row.downgradable:
            return {}
        choices, principal = plans.downgrades(exchange.principal), exchange.principal
        if not choices or principal is None:
            return choices
        models = {kind: catalog.find(name) for kind, name in choices.items()}
        return {
            kind: choices[kind]
            for kind, model in models.items()
            if model is not None and catalog.allows(principal, model)
        }

    def named(exchange: Exchange) -> str:
        model: Model = exchange.resolved[0]
        return model.id

    if not plans.downgrade:
        return app
    return DowngradeMiddleware(app, downgrade_to=downgrade_to, named=named)


def _fingerprint(scope: Scope, exchange: Exchange) -> bytes | None:
    """None for jobs, which keep the key in their own row."""
    return None if exchange.row.billed == "job" else members(scope, exchange)


def _fallback(app: ASGIApp, parts: Parts) -> ASGIApp:
    fallback = parts.settings.fallback
    return FallbackMiddleware(
        app,
        candidates=parts.candidates,
        served=parts.candidates.served,
        health=parts.health,
        failed=parts.failed,
        retry=RetryPolicy(
            max_attempts=fallback.max_attempts,
            deadline=fallback.deadline,
            retries=fallback.retries,
            backoff=fallback.backoff,
            max_backoff=fallback.max_backoff,
            retry_unanswered=fallback.retry_unanswered,
        ),
        statuses=frozenset(),
        body=None,
    )


LAYERS: tuple[Layer, ...] = (
    Layer(
        "request_id",
        "log lines, headers and errors carry it",
        lambda app, _: RequestIDMiddleware(app, header=None),
    ),
    Layer(
        "tracing",
        "its span has the whole request, refusals and crashes included",
        _tracing,
    ),
    Layer(
        "metrics",
        "sees each outcome once, refusals and crashes included",
        lambda app, p: MetricsMiddleware(app, metrics=p.metrics),
    ),
    Layer(
        "request_log",
        "one line per request, with the status that left",
        _request_log,
    ),
    Layer(
        "headers",
        "stamps refusals and errors too",
        lambda app, _: HeaderStampMiddleware(app, stamp=stamp),
    ),
    Layer(
        "cors",
        "answers preflights of listed origins, which carry no key; off unless any are listed",
        lambda app, p: _cors(app, p.settings.server.cors_origins),
    ),
    Layer(
        "errors",
        "turns exceptions of the layers inside into error responses, or error events in a stream",
        lambda app, p: ErrorsMiddleware(
            app,
            brand=p.settings.brand,
            details=p.settings.errors.details,
            branded=p.settings.errors.branded,
            openai_members=p.settings.errors.openai_members,
            kinds=kind_changes(p.settings.errors),
            unchanged=("admin", "dashboard", "ops"),
            stopped=p.stopped,
        ),
    ),
    Layer(
        "router",
        "dialect and endpoint shape every refusal; unknown paths cost nothing",
        lambda app, p: RouterMiddleware(
            app,
            paths=Paths.of(p.settings, p.endpoints),
            trusted_proxies=p.settings.server.trusted_proxies,
        ),
    ),
    Layer(
        "admission",
        "a request without free file descriptors is refused before it costs anything",
        lambda app, p: AdmissionMiddleware(app, admission=p.admission, free=UNROUTED),
    ),
    Layer(
        "address_limit",
        "costs less than a look-up of a key",
        _address_limit,
    ),
    Layer(
        "unrouted",
        "health, metrics, the management API, the dashboard and links need no key of a caller",
        lambda app, p: UnroutedMiddleware(
            app,
            apps={
                "ops": p.health_app,
                "admin": p.admin_app,
                "dashboard": p.dashboard_app,
                **p.open_apps,
            },
            paths=Paths.of(p.settings, p.endpoints),
        ),
    ),
    Layer(
        "auth",
        "no layer inside spends memory or a store call on an unknown caller",
        _auth,
    ),
    Layer(
        "rate_limit",
        "checks slots and the request rate before a body is read into memory",
        _request_limit,
    ),
    Layer(
        "intake",
        "reads the body once and finds the model, which the layers inside need",
        lambda app, p: IntakeMiddleware(
            app,
            catalog=p.catalog,
            estimator=p.estimator,
            limit=p.settings.server.max_body,
            idle=p.settings.server.upload_idle_timeout,
            longest=p.settings.server.upload_timeout,
            uploads=p.uploads,
            endpoints=p.endpoints,
            file_sizes={"audio": p.settings.audio.max_size, "image": LARGEST_IMAGE_FILE},
            sources={"transcription": AudioSource(p.named_files), **p.form_sources},
            audio_length=AudioMeter(p.sandbox),
        ),
    ),
    Layer(
        "downgrade",
        "serves another model if the layers inside would refuse the requested one",
        _downgrade,
    ),
    Layer(
        "token_limit",
        "cheaper than budget; needs the size of the request",
        _token_limit,
    ),
    Layer(
        "idempotency",
        "a replay spends neither money nor upstream",
        lambda app, p: IdempotencyMiddleware(app, store=p.replays, fingerprint=_fingerprint),
    ),
    Layer(
        "responses",
        "the conversation that a request continues is part of its input, and is charged",
        lambda app, p: p.responses_layer(app),
    ),
    Layer(
        "budget",
        "reserves once for all attempts inside, and records the cost",
        lambda app, p: BudgetMiddleware(
            app,
            accounts=p.accounts,
            ledger_writer=p.ledger_writer,
            quote=Quoter(p.catalog, p.plans, describes=p.settings.media.image is not None).quote,
        ),
    ),
    Layer(
        "fallback",
        "repeats only what is inside it: one attempt at one target",
        _fallback,
    ),
)


class Chain(NamedTuple):
    """An app inside its layers, and what closes the layers that run tasks of their own."""

    app: ASGIApp
    closers: tuple[Callable[[], Awaitable[None]], ...]

    async def aclose(self) -> None:
        """Close the layers, outermost first."""
        for close in self.closers:
            await close()


_AUTH = next(n for n, layer in enumerate(LAYERS) if layer.name == "auth")
OUTER_LAYERS, INNER_LAYERS = LAYERS[: _AUTH + 1], LAYERS[_AUTH + 1 :]
"""The layers to `auth`, and those behind it, which the dashboard calls with the principal of a
signed-in visitor (`edge.dashboard.inner`)."""

SUBREQUEST_LAYERS = tuple(
    layer
    for layer in LAYERS
    if layer.name in ("tracing", "metrics", "request_log", "errors", "budget", "fallback")
)
"""The layers of requests that the gateway makes to serve another (`edge.proxy.subrequests`)."""


def compose(app: ASGIApp, parts: Parts, layers: Sequence[Layer] = LAYERS) -> Chain:
    """`app` inside `layers`."""
    closers = []
    for layer in reversed(layers):
        outer = layer.make(app, parts)
        if outer is app:
            continue
        if hasattr(outer, "aclose"):
            closers.append(outer.aclose)
        # A call of a bound method stays in the interpreter; one of an object goes through its type.
        app = getattr(outer, "__call__", outer)  # noqa: B004
        if isinstance(outer, Entered) and type(outer).__call__ is Entered.__call__:
            app = outer.enter
    return Chain(app, tuple(reversed(closers)))


def describe() -> list[tuple[str, str]]:
    """Name and reason of each layer, outermost first."""
    return [(layer.name, layer.why) for layer in LAYERS]


def stamp(exchange: Exchange) -> Iterable[Header]:
    """The gateway's response headers (docs/reference.md lists them)."""
    request_id = exchange.request_id.encode()
    headers = [(b"x-request-id", request_id)]
    if exchange.dialect == "anthropic":
        headers.append((b"request-id", request_id))
    if exchange.served:
        headers.append((b"x-model-used", exchange.served.encode()))
    if exchange.fallback_from and exchange.served:
        headers.append((b"x-fallback-from", exchange.fallback_from.encode()))
        headers.append((b"x-fallback-depth", b"%d" % exchange.fallback_depth))
    used = credits_used(exchange)
    if used is not None:
        headers.append((b"x-credits-used", used.encode()))
    if exchange.levels:
        headers += rate_limit_headers(exchange)
    upstream = exchange.upstream_seconds
    edge = perf_counter() - exchange.started - upstream
    timing = b"edge;dur=%.2f, upstream;dur=%.2f" % (edge * 1000, upstream * 1000)
    headers.append((b"server-timing", timing))
    return headers


def _cors(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=(
            *("x-request-id", "request-id", "x-model-used", "x-credits-used", "retry-after"),
            *("x-fallback-from", "x-fallback-depth"),
            *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
            *("idempotent-replayed", "x-storage-used-bytes", "x-storage-limit-bytes"),
            *("content-disposition", "content-range", "accept-ranges", "etag"),
            *("location", "openai-poll-after-ms"),
        ),
        max_age=600,
    )
