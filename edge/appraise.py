"""What a request may cost at most, before it is made."""

from collections.abc import Mapping, Sequence

import msgspec

from middlewares.budget import Bill
from middlewares.exchange import Exchange
from middlewares.money import Price

from .catalog import Catalog, Model
from .plans import Plans

_BOUNDS = frozenset(
    (
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n_predict",  # llama.cpp, which heeds it before the others
        "max_new_tokens",
    )
)
"""Members that bound the answer, in any dialect. Servers differ in which they heed."""
_ANSWERS: Mapping[str, frozenset[str]] = {
    "chat.completions": _BOUNDS,
    "completions": _BOUNDS,
    "messages": _BOUNDS,
    "responses": _BOUNDS,
    "responses.compact": _BOUNDS,
    "embeddings": frozenset(),
}
"""By endpoint that costs: what bounds its answer."""
_CHOICES = frozenset(("n", "best_of"))
_UNBOUNDED = 32_000
"""Tokens of an answer that neither its caller nor the catalog bounds."""
_MOST = 1 << 31

_FREE = Price()

_decode = msgspec.json.Decoder(int | float | None, strict=False).decode


class Appraiser:
    """Bills of exchanges, from the catalog and the terms of their principals."""

    def __init__(self, catalog: Catalog, plans: Plans) -> None:
        self._catalog = catalog
        self._plans = plans
        self._known: dict[str, tuple[int | None, Price]] = {}

    def __call__(self, exchange: Exchange) -> Bill | None:
        """The bill; None for what costs nothing by its nature. Raises Problem (`Plans.terms`)."""
        bounds = _ANSWERS.get(exchange.endpoint)
        if bounds is None or not exchange.model:
            return None
        model = self._catalog.find(exchange.instead or exchange.model)
        if model is None:
            return None
        most, price = model.max_output, model.prices or _FREE
        named = exchange.models if not exchange.instead else ()
        if model.fallbacks or named:
            most, price = self._dearest(model, named)
        principal = exchange.principal
        return Bill(
            self._plans.terms(principal).budget,
            (principal.plan or "") if principal is not None else "",
            exchange.estimate,
            _output(exchange, bounds, most) if bounds else 0,
            price,
        )

    def _dearest(self, model: Model, named: Sequence[str]) -> tuple[int | None, Price]:
        """The longest answer of all that may serve, and a price by which none costs more."""
        if not named and model.entry in self._known:
            return self._known[model.entry]
        others = named or model.fallbacks
        models = [model, *filter(None, map(self._catalog.find, others))]
        bounds = [one.max_output for one in models]
        most = None if None in bounds else max(bound or 0 for bound in bounds)
        prices = [msgspec.structs.astuple(one.prices) for one in models if one.prices is not None]
        price = Price(*map(max, zip(*prices, strict=True))) if prices else _FREE
        if not named:
            self._known[model.entry] = most, price
        return most, price


def _output(exchange: Exchange, bounds: frozenset[str], most: int | None) -> int:
    """Output tokens at most, by whichever bound the upstream heeds.

    A bound that cannot be read, or is none, is for the upstream to refuse, or to take for no bound.
    """
    fields = exchange.fields
    bound = 0
    for name in bounds.intersection(fields):
        bound = max(bound, _number(fields, name, most or _UNBOUNDED))
    if not bound:
        bound = most or _UNBOUNDED
    elif most is not None and bound > most:
        bound = most
    if not _CHOICES.isdisjoint(fields):
        bound *= max(1, *[_number(fields, name, 1) for name in _CHOICES.intersection(fields)])
    return bound


def _number(fields: Mapping[str, msgspec.Raw], name: str, otherwise: int) -> int:
    """A count, as the most lenient of upstreams reads it; 0 for null."""
    try:
        value = _decode(fields[name])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return otherwise
    if value is None:
        return 0
    return int(min(value, _MOST)) if value >= 1 else otherwise
