"""The page at /: what this gateway offers, for anyone."""

from collections.abc import Iterator, Sequence
from functools import partial

import msgspec
from starlette.responses import Response

from edge.config.model import PriceConfig
from edge.config.units import Credits
from edge.dashboard.page import ANYONE, Page
from edge.dashboard.request import DashboardRequest
from edge.dashboard.setup_values import setup_of
from edge.dashboard.snippets import curl
from edge.dashboard.snippets.guides import key_block
from edge.endpoints import ENDPOINTS
from edge.routing.catalog import Model
from edge.runtime.worker_thread import run_in_thread
from middlewares.exchange import Principal
from middlewares.problem import Problem

_LONGEST_FILTER = 100
_MANY = 50
"""Models from which on the page is rendered in a thread."""


class Offer(msgspec.Struct, frozen=True):
    """A row of the price table.

    tokens: credits per million input, output, cache read and cache write tokens; () where tokens
        cost nothing. units: other prices, as text.
    """

    model: Model
    tokens: tuple[Credits, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def free(self) -> bool:
        """Whether the model has no price at all."""
        return not self.tokens and not self.units


async def landing(request: DashboardRequest) -> Response:
    """Prices, and how to call the models. It has nothing that a stranger may not see."""
    models = request.parts.catalog.visible(Principal(id=""))
    wanted = _filter(request)
    offers = [offer_of(model) for model in models if _matches(model, wanted)]
    if len(offers) < _MANY:
        return _render(request, models, offers, wanted)
    return await run_in_thread(partial(_render, request, models, offers, wanted))


def _render(
    request: DashboardRequest, models: Sequence[Model], offers: Sequence[Offer], wanted: str
) -> Response:
    writers = [model for model in models if "text" in model.output]
    setup = setup_of(request, writers)
    return request.render(
        "landing.html",
        base=setup.url,
        models=models,
        offers=offers,
        wanted=wanted,
        key_block=key_block(setup) if setup.needs_key else None,
        requests=curl.guide(setup).blocks,
        endpoints=[row for row in ENDPOINTS if not row.open],
        dashboard=request.parts.settings.dashboard.enabled,
    )


def _filter(request: DashboardRequest) -> str:
    """What the visitor searches for; nothing if the query cannot be read."""
    try:
        return request.query.get("q", "").strip()[:_LONGEST_FILTER]
    except Problem:
        return ""


def _matches(model: Model, wanted: str) -> bool:
    names = (model.id, *model.aliases, model.display_name)
    return any(wanted.lower() in name.lower() for name in names)


def offer_of(model: Model) -> Offer:
    """The prices of a model."""
    price = model.price
    if price is None:
        return Offer(model)
    tokens = (price.input, price.output, price.cache_read, price.cache_write)
    if not any(tokens):
        return Offer(model, units=tuple(_units(price)))
    shown = tuple(price.input if each is None else each for each in tokens)
    return Offer(model, shown, tuple(_units(price)))


def _units(price: PriceConfig) -> Iterator[str]:
    each = (
        ("image", price.image),
        ("minute of audio", price.audio_minute),
        ("character", price.character),
        ("second of video or music", price.second),
        ("job", price.job),
        ("call of a hosted tool", price.hosted_call),
    )
    for unit, amount in each:
        if amount is not None:
            yield f"{amount} per {unit}"


PAGES = (Page("/", ("GET",), ANYONE, landing),)
