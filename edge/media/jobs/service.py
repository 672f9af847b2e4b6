"""The jobs of a worker process: their store, the engine, and what both need."""

from collections.abc import Iterable, Mapping

import msgspec

from edge.media.fetch.fetcher import Fetcher
from edge.upstreams.provider import Provider
from middlewares.stores.jobs.base import JobStore

from .engine import JobEngine
from .notices import Signer
from .results import Results


class NewestProviders:
    """The providers of the newest configuration, by name."""

    def __init__(self) -> None:
        self._providers: Mapping[str, Provider] = {}

    def adopt(self, providers: Iterable[Provider]) -> None:
        """Take those of a configuration."""
        self._providers = {provider.name: provider for provider in providers}

    def __call__(self) -> Mapping[str, Provider]:
        return self._providers


class Jobs(msgspec.Struct, frozen=True):
    """What the API and the lifespan use."""

    store: JobStore
    engine: JobEngine
    results: Results
    signer: Signer
    providers: NewestProviders
    fetcher: Fetcher
