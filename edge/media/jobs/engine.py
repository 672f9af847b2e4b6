"""The worker loop: claims jobs that are due, in every worker process, and takes their steps.

Theory of operation. A claim is a lease that this process renews while it takes a step. Steps are
short, but a submission may be as long as the work itself. When the process is asked to stop it
claims nothing more and ends the leases of steps that can be repeated; a submission is let end, as
its answer would be lost. What a process leaves when it is killed is claimed by another once the
lease has ended. No Redis is needed: SQL decides.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from time import time

import structlog

from middlewares.shared import Shared
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.jobs.base import ClaimLost, Job, JobFigures, JobStore, State
from middlewares.stores.outage import Outage

from .steps import Steps

_log = structlog.get_logger()

LEASE = 30.0
"""Seconds after which the jobs of a dead process are claimed by others."""
_IDLE = 1.0
"""Seconds between two looks for due jobs."""
_PURGE = 3600.0
"""Seconds between two removals of old jobs."""
_FIGURES = 5.0
"""Seconds between two counts for the metrics."""


class JobEngine(Shared):
    """Takes steps of jobs in this process.

    at_once: steps at the same time. keep: seconds that jobs are kept after their end; None keeps
    them. clock: Unix seconds. `start` once, `stop` when asked to end, `aclose` at the end.
    """

    def __init__(
        self,
        store: JobStore,
        steps: Steps,
        *,
        at_once: int = 32,
        lease: float = LEASE,
        idle: float = _IDLE,
        keep: float | None = None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._steps = steps
        self._at_once = at_once
        self._lease = lease
        self._idle = idle
        self._keep = keep
        self._clock = clock
        self._holder = token_hex(8)
        self._claims: dict[asyncio.Task[None], Job] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._outage = Outage(
            logging.getLogger(__name__),
            "cannot claim jobs",
            "jobs are claimed again",
        )
        self.figures = JobFigures({}, 0.0)
        """As counted last, by the process that counts."""

    def start(self) -> None:
        """Start claiming."""
        if self._tasks:
            raise RuntimeError("JobEngine.start was called twice")
        self._tasks = [
            asyncio.create_task(self._claim_forever(), name="jobs"),
            asyncio.create_task(self._renew_forever(), name="job-leases"),
            asyncio.create_task(self._count_forever(), name="job-figures"),
        ]

    def wake(self) -> None:
        """Look for due jobs now."""
        self._wake.set()

    @property
    def busy(self) -> int:
        """Steps under way."""
        return len(self._claims)

    def count(self, state: State) -> int:
        """Jobs in a state, of all processes, as counted last."""
        return self.figures.states.get(state, 0)

    def stop(self) -> None:
        """Claim nothing more. Steps that can be repeated are left to others."""
        self._stopping = True
        self._wake.set()
        for task, job in self._claims.items():
            if job.state != "queued":  # a submission must hear its answer
                task.cancel()

    async def aclose(self, patience: float = 0.0) -> None:
        """Wait for submissions, then stop. Idempotent."""
        self.stop()
        if self._claims and patience > 0:
            await asyncio.wait(list(self._claims), timeout=patience)
        tasks, self._tasks = [*self._tasks, *self._claims], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run_one(self, job_id: str) -> bool:
        """Claim a job, if it is not claimed, and take its next step. Raises StoreUnavailable."""
        if self._stopping:
            return False
        job = await self._store.claim(self._holder, self._clock(), self._lease, job_id)
        if job is None:
            return False
        await asyncio.shield(self._begin(job))
        return True

    async def _claim_forever(self) -> None:
        while not self._stopping:
            self._wake.clear()
            claimed = False
            if len(self._claims) < self._at_once:
                try:
                    claimed = await self._claim()
                except StoreUnavailable as raised:
                    self._outage.failed(raised)
                except Exception:
                    _log.exception("cannot claim jobs")
            if not claimed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._idle):
                        await self._wake.wait()

    async def _claim(self) -> bool:
        job = await self._store.claim(self._holder, self._clock(), self._lease)
        self._outage.worked()
        if job is None:
            return False
        if self._stopping:
            await self._store.let_go([job])
            return False
        self._begin(job)
        return True

    def _begin(self, job: Job) -> "asyncio.Task[None]":
        task = asyncio.create_task(self._step(job), name=f"job-{job.id}")
        self._claims[task] = job
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._claims[task]
        self._wake.set()

    async def _step(self, job: Job) -> None:
        try:
            await self._steps.take(job)
        except ClaimLost:
            _log.info("job taken over by another worker", job=job.id)
        except StoreUnavailable as raised:
            _log.warning("job waits for the store", job=job.id, reason=str(raised))
        except asyncio.CancelledError:
            if job.state != "queued":  # a submission may have arrived: its lease ends first
                with suppress(Exception):
                    await self._store.let_go([job])
            raise
        except Exception:
            _log.exception("job step failed", job=job.id, state=job.state)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            for task, job in tuple(self._claims.items()):
                try:
                    if not await self._store.renew(job, self._clock() + self._lease):
                        task.cancel()
                except StoreUnavailable as raised:
                    self._outage.failed(raised)
                except Exception:
                    _log.exception("cannot renew the lease of a job", job=job.id)

    async def _count_forever(self) -> None:
        purge = self._clock() + _PURGE / 10
        while True:
            with suppress(StoreUnavailable):
                self.figures = await self._store.figures(self._clock())
                if self._keep is not None and self._clock() > purge:
                    purge = self._clock() + _PURGE
                    await self._store.purge(self._clock() - self._keep)
            await asyncio.sleep(_FIGURES)
