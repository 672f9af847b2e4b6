"""What a request may cost at most, before it is made."""

from collections.abc import Mapping, Sequence

import msgspec

from middlewares.budget import Bill
from middlewares.exchange import Exchange, Tariff
from middlewares.money import Price

from .catalog import Catalog, Model
from .plans import Plans

_BOUNDS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n_predict",  # llama.cpp, which heeds it before the others
    "max_new_tokens",
)
"""Members that bound the answer, in any dialect. Servers differ in which they heed."""
_ANSWERS: Mapping[str, tuple[str, ...]] = {
    "chat.completions": _BOUNDS,
    "completions": _BOUNDS,
    "messages": _BOUNDS,
    "responses": _BOUNDS,
    "responses.compact": _BOUNDS,
    "embeddings": (),
}
"""By endpoint that costs: what bounds its answer."""
_CHOICES = ("n", "best_of")
_UNBOUNDED = 32_000
"""Tokens of an answer that neither its caller nor the catalog bounds."""
_MOST = 1 << 31

_FREE = Price().cost

_decode = msgspec.json.Decoder(int | float | None, strict=False).decode


class Appraiser:
    """Bills of exchanges, from the catalog and the terms of their principals."""

    def __init__(self, catalog: Catalog, plans: Plans) -> None:
        self._catalog = catalog
        self._plans = plans
        self._known: dict[str, tuple[int | None, Tariff]] = {}

    def __call__(self, exchange: Exchange) -> Bill | None:
        """The bill; None for what costs nothing by its nature. Raises Problem (`Plans.terms`)."""
        bounds = _ANSWERS.get(exchange.endpoint)
        if bounds is None or not exchange.model:
            return None
        model = self._catalog.find(exchange.instead or exchange.model)
        if model is None:
            return None
        most, tariff = model.max_output, model.tariff or _FREE
        if model.fallbacks or exchange.models:
            most, tariff = self._dearest(model, exchange.models)
        principal = exchange.principal
        return Bill(
            budget=self._plans.terms(principal).budget,
            plan=(principal.plan or "") if principal is not None else "",
            input=exchange.estimate,
            output=_output(exchange, bounds, most) if bounds else 0,
            tariff=tariff,
        )

    def _dearest(self, model: Model, named: Sequence[str]) -> tuple[int | None, Tariff]:
        """The longest answer of all that may serve, and a tariff by which none costs more."""
        if not named and model.entry in self._known:
            return self._known[model.entry]
        others = named or model.fallbacks
        models = [model, *filter(None, map(self._catalog.find, others))]
        bounds = [one.max_output for one in models]
        most = None if None in bounds else max(bound or 0 for bound in bounds)
        prices = [msgspec.structs.astuple(one.prices) for one in models if one.prices is not None]
        tariff = Price(*map(max, zip(*prices, strict=True))).cost if prices else _FREE
        if not named:
            self._known[model.entry] = most, tariff
        return most, tariff


def _output(exchange: Exchange, bounds: tuple[str, ...], most: int | None) -> int:
    """Output tokens at most, by whichever bound the upstream heeds.

    A bound that cannot be read, or is none, is for the upstream to refuse, or to take for no bound.
    """
    fields = exchange.fields
    unbounded = most or _UNBOUNDED
    asked = [_number(fields, name, unbounded) for name in bounds if name in fields]
    bound = max(asked, default=0) or unbounded
    if most is not None:
        bound = min(bound, most)
    choices = [_number(fields, name, 1) for name in _CHOICES if name in fields]
    return bound * max(1, *choices) if choices else bound


def _number(fields: Mapping[str, msgspec.Raw], name: str, otherwise: int) -> int:
    """A count, as the most lenient of upstreams reads it; 0 for null."""
    try:
        value = _decode(fields[name])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return otherwise
    if value is None:
        return 0
    return int(min(value, _MOST)) if value >= 1 else otherwise
