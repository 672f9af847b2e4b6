"""The chain, outermost first: what stands where, and why. `penstock print-chain` shows it."""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from starlette.middleware.cors import CORSMiddleware

from middlewares import (
    AuthMiddleware,
    ErrorsMiddleware,
    Exchange,
    HeaderStampMiddleware,
    Metrics,
    MetricsMiddleware,
    RequestIDMiddleware,
)
from middlewares._asgi import ASGIApp, Header
from middlewares.money import decimal
from middlewares.stores import KeyDirectory

from .catalog import Catalog
from .estimate import Estimator
from .intake import IntakeMiddleware
from .router import RouterMiddleware, routes_of
from .settings import Settings
from .telemetry import RequestLogMiddleware


class Parts(msgspec.Struct, frozen=True):
    """What the layers are made of. `log` takes an event name and fields."""

    settings: Settings
    catalog: Catalog
    keys: KeyDirectory | None
    metrics: Metrics
    estimator: Estimator
    log: Callable[..., Any]
    open_app: ASGIApp


class Layer(NamedTuple):
    """One middleware of the chain."""

    name: str
    why: str
    make: Callable[[ASGIApp, Parts], ASGIApp]


LAYERS: tuple[Layer, ...] = (
    Layer(
        "request_id",
        "every later line of log, header and error carries it",
        lambda app, _: RequestIDMiddleware(app, header=None),
    ),
    Layer(
        "metrics",
        "sees each outcome once, refusals and crashes included",
        lambda app, p: MetricsMiddleware(app, metrics=p.metrics),
    ),
    Layer(
        "request_log",
        "one line per request, with the status that left",
        lambda app, p: RequestLogMiddleware(app, log=p.log) if p.settings.log.requests else app,
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
        "all inside may fail, nothing outside may talk",
        lambda app, p: ErrorsMiddleware(
            app, brand=p.settings.brand, details=p.settings.errors.details
        ),
    ),
    Layer(
        "router",
        "dialect and endpoint shape every refusal; unknown paths cost nothing",
        lambda app, p: RouterMiddleware(
            app,
            table=routes_of(p.settings),
            open_app=p.open_app,
            trusted_proxies=p.settings.server.trusted_proxies,
        ),
    ),
    Layer(
        "auth",
        "nothing below spends memory or a store call on a stranger",
        lambda app, p: AuthMiddleware(app, keys=p.keys, mode=p.settings.auth.mode),
    ),
    Layer(
        "intake",
        "reads the body once and finds the model; all that acts on the model is inside",
        lambda app, p: IntakeMiddleware(
            app,
            catalog=p.catalog,
            estimator=p.estimator,
            limit=p.settings.server.max_body,
            idle=p.settings.server.body_timeout,
        ),
    ),
)


def compose(app: ASGIApp, parts: Parts) -> ASGIApp:
    """`app` inside every layer."""
    for layer in reversed(LAYERS):
        app = layer.make(app, parts)
    return app


def describe() -> list[tuple[str, str]]:
    """Name and reason of each layer, outermost first."""
    return [(layer.name, layer.why) for layer in LAYERS]


def stamp(exchange: Exchange) -> Iterable[Header]:
    """The response headers that tell what happened (see the reference of headers)."""
    request_id = exchange.request_id.encode()
    headers = [(b"x-request-id", request_id)]
    if exchange.dialect == "anthropic":
        headers.append((b"request-id", request_id))
    if exchange.served:
        headers.append((b"x-model-used", exchange.served.encode()))
    if exchange.tariff is not None and exchange.usage is not None:
        used = decimal(exchange.tariff(exchange.usage))
        headers.append((b"x-credits-used", used.encode()))
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
        expose_headers=("x-request-id", "request-id", "x-model-used", "retry-after"),
        max_age=600,
    )
