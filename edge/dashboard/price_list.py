"""The price list of the page at /: a row for each model, and the columns that these need."""

from collections.abc import Iterator, Sequence

import msgspec

from edge.config.model import PriceConfig
from edge.config.units import Credits
from edge.routing.catalog import Model

_MILLION = 10**6
_TEXT = ("text",)


class Offer(msgspec.Struct, frozen=True):
    """A model with its prices, as text.

    context: tokens, "" if unknown. tokens: per million input, output, cache read and cache write
        tokens; () where tokens cost nothing. units: other prices.
    """

    model: Model
    context: str = ""
    tokens: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def free(self) -> bool:
        """Whether the model has no price at all."""
        return not self.tokens and not self.units


class PriceList(msgspec.Struct, frozen=True):
    """Rows of a table, and which columns have something to say.

    media: what models read and make. prices, cache, units: of tokens, of cached tokens, of others.
    hosted_call: the price of each call of a hosted tool where it is the same for all models that
        have one; "" else.
    """

    offers: Sequence[Offer]
    media: bool
    prices: bool
    cache: bool
    units: bool
    hosted_call: str = ""

    @property
    def price_columns(self) -> int:
        """How many columns prices take."""
        return self.prices * 2 + (self.prices and self.cache) * 2 + self.units


def price_list(models: Sequence[Model], currency: str) -> PriceList:
    """The list of `models`. currency: sign of one credit, "" for none."""
    priced = [model.price for model in models if model.price is not None]
    calls = {price.hosted_call for price in priced if price.hosted_call}
    offers = [offer_of(model, currency, calls=len(calls) > 1) for model in models]
    cached = [price for price in priced if (price.cache_read, price.cache_write) != (None, None)]
    return PriceList(
        offers,
        media=any(model.modalities != _TEXT or model.output != _TEXT for model in models),
        prices=any(offer.tokens for offer in offers),
        cache=bool(cached),
        units=any(offer.units for offer in offers),
        hosted_call=f"{currency}{calls.pop()}" if len(calls) == 1 else "",
    )


def offer_of(model: Model, currency: str, *, calls: bool = True) -> Offer:
    """A model with its prices. calls: with that of calls of hosted tools."""
    context = "" if model.context is None else rounded(model.context)
    price = model.price
    if price is None:
        return Offer(model, context)
    units = tuple(_units(price, currency, calls=calls))
    tokens = (price.input, price.output, price.cache_read, price.cache_write)
    if not any(tokens):
        return Offer(model, context, units=units)
    shown = (price.input if each is None else each for each in tokens)
    return Offer(model, context, tuple(f"{currency}{each}" for each in shown), units)


def rounded(tokens: int) -> str:
    """A number of tokens as vendors write it: "8K", "262K", "1M", "1.5M"."""
    if tokens < 1_000:
        return str(tokens)
    if tokens < 999_500:
        return f"{round(tokens / 1_000)}K"
    return f"{tokens / 1_000_000:.1f}".removesuffix(".0") + "M"


def _units(price: PriceConfig, currency: str, *, calls: bool) -> Iterator[str]:
    characters = None if price.character is None else Credits(price.character * _MILLION)
    each = (
        ("image", price.image),
        ("minute of audio", price.audio_minute),
        ("million characters", characters),
        ("second of video or music", price.second),
        ("job", price.job),
        ("call of a hosted tool", (price.hosted_call or None) if calls else None),
    )
    for unit, amount in each:
        if amount is not None:
            yield f"{currency}{amount} per {unit}"
