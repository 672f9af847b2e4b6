"""What a request may cost at most, before it is made."""

from collections.abc import Mapping

import msgspec

from middlewares.budget import Bill
from middlewares.exchange import Exchange
from middlewares.money import Price

from .catalog import Catalog
from .plans import Plans

_BOUNDS: Mapping[str, tuple[str, ...]] = {
    "chat.completions": ("max_completion_tokens", "max_tokens", "max_output_tokens"),
    "completions": ("max_tokens",),
    "messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "responses.compact": ("max_output_tokens",),
    "embeddings": (),
}
"""By endpoint that costs: the members that bound the answer, the one that counts first."""
_CHOICES = ("n", "best_of")
_UNBOUNDED = 32_000
"""Tokens of an answer that neither its caller nor the catalog bounds."""
_MOST = 1 << 31

_FREE = Price().cost

_decode = msgspec.json.Decoder(int | float | None).decode


class Appraiser:
    """Bills of exchanges, from the catalog and the terms of their principals."""

    def __init__(self, catalog: Catalog, plans: Plans) -> None:
        self._catalog = catalog
        self._plans = plans

    def __call__(self, exchange: Exchange) -> Bill | None:
        """The bill; None for what costs nothing by its nature. Raises Problem (`Plans.terms`)."""
        bounds = _BOUNDS.get(exchange.endpoint)
        if bounds is None or not exchange.model:
            return None
        model = self._catalog.find(exchange.model)
        if model is None:
            return None
        principal = exchange.principal
        return Bill(
            budget=self._plans.terms(principal).budget,
            plan=(principal.plan or "") if principal is not None else "",
            input=exchange.estimate,
            output=_output(exchange, bounds, model.max_output) if bounds else 0,
            tariff=model.tariff or _FREE,
        )


def _output(exchange: Exchange, bounds: tuple[str, ...], most: int | None) -> int:
    """Output tokens at most. What cannot be read is for the upstream to refuse."""
    fields = exchange.fields
    asked = next((n for name in bounds if (n := _number(fields, name))), None)
    bound = asked or most or _UNBOUNDED
    if asked is not None and most is not None:
        bound = min(asked, most)
    choices = max((_number(fields, name) or 1 for name in _CHOICES if name in fields), default=1)
    return bound * choices


def _number(fields: Mapping[str, msgspec.Raw], name: str) -> int | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        value = _decode(raw)
    except msgspec.DecodeError:
        return None
    return int(value) if value is not None and 1 <= value <= _MOST else None
