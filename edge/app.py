"""The application of a worker process: its parts, its lifespan, reload and drain.

Stores, counters and metrics are opened once (`edge.services`). Everything that depends on the
configuration is built for each one, as a generation (`edge.generation`).
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import time
from typing import Any, cast

import msgspec

from edge.api.account import AccountApp
from edge.api.handlers import file_apps, handlers, responses_layer
from edge.api.health import health_app
from edge.api.jobs.app import JobsApp
from edge.api.jobs.create import Creator
from edge.billing.plans import Plans
from edge.billing.usage_report import UsageReport
from edge.config.load import Settings
from edge.config.snapshot import ConfigSnapshot, SharedConfig
from edge.dashboard.oidc.provider import provider_of
from edge.dashboard.on_demand import DashboardOnDemand
from edge.dashboard.parts import DashboardParts
from edge.management.http import AdminApp
from edge.media.fetch.rules import FetchRules
from edge.observability.log_setup import dropped_lines, info_logger
from edge.proxy.attachments.attachments import Attachments
from edge.proxy.attachments.named_audio import NamedAudio
from edge.proxy.describing.build import media_steps
from edge.proxy.edit_source import EditSource
from edge.proxy.forwarder import MediaSteps
from edge.proxy.image_links import ImageLinks
from edge.proxy.subrequests import Subrequests
from edge.routing.candidates import Candidates
from edge.routing.catalog import Catalog
from edge.routing.paths import route_of
from edge.routing.public_url import public_url
from edge.runtime import descriptors, lifespan
from edge.runtime.admission import Admission
from edge.runtime.descriptors import DescriptorBudget
from edge.runtime.signals import DRAIN, RELOAD
from edge.runtime.status import State, StatusFile, Working, report
from edge.runtime.worker_table import WorkerSlot
from edge.upstreams.build import providers_of
from edge.upstreams.http1.pools import Pools
from edge.upstreams.pool_reporter import PoolReporter
from edge.upstreams.provider import Provider
from middlewares import Metrics, Sampling
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.disconnects import no_connections
from middlewares.metrics.exposition import ScrapeSource
from middlewares.stores.audit.sql import SqlAuditStore
from middlewares.stores.descriptions.sql import SqlDescriptionStore
from middlewares.stores.keys.sql import SqlKeyStore
from middlewares.stores.teams.sql import SqlTeamStore

from .chain import INNER_LAYERS, OUTER_LAYERS, SUBREQUEST_LAYERS, Chain, Parts, compose
from .generation import Generation, Providers
from .services import Services, open_services

_log = logging.getLogger(__name__)

_CLOSE_TIME = 2.0
"""Seconds of `server.drain` that are left for closing everything."""
_MAX_SETTLE_TIME = 1.0
"""Seconds for cancelled requests to settle and to answer their callers."""

_CHECK_SECONDS = 1.0


class Gateway:
    """The ASGI application of one worker. Its lifespan opens it: `on_open` is called once all parts
    are open, `on_ready` when connections may be accepted, and `each_second` with the number of open
    requests. The store has been checked before (`edge.server.preflight`).

    first: the snapshot to serve first.
    shared_config: where later snapshots are published; None without reload. Checked every second
        and at the signal `RELOAD`.
    folder: where the workers write their status.
    scrape_source: of the metrics of all workers.
    descriptor_budget: the division of this process's file descriptors; None refuses nothing.
    slot: of this worker in the table; None for the only worker.
    providers: those of all generations.
    """

    def __init__(
        self,
        first: ConfigSnapshot,
        *,
        on_open: Callable[[], None] = lambda: None,
        on_ready: Callable[[], None] = lambda: None,
        each_second: Callable[[int], None] = lambda _requests: None,
        shared_config: SharedConfig | None = None,
        folder: Path | None = None,
        scrape_source: ScrapeSource | None = None,
        descriptor_budget: DescriptorBudget | None = None,
        slot: WorkerSlot | None = None,
        providers: Providers | None = None,
    ) -> None:
        self._initial = first
        self._on_open = on_open
        self._on_ready = on_ready
        self._each_second = each_second
        self._shared_config = shared_config
        self._folder = folder
        self._scrape_source = scrape_source
        self._status_file = None if folder is None else StatusFile(folder)
        self._slot = slot or WorkerSlot.alone()
        self._accepting = True
        self._open = AsyncExitStack()
        pools = None if descriptor_budget is None else Pools(descriptor_budget.upstreams)
        self._providers = providers or Providers(partial(providers_of, pools=pools))
        most = None if descriptor_budget is None else descriptor_budget.streams
        self._admission = Admission(most, self._open_requests)
        self._generation = Generation(Chain(_not_started, ()), first, (), 0.0)
        self._old: set[Generation] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.reload: asyncio.Task[None] | None = None
        """Builds and adopts the shared configuration."""
        self._failed_serial = 0
        self._fault = ""
        self._check_timer: asyncio.TimerHandle | None = None
        self._draining_since = 0.0
        self._cancelled: dict[asyncio.Task[None], float] = {}  # with the loop time of it
        self._to_answer: set[asyncio.Task[None]] = set()  # of these, which have yet to notice

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await lifespan.run(receive, send, start=self.start, stop=self._shut_down)
        generation = self._generation
        task = cast("asyncio.Task[None]", asyncio.current_task())
        generation.requests.add(task)
        try:
            await generation.app(scope, receive, send)
        finally:
            generation.requests.discard(task)
            if generation.retired:
                self._close_if_idle(generation)

    def begin_drain(self) -> None:
        """Begin `server.drain`: the server was asked to stop.

        Requests that outlast it are cancelled while there is time to settle them: servers wait for
        their connections and then end their workers.
        """
        if not self._draining_since:
            self.unready()
            self._services.jobs.engine.stop()
            loop = asyncio.get_running_loop()
            self._draining_since = loop.time()
            loop.call_at(self._cancel_time, self._cancel)
            loop.call_at(self._cancel_time + self._settle_time, self._cancel)

    @property
    def _cancel_time(self) -> float:
        """Loop time at which requests are cancelled."""
        drain = self._initial.settings.server.drain
        return self._draining_since + max(drain - _CLOSE_TIME, drain / 2)

    @property
    def _settle_time(self) -> float:
        """Seconds in which cancelled requests may answer their callers."""
        end = self._draining_since + self._initial.settings.server.drain
        return min(_MAX_SETTLE_TIME, (end - self._cancel_time) / 2)

    def _cancel(self) -> None:
        """Cancel the requests in flight. A second time it ends those that still answer callers who
        do not read."""
        own, now = asyncio.current_task(), asyncio.get_running_loop().time()
        for task in self._requests:
            if task is own or now < self._cancelled.get(task, 0.0) + self._settle_time / 2:
                continue
            self._cancelled[task] = now
            self._to_answer.add(task)
            task.cancel()

    def _stopped(self) -> bool:
        """Whether `_cancel` cancelled the running task, which then goes on to answer its client."""
        task = asyncio.current_task()
        if task is None or task not in self._to_answer:
            return False
        self._to_answer.discard(task)
        task.uncancel()
        return True

    @property
    def _requests(self) -> list[asyncio.Task[None]]:
        return [
            task for generation in (self._generation, *self._old) for task in generation.requests
        ]

    def _open_requests(self) -> int:
        here = len(self._generation.requests)
        return here + sum(len(old.requests) for old in self._old) if self._old else here

    def unready(self) -> None:
        """Answer 503 at /readyz. New work is still accepted."""
        self._accepting = False
        self._write_status()

    async def start(self) -> None:
        """Open everything. When a part fails, those opened before are closed again."""
        async with AsyncExitStack() as stack:
            self._services = await open_services(self._initial.settings, stack, self._scrape_source)
            metrics = self._services.metrics
            metrics.sample(metrics.config_hash, self._digest_metric)
            metrics.sample(metrics.descriptors_left, descriptors.left)
            metrics.count_from(metrics.refused_at_door, lambda: self._admission.refused)
            metrics.report_from(PoolReporter(metrics, self._providers.pool_figures))
            self._register_fleet_metrics(metrics)
            stack.push_async_callback(self._close_span_export)
            stack.push_async_callback(self._close_generations)
            self._generation = await self._build(self._initial)
            self._services.jobs.providers.adopt(self._generation.providers)
            stack.push_async_callback(self._close_jobs)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(DRAIN, self.unready)
            loop.add_signal_handler(RELOAD, self.check_config)
            self._check_every_second()
            stack.callback(self._stop_checking)
            self._on_open()
            await self._slot.wait_to_accept(self._may_accept)
            self._services.jobs.engine.start()
            self._open = stack.pop_all()
        self._on_ready()

    async def _shut_down(self) -> None:
        """Stop without clients: servers wait for their connections before they call it."""
        with no_connections():
            await self.stop()

    async def stop(self) -> None:
        """Wait for the requests in flight until the end of `server.drain`, then close everything,
        last opened first.

        Requests whose client has disconnected are waited for too, where their upstream is drained
        or their answer stored: they have yet to be charged.
        """
        self.unready()
        self.begin_drain()
        self._stop_checking()
        if self.reload is not None:
            await asyncio.wait([self.reload])  # it is short, and gives its providers back
        await self._wait_for_requests(self._cancel_time)
        await self._open.aclose()

    async def _wait_for_requests(self, until: float) -> None:
        tasks = set(self._requests) - {asyncio.current_task()}
        if not tasks:
            return
        left = until - asyncio.get_running_loop().time()
        _, late = await asyncio.wait(tasks, timeout=max(0.0, left))
        for _ in range(2):  # the second time ends those that still answer their callers
            if late:
                self._cancel()
                _, late = await asyncio.wait(late, timeout=self._settle_time)

    # Generations

    async def adopt(self, snapshot: ConfigSnapshot) -> None:
        """Serve new requests with `snapshot`. Requests in flight keep their generation, which is
        closed after the last of them. Do not call it concurrently. Raises what building a
        generation raises, and then nothing has changed."""
        new = await self._build(snapshot)
        old, self._generation = self._generation, new
        self._services.jobs.providers.adopt(new.providers)
        old.retired = True
        self._old.add(old)
        self._services.breaker_reporter.adopt(snapshot.settings)
        self._services.broken_models.adopt(snapshot.settings)
        self._services.alerts.adopt(snapshot.settings)
        self._services.fetcher.adopt(FetchRules.of(snapshot.settings.fetch))
        self._services.jobs.errors.adopt(snapshot.settings.error_style)
        self._services.jobs.fetcher.adopt(FetchRules.of(snapshot.settings.fetch))
        self._services.jobs.traces.adopt(Sampling(snapshot.settings.tracing.ratio))
        sweeper = self._services.sweeper
        if sweeper is not None:
            sweeper.grace = max(sweeper.grace, snapshot.settings.longest_request)
        self._close_if_idle(old)

    def _close_if_idle(self, generation: Generation) -> None:
        if not generation.requests and generation in self._old:
            self._old.remove(generation)
            self._in_background(self._providers.close(generation))

    def _in_background(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing, name="generation-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close_jobs(self) -> None:
        """Wait for answers to submissions for as long as for requests."""
        left = self._cancel_time - asyncio.get_running_loop().time()
        await self._services.jobs.engine.aclose(left if self._draining_since else 0.0)

    async def _close_span_export(self) -> None:
        """Send the last spans, in at most half of what is left of the drain."""
        export = self._services.span_export
        if export is not None:
            end = self._draining_since + self._initial.settings.server.drain
            left = end - asyncio.get_running_loop().time()
            await asyncio.to_thread(export.close, left / 2)

    async def _close_generations(self) -> None:
        for generation in (self._generation, *self._old):
            await self._providers.close(generation)
        self._old.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _check_every_second(self) -> None:
        """Check now and every second: a signal may be lost, and others read our status."""
        self._check_timer = asyncio.get_running_loop().call_later(
            _CHECK_SECONDS, self._check_every_second
        )
        self.check_config()
        self._each_second(self._open_requests())

    def _stop_checking(self) -> None:
        if self._check_timer is not None:
            self._check_timer.cancel()

    def check_config(self) -> None:
        """Begin to adopt the shared configuration where it is newer than ours."""
        shared_config = self._shared_config
        if shared_config is not None and self._is_newer(shared_config) and self.reload is None:
            self.reload = asyncio.create_task(self._adopt_published(shared_config), name="reload")
            self.reload.add_done_callback(self._reload_ended)
        self._write_status()

    def _is_newer(self, shared_config: SharedConfig) -> bool:
        return not self._draining_since and shared_config.serial not in (
            0,
            self._generation.snapshot.serial,
        )

    def _reload_ended(self, _: asyncio.Task[None]) -> None:
        self.reload = None

    async def _adopt_published(self, shared_config: SharedConfig) -> None:
        """Adopt the published snapshot, until it is the newest. One that cannot be built is tried
        again at the next check, since the parent could build it; it is logged once."""
        serial = 0
        try:
            while self._is_newer(shared_config):
                snapshot = shared_config.read()
                serial = snapshot.serial
                await self.adopt(snapshot)
                self._write_status()
        except Exception as error:
            self._fault = f"configuration {serial} cannot be made: {type(error).__name__}"
            if self._failed_serial != serial:
                self._failed_serial = serial
                _log.exception(
                    "cannot build configuration %d; the previous one keeps serving", serial
                )
        else:
            self._fault = ""

    # Status

    def _write_status(self) -> None:
        self._slot.report(ready=self._can_serve(), draining=not self._accepting)
        if self._status_file is not None:
            self._status_file.update(self._own_status())

    def _own_status(self) -> Working:
        generation = self._generation
        state: State = (
            "draining" if not self._accepting else "not ready" if self._unready() else "ready"
        )
        return Working(
            pid=os.getpid(),
            digest=generation.snapshot.digest,
            generation=generation.snapshot.serial,
            loaded=generation.loaded,
            requests=len(self._requests),
            state=state,
            fault=self._fault,
            figures=self._services.figures.figures(
                upstream.name for upstream in generation.snapshot.settings.upstreams
            ),
        )

    def _unready(self) -> dict[str, str]:
        """Why this worker should get no new work, for /readyz; empty when it should."""
        if not self._accepting:
            return {"reason": "stopping"}
        keys = self._services.keys
        if not self._services.ledger_writer.usable:
            return {"reason": "the journal cannot be written, what costs is refused"}
        if keys is None or keys.answered:
            return {}
        fault = self._services.database.identity.fault
        known = "known ones are served" if keys.usable else "none is served"
        return {
            "reason": f"keys that are not known cannot be checked, {known}",
            "store": f"sql: {fault or 'does not answer'}",
        }

    def _may_accept(self) -> bool:
        """Whether connections can be accepted. Ends the process when it was asked to stop before: a
        server would begin to serve first."""
        if self._draining_since:
            raise SystemExit(0)
        return self._can_serve()

    def _can_serve(self) -> bool:
        """Whether it can answer requests, at least with the keys that it knows. Connections go to
        such workers first."""
        keys = self._services.keys
        return self._services.ledger_writer.usable and (keys is None or keys.usable)

    async def _status(self) -> dict[str, Any]:
        """The status of all workers. The request for it is not counted."""
        working = self._own_status()
        own = msgspec.structs.replace(working, requests=max(0, working.requests - 1))
        fleet = None if self._folder is None else self._slot.fleet()
        return await asyncio.to_thread(report, own, self._folder, time(), fleet)

    def _register_fleet_metrics(self, metrics: Metrics) -> None:
        fleet = self._slot.fleet
        metrics.sample(metrics.workers_wanted, lambda: fleet().wanted)
        metrics.sample(metrics.workers_alive, lambda: fleet().alive)
        metrics.sample(metrics.workers_ready, lambda: fleet().ready)
        metrics.sample(metrics.ready, lambda: float(not self._unready()))
        metrics.sample(metrics.worker_ends, lambda: fleet().ends)
        metrics.sample(metrics.worker_start_failures, lambda: fleet().failed)
        metrics.count_from(metrics.log_lines_dropped, dropped_lines)

    # Parts

    def _digest_metric(self) -> float:
        """The first 48 bits of the digest, which a float, as a metric is, holds exactly."""
        return float(int(self._generation.snapshot.digest[:12] or "0", 16))

    async def _build(self, snapshot: ConfigSnapshot) -> Generation:
        shared = self._services
        providers = await self._providers.acquire(snapshot)
        try:
            chain = self._chain(snapshot, providers, shared)
        except BaseException:
            self._in_background(self._providers.release(providers.values()))
            raise
        return Generation(chain, snapshot, providers.values(), time())

    def _chain(
        self, snapshot: ConfigSnapshot, providers: Mapping[str, Provider], shared: Services
    ) -> Chain:
        settings = snapshot.settings
        catalog = Catalog.build(settings)
        shared.uploads.make_room(settings.server.max_body)
        token = settings.auth.admin_token
        plans = Plans(settings)
        usage_report = UsageReport(
            limits=plans.limits,
            team_limits=plans.team_limits,
            accounts=shared.accounts,
            rates=shared.counters,
            ledger=shared.ledger,
            running=shared.jobs.store.reservations,
            team_running=shared.jobs.store.reservations_of_team,
        )
        files = file_apps(settings, shared.files, shared.part_uploads, plans.storage)
        parts = Parts(
            settings=settings,
            catalog=catalog,
            plans=plans,
            keys=shared.keys,
            counters=shared.counters,
            accounts=shared.accounts,
            ledger_writer=shared.ledger_writer,
            replays=shared.replays,
            responses_layer=responses_layer(
                settings,
                metrics=shared.metrics,
                responses=shared.responses,
                sealing=shared.sealing,
                estimator=shared.estimator,
            ),
            candidates=Candidates(
                catalog,
                health=shared.health,
                affinity=shared.affinity,
                dialects=lambda name: providers[name].dialects,
            ),
            health=shared.health,
            failed=shared.failures,
            throttle_queue=shared.throttle_queue,
            token_queue=shared.token_queue,
            sandbox=shared.sandbox,
            uploads=shared.uploads,
            metrics=shared.metrics,
            spans=None
            if shared.span_export is None
            else shared.span_export.spans(settings, route_of),
            named_files=NamedAudio(shared.resolver),
            form_sources={"images": EditSource(shared.files, shared.fetcher)},
            estimator=shared.estimator,
            log=info_logger(),
            health_app=health_app(
                settings, shared.metrics, self._unready, self._status, self._slot.fleet
            ),
            stopped=self._stopped,
            open_apps={"links": files["links"]},
            admin_app=AdminApp(
                token=None if token is None else token.reveal(),
                settings=settings,
                catalog=catalog,
                keys=SqlKeyStore(shared.database),
                teams=SqlTeamStore(shared.database),
                audit=SqlAuditStore(shared.database),
                usage_report=usage_report,
            ),
            dashboard_app=_not_started,
            admission=self._admission,
        )
        bottom = handlers(
            settings,
            catalog,
            providers,
            sealing=shared.sealing,
            estimator=shared.estimator,
            account=AccountApp(usage_report, flush=shared.ledger_writer.flush),
            files=files,
            jobs=JobsApp(
                settings,
                jobs=shared.jobs,
                creator=Creator(
                    settings,
                    jobs=shared.jobs,
                    files=shared.files,
                    plans=plans,
                    accounts=shared.accounts,
                    ledger_writer=shared.ledger_writer,
                ),
                catalog=catalog,
                files=shared.files,
                counters=shared.counters,
            ),
            media=partial(self._media_steps, settings, shared, parts),
            image_links=ImageLinks(
                shared.files,
                shared.fetcher,
                storage=plans.storage,
                base=partial(
                    public_url,
                    configured=settings.server.public_url,
                    trusted=settings.server.trusted_proxies,
                ),
                urls=settings.images.urls,
            ),
        )
        shared.vendor_sweeper.providers = providers
        inner = compose(bottom, parts, INNER_LAYERS)
        dashboard = DashboardOnDemand(
            DashboardParts(
                settings=settings,
                catalog=catalog,
                plans=plans,
                keys=SqlKeyStore(shared.database),
                teams=SqlTeamStore(shared.database),
                directory=shared.keys,
                sessions=shared.sessions,
                sealing=shared.sealing,
                identity_provider=provider_of(settings.dashboard.oidc),
                audit=SqlAuditStore(shared.database),
                usage_report=usage_report,
                ledger=shared.ledger,
                counters=shared.counters,
                metrics=shared.metrics,
                accounts=shared.accounts,
                ledger_flush=shared.ledger_writer.flush,
                inner=inner.app,
                snapshot=snapshot,
                loaded=time(),
                files=shared.files,
                jobs=shared.jobs,
                health=shared.health,
                providers=providers,
                status=self._status,
            )
        )
        parts = msgspec.structs.replace(parts, dashboard_app=dashboard)
        outer = compose(inner.app, parts, OUTER_LAYERS)
        return Chain(outer.app, (*outer.closers, *inner.closers))

    def _media_steps(
        self, settings: Settings, shared: Services, parts: Parts, forwarder: ASGIApp
    ) -> MediaSteps:
        """The media steps, whose own requests `forwarder` answers."""
        around = compose(forwarder, parts, SUBREQUEST_LAYERS).app
        return media_steps(
            settings.media,
            parts.catalog,
            Subrequests(around, estimator=shared.estimator),
            sandbox=shared.sandbox,
            store=SqlDescriptionStore(shared.database, keep=settings.media.cache),
            slots=shared.describing,
            metrics=shared.metrics,
            sources=Attachments(
                shared.resolver,
                shared.vendor_files,
                file_limit=settings.files.inline_max_size,
                request_limit=settings.files.inline_max_total,
            ),
        )


async def _not_started(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the lifespan has not been started; Penstock needs a server that runs it")
