"""The jobs of a worker process: their store, the engine, and what both need."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from edge.media.fetch.fetcher import Fetcher
from edge.upstreams.provider import Provider
from middlewares.exchange import ErrorStyle
from middlewares.stores.jobs.base import Job, JobStore
from middlewares.tracing.step_traces import StepTraces

from .engine import JobEngine
from .notices import Signer
from .results import Results

_NOW = 5.0
"""Seconds for which a cancellation waits for its effect."""


class NewestProviders:
    """The providers of the newest configuration, by name."""

    def __init__(self) -> None:
        self._providers: Mapping[str, Provider] = {}

    def adopt(self, providers: Iterable[Provider]) -> None:
        """Take those of a configuration."""
        self._providers = {provider.name: provider for provider in providers}

    def __call__(self) -> Mapping[str, Provider]:
        return self._providers


class NewestErrorStyle:
    """The style of errors of the newest configuration."""

    def __init__(self, style: ErrorStyle) -> None:
        self._style = style

    def adopt(self, style: ErrorStyle) -> None:
        """Take that of a configuration."""
        self._style = style

    def __call__(self) -> ErrorStyle:
        return self._style


class Jobs(msgspec.Struct, frozen=True):
    """What the API and the lifespan use."""

    store: JobStore
    engine: JobEngine
    results: Results
    signer: Signer
    providers: NewestProviders
    errors: NewestErrorStyle
    fetcher: Fetcher
    traces: StepTraces

    async def cancel(self, owner: str, job_id: str, now: float) -> Job | None:
        """Cancel a job, and wait a little for its effect. The job as it then is; None where the
        owner has none with this id. Raises StoreUnavailable."""
        await self.store.cancel(owner, job_id, now)
        with suppress(TimeoutError):
            async with asyncio.timeout(_NOW):
                await self.engine.run_one(job_id)
        return await self.store.get(owner, job_id)
