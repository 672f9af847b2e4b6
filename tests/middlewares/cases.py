"""How conformance builds each exported middleware.

A builder is given the module of the middleware and the app to wrap. This file imports no feature
module itself: one case at a time also runs where nothing else may be imported.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType

from middlewares._asgi import ASGIApp

Build = Callable[[ModuleType, ASGIApp], ASGIApp]


@dataclass(frozen=True)
class Case:
    """build: makes the middleware around an app.
    headers: request headers with which it lets a request pass.
    gatekeeper: whether it refuses scopes that it does not know.
    answers_exceptions: whether an Exception raised before the start becomes an answer.
    """

    build: Build
    headers: Mapping[str, str] = field(default_factory=dict)
    gatekeeper: bool = False
    answers_exceptions: bool = False


CASES: Mapping[str, Case] = {
    "ErrorsMiddleware": Case(lambda m, app: m.ErrorsMiddleware(app), answers_exceptions=True),
    "HeaderStampMiddleware": Case(
        lambda m, app: m.HeaderStampMiddleware(
            app, stamp=lambda exchange: [(b"x-endpoint", exchange.endpoint.encode())]
        )
    ),
    "MetricsMiddleware": Case(lambda m, app: m.MetricsMiddleware(app, metrics=m.Metrics())),
    "RequestIDMiddleware": Case(lambda m, app: m.RequestIDMiddleware(app)),
}
