"""Composable pure-ASGI middlewares for LLM gateways. Usable in any ASGI app.

Names are loaded on first use, so that `import middlewares` costs next to nothing and a program
pays only for the middlewares it takes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._line import Line
    from ._search import Retry
    from .auth import AuthMiddleware
    from .budget import Bill, BudgetMiddleware, credits_used
    from .downgrade import DowngradeMiddleware
    from .errors import ErrorsMiddleware
    from .exchange import Attempt, Exchange, House, Place, Principal, Target, Usage
    from .fallback import FallbackMiddleware
    from .headers import HeaderStampMiddleware
    from .idempotency import IdempotencyMiddleware
    from .metrics import Metrics, MetricsMiddleware
    from .problem import KINDS, Problem
    from .rate_limit import RateLimitMiddleware, by_address, rate_limit_headers
    from .request_id import RequestIDMiddleware

__all__ = [
    "KINDS",
    "Attempt",
    "AuthMiddleware",
    "Bill",
    "BudgetMiddleware",
    "DowngradeMiddleware",
    "ErrorsMiddleware",
    "Exchange",
    "FallbackMiddleware",
    "HeaderStampMiddleware",
    "House",
    "IdempotencyMiddleware",
    "Line",
    "Metrics",
    "MetricsMiddleware",
    "Place",
    "Principal",
    "Problem",
    "RateLimitMiddleware",
    "RequestIDMiddleware",
    "Retry",
    "Target",
    "Usage",
    "by_address",
    "credits_used",
    "rate_limit_headers",
]

_HOMES = {
    "KINDS": "problem",
    "Attempt": "exchange",
    "AuthMiddleware": "auth",
    "Bill": "budget",
    "BudgetMiddleware": "budget",
    "DowngradeMiddleware": "downgrade",
    "ErrorsMiddleware": "errors",
    "Exchange": "exchange",
    "FallbackMiddleware": "fallback",
    "HeaderStampMiddleware": "headers",
    "House": "exchange",
    "IdempotencyMiddleware": "idempotency",
    "Line": "_line",
    "Metrics": "metrics",
    "MetricsMiddleware": "metrics",
    "Place": "exchange",
    "Principal": "exchange",
    "Problem": "problem",
    "RateLimitMiddleware": "rate_limit",
    "RequestIDMiddleware": "request_id",
    "Retry": "_search",
    "Target": "exchange",
    "Usage": "exchange",
    "by_address": "rate_limit",
    "credits_used": "budget",
    "rate_limit_headers": "rate_limit",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
