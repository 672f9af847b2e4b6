"""Composable pure-ASGI middlewares for LLM gateways. Usable in any ASGI app.

Names are loaded on first use, so that `import middlewares` costs next to nothing and a program
pays only for the middlewares it takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from middlewares.fallback.middleware import FallbackMiddleware
    from middlewares.fallback.retry_state import RetryPolicy
    from middlewares.idempotency.middleware import IdempotencyMiddleware
    from middlewares.metrics.metrics import Metrics
    from middlewares.metrics.middleware import MetricsMiddleware
    from middlewares.rate_limit.headers import rate_limit_headers
    from middlewares.rate_limit.middleware import RateLimitMiddleware, by_address
    from middlewares.rate_limit.throttle_queue import ThrottleQueue
    from middlewares.tracing.middleware import TracingMiddleware
    from middlewares.tracing.sampling import Sampling

    from .auth import AuthMiddleware
    from .budget import BudgetMiddleware, Quote, credits_used
    from .downgrade import DowngradeMiddleware
    from .error_kinds import KINDS, KindChange
    from .errors import ErrorsMiddleware
    from .exchange import Attempt, Candidate, ErrorStyle, Exchange, Principal, Target, Usage
    from .headers import HeaderStampMiddleware
    from .problem import Problem
    from .request_id import RequestIDMiddleware

__all__ = [
    "KINDS",
    "Attempt",
    "AuthMiddleware",
    "BudgetMiddleware",
    "Candidate",
    "DowngradeMiddleware",
    "ErrorStyle",
    "ErrorsMiddleware",
    "Exchange",
    "FallbackMiddleware",
    "HeaderStampMiddleware",
    "IdempotencyMiddleware",
    "KindChange",
    "Metrics",
    "MetricsMiddleware",
    "Principal",
    "Problem",
    "Quote",
    "RateLimitMiddleware",
    "RequestIDMiddleware",
    "RetryPolicy",
    "Sampling",
    "Target",
    "ThrottleQueue",
    "TracingMiddleware",
    "Usage",
    "by_address",
    "credits_used",
    "rate_limit_headers",
]

_HOMES = {
    "KINDS": "error_kinds",
    "KindChange": "error_kinds",
    "Attempt": "exchange",
    "AuthMiddleware": "auth",
    "Quote": "budget",
    "BudgetMiddleware": "budget",
    "DowngradeMiddleware": "downgrade",
    "ErrorsMiddleware": "errors",
    "Exchange": "exchange",
    "FallbackMiddleware": "fallback.middleware",
    "HeaderStampMiddleware": "headers",
    "ErrorStyle": "exchange",
    "IdempotencyMiddleware": "idempotency.middleware",
    "ThrottleQueue": "rate_limit.throttle_queue",
    "Metrics": "metrics.metrics",
    "MetricsMiddleware": "metrics.middleware",
    "Candidate": "exchange",
    "Principal": "exchange",
    "Problem": "problem",
    "RateLimitMiddleware": "rate_limit.middleware",
    "RequestIDMiddleware": "request_id",
    "RetryPolicy": "fallback.retry_state",
    "Sampling": "tracing.sampling",
    "Target": "exchange",
    "TracingMiddleware": "tracing.middleware",
    "Usage": "exchange",
    "by_address": "rate_limit.middleware",
    "credits_used": "budget",
    "rate_limit_headers": "rate_limit.headers",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
