"""Quotes: the most that a request can cost, before it is sent.

Theory of operation. There are two figures of the input:

    input        the estimate: what the text and the media that can be seen are worth. Rates take
                 it, and an answer that its upstream does not count is charged by it.
    max_input   what is set aside: the estimate, or the model's whole context where the request
                 asks for something that only the upstream sees (`edge.requests.unseen_input`).

The output is the bound that the upstream is sent (`edge.requests.output_limit`), else the most
that the model, or any model that may serve instead, can make. Surcharges
(`edge.billing.surcharges`) are in the price of the quote, and in its calls of hosted tools.
"""

from collections.abc import Awaitable, Mapping, Sequence
from functools import partial

import msgspec

from edge.billing.media_tokens import LARGEST_IMAGE
from edge.billing.media_units import heard_tokens, most_of
from edge.billing.plans import Plans
from edge.billing.surcharges import (
    caches_for_an_hour,
    check_tiers,
    compacts,
    hosted_calls,
    requested_tiers,
)
from edge.endpoints import Endpoint
from edge.media.forms import Form
from edge.media.parts import count_media
from edge.requests.output_limit import UNBOUNDED, output_bound
from edge.requests.unseen_input import reads_more
from edge.routing.catalog import Catalog, Model
from edge.runtime.worker_thread import run_in_thread
from edge.vendors.claude_models import claude
from middlewares.budget import Quote
from middlewares.exchange import MAX_RUNS, Exchange, Usage
from middlewares.limits import OnHangup
from middlewares.pricing import Price

_DESCRIBED = 2000
"""Tokens of the text of an image, at least as many as its describer may make: a small image itself
counts fewer."""
_CONTEXT = 200_000
"""The context of a model whose catalog entry does not state it."""


class _ModelLimits(msgspec.Struct, frozen=True):
    """The most that any model that may serve can make and read, and a price by which none costs
    more. most: output tokens, None if unknown; unbounded: of an answer that nothing bounds.
    on_hangup: of the models, None where the plan decides. added: what upstreams put into bodies.
    """

    most: int | None
    unbounded: int
    context: int
    price: Price
    on_hangup: OnHangup | None
    added: Mapping[str, msgspec.Raw]
    hour_is_dearer: bool
    """Whether a cache written for an hour costs more than any other input."""
    described_to: bool = False
    """Whether any of them may get a text in place of an image."""


class Quoter:
    """Makes the quotes of exchanges, from the catalog and the plans of their principals and teams.

    describes: whether images are described to models of which it is not known what they take.
    """

    def __init__(self, catalog: Catalog, plans: Plans, *, describes: bool = False) -> None:
        self._catalog = catalog
        self._plans = plans
        self._describes = describes
        self._limits_by_model: dict[str, _ModelLimits] = {}

    def quote(self, exchange: Exchange) -> Quote | Awaitable[Quote | None] | None:
        """The quote, or an awaitable of it for a large body."""
        if exchange.large:
            return run_in_thread(partial(self, exchange))
        return self.__call__(exchange)  # by its name, which costs less

    def __call__(self, exchange: Exchange) -> Quote | None:
        """The quote; None for an endpoint that is free, and for jobs, which have their own.

        Raises Problem (`Plans.limits`, `Plans.team_budget`, and for a tier that has no price).
        """
        row: Endpoint = exchange.row
        if row.billed in ("free", "job") or not exchange.model:
            return None
        model: Model | None = exchange.resolved[0]
        named: Sequence[Model] = exchange.resolved[1:]
        if exchange.downgrade_to:
            model, named = self._catalog.find(exchange.downgrade_to), ()
        if model is None:
            return None
        limits = self._limits(model, named)
        principal, fields = exchange.principal, exchange.fields
        budget = self._plans.limits(principal).budget
        team_budget = None
        if principal is not None and principal.team is not None:
            team_budget = self._plans.team_budget(principal)
        price, hosted = limits.price, 0
        asked = requested_tiers(fields)
        if asked:  # of all named models: any of them may be the one that is charged
            for one in (model, *exchange.resolved[1:]):
                if one.prices is not None:
                    check_tiers(asked, one.prices)
        if limits.on_hangup is not None:
            budget = msgspec.structs.replace(budget, on_hangup=limits.on_hangup)
        if limits.added:
            fields = {**fields, **limits.added}
        estimate = max_input = exchange.estimate
        runs = MAX_RUNS
        if budget.windows or budget.credits or team_budget is not None:  # `limited`, spelled out
            runs = 1
            hour = limits.hour_is_dearer and caches_for_an_hour(fields)
            if asked or hour:
                price = price.max_price(asked, hour=hour)
            if "context_management" in fields and compacts(fields):
                runs += 1
                max_input *= 2
            if exchange.media and limits.described_to:
                max_input += count_media(fields) * _DESCRIBED
            if reads_more(fields, whole=exchange.whole and not limits.added):
                max_input = max(max_input, limits.context)
                calls = hosted_calls(row.codec, fields)
                runs += calls
                if price.hosted_call:
                    hosted = calls
        units: Usage | None = None
        if row.billed == "tokens":
            output = output_bound(row, fields, limits.most, limits.unbounded)
        else:
            output, units = most_of(row, fields, price, limits.most, exchange.audio_ms)
            max_input += heard_tokens(exchange.audio_ms)
            if isinstance(exchange.form, Form) and row.billed == "images":
                max_input = estimate + len(exchange.form.files()) * LARGEST_IMAGE
        return Quote(
            budget,
            (principal.plan or "") if principal is not None else "",
            estimate,
            output,
            price,
            max_input,
            hosted,
            runs,
            units,
            team_budget,
        )

    def _limits(self, model: Model, named: Sequence[Model]) -> _ModelLimits:
        """The limits over all models that may serve the request."""
        if not named and (known := self._limits_by_model.get(model.entry)) is not None:
            return known
        others = named or filter(None, map(self._catalog.find, model.fallbacks))
        models = [model, *others]
        outputs = [one.max_output for one in models]
        prices = [one.prices for one in models if one.prices is not None]
        leaving = [one.on_hangup for one in models if one.on_hangup is not None]
        price = Price.most_expensive(prices)
        limits = _ModelLimits(
            most=None if None in outputs else max(bound or 0 for bound in outputs),
            unbounded=max(map(_unbounded_output, models)),
            context=max(one.context or _CONTEXT for one in models),
            price=price,
            on_hangup="drain" if "drain" in leaving else next(iter(leaving), None),
            added={name: raw for one in models for name, raw in one.added.items()},
            hour_is_dearer=price.cache_write_1h > max(price.input, price.cache_write),
            described_to=any(map(self._is_described_to, models)),
        )
        if not named and not model.entry.endswith("*"):  # callers name the targets of those
            self._limits_by_model[model.entry] = limits
        return limits

    def _is_described_to(self, model: Model) -> bool:
        known = model.candidates[0].model.modalities
        return self._describes if known is None else "image" not in known


def _unbounded_output(model: Model) -> int:
    """Tokens of an answer without a bound: Claude models are then sent their maximum."""
    if model.max_output is not None:
        return model.max_output
    names = map(model.family_of, model.targets)
    return max(UNBOUNDED, *[claude(name).max_output or 0 for name in names])
