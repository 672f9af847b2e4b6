"""Which targets may do the work of a model, by which adapter, and at which price."""

from collections.abc import Callable, Mapping, Sequence
from random import random

from edge.config.load import Settings
from edge.config.model import JobVendor, ModelConfig, UpstreamConfig
from middlewares.pricing import Price

from .vendors import VENDORS
from .work import JobTerms, Place, Work

_USUAL: Mapping[str, JobVendor] = {
    "openai": "openai-videos",
    "responses": "openai-videos",
    "simulator": "openai-videos",
}
"""Adapter of a dialect whose upstream names none."""


class Placement:
    """The terms of jobs under one configuration."""

    def __init__(self, settings: Settings, *, random: Callable[[], float] = random) -> None:
        self._upstreams = {upstream.name: upstream for upstream in settings.upstreams}
        self._models = {model.id: model for model in settings.models}
        self._random = random

    def members(self, entry: str) -> Sequence[str]:
        """Further members of a request that pass to the targets of a model. entry: its id in the
        configuration."""
        return self._models[entry].job_members

    def places(self, entry: str, targets: Sequence[tuple[str, str]], work: Work) -> list[Place]:
        """Those of the targets (upstream and model) that take such work, best first.

        None where the model has a price, but none for jobs: its jobs would be free.
        """
        model = self._models[entry]
        if not _is_billed(model):
            return []
        found = [
            (Place(upstream, name, vendor), weight)
            for (upstream, name), weight in zip(
                targets, model.weights or (1,) * len(targets), strict=True
            )
            if (vendor := _vendor(model, self._upstreams.get(upstream))) is not None
            and work.kind in VENDORS[vendor].kinds
        ]
        if model.load_balancing != "order":
            found.sort(key=lambda one: self._random() ** (1.0 / one[1]), reverse=True)
        return [place for place, _ in found]

    def terms(
        self, entry: str, places: Sequence[Place], price: Price | None, work: Work
    ) -> JobTerms:
        """What is fixed when the job is created."""
        option = self._models[entry].price
        factor = 0 if option is None or option.upstream_cost is None else int(option.upstream_cost)
        return JobTerms(
            places=tuple(places),
            price=Price() if price is None else _units_of(price),
            factor=factor,
            seconds=max(VENDORS[place.vendor].most_seconds(work) for place in places),
            entry=entry,
        )


def seconds_of(places: Sequence[Place], work: Work) -> float:
    """Seconds that are asked for: the caller's, else the default of the first target."""
    return VENDORS[places[0].vendor].seconds(work)


def _units_of(price: Price) -> Price:
    """What of a price counts for jobs, in plain integers, which can be written down."""
    return Price(job=int(price.job), second=int(price.second))


def _is_billed(model: ModelConfig) -> bool:
    price = model.price
    return price is None or price.job is not None or price.second is not None


def _vendor(model: ModelConfig, upstream: UpstreamConfig | None) -> JobVendor | None:
    if upstream is None:
        return None
    return model.jobs or upstream.jobs or _USUAL.get(upstream.dialect)
