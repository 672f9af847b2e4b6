"""Services that live as long as a worker: state, and connections to stores.

All generations of the configuration share them (`edge.generation`), so their settings cannot be
reloaded: the fields of those say `reloadable: False`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import msgspec

from edge.billing.token_estimate import Estimator
from edge.config.load import Settings
from edge.config.model import StoreConfig
from edge.dialects.sealing import Sealing
from edge.management.alerts import Alerts
from edge.media.decode.sandbox import Sandbox, cores
from edge.media.fetch.fetcher import Fetcher
from edge.media.fetch.rules import FetchLimits, FetchRules
from edge.media.jobs.engine import JobEngine
from edge.media.jobs.notices import Notices, Signer
from edge.media.jobs.results import Results
from edge.media.jobs.service import Jobs, NewestErrorStyle, NewestProviders
from edge.media.jobs.steps import JobTimes, Steps
from edge.media.library import Files
from edge.media.objects import Objects
from edge.media.part_uploads import PartUploads
from edge.media.resolve import Resolver
from edge.media.sweep import FileSweeper
from edge.observability.loop_lag import LoopLag
from edge.observability.process_metrics import measure_process
from edge.observability.recent_failures import RecentFailures
from edge.observability.trace_settings import traces_endpoint
from edge.observability.worker_figures import FigureSources
from edge.proxy.attachments.vendor_files import VendorFiles
from edge.proxy.attachments.vendor_sweep import VendorFileSweeper
from edge.proxy.describing.steps import DescribingSlots
from edge.routing.affinity import ConversationAffinity, StoredAffinity
from edge.routing.breaker_reporter import BreakerReporter
from edge.routing.broken_models import BrokenModels
from edge.routing.paths import route_of
from edge.runtime.stores import (
    GRACE,
    affinity_store_of,
    counters_of,
    grants_of,
    health_of,
    replays_of,
)
from middlewares import Metrics
from middlewares.exchange import Target
from middlewares.metrics.exposition import ScrapeSource
from middlewares.pricing import NANO
from middlewares.rate_limit.throttle_queue import ThrottleQueue
from middlewares.stores import KeyDirectory
from middlewares.stores.accounts import Accounts
from middlewares.stores.alerts.sql import SqlAlertStore
from middlewares.stores.counters.base import Counters
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.files.uploads import SqlUploadStore
from middlewares.stores.health.base import Health, State
from middlewares.stores.jobs.base import STATES
from middlewares.stores.jobs.sql import SqlJobStore
from middlewares.stores.keys.sql import SqlKeyStore
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.ledger.writer import LedgerWriter
from middlewares.stores.replays.base import ReplayStore
from middlewares.stores.responses.base import ResponseStore
from middlewares.stores.responses.quota import BoundedResponseStore
from middlewares.stores.responses.sql import SqlResponseStore, SqlSecretStore
from middlewares.stores.responses.sweep import Sweeper
from middlewares.stores.sessions.base import SessionStore
from middlewares.stores.sessions.sql import SqlSessionStore
from middlewares.stores.sessions.sweep import SessionSweeper
from middlewares.stores.sql.database import Database
from middlewares.stores.teams.sql import SqlTeamStore
from middlewares.stores.vendor_files.sql import SqlVendorFileStore
from middlewares.tracing.sampling import Sampling
from middlewares.tracing.step_traces import StepTraces
from middlewares.uploads import Uploads

if TYPE_CHECKING:
    from edge.observability.span_export import SpanExport

_LONGEST_COPY = 900.0
"""Seconds that the download of a result may take."""


class Services(msgspec.Struct, frozen=True):
    """The services that all generations share. span_export: closed by the gateway, which knows how
    much of the drain is left."""

    metrics: Metrics
    database: Database
    keys: KeyDirectory | None
    sessions: SessionStore
    ledger: SqlLedgerStore
    counters: Counters
    accounts: Accounts
    ledger_writer: LedgerWriter
    alerts: Alerts
    replays: ReplayStore
    responses: ResponseStore | None
    sweeper: Sweeper | None
    files: Files
    jobs: Jobs
    sandbox: Sandbox
    describing: DescribingSlots
    part_uploads: PartUploads
    sealing: Sealing
    estimator: Estimator
    throttle_queue: ThrottleQueue
    token_queue: ThrottleQueue
    uploads: Uploads
    fetcher: Fetcher
    resolver: Resolver
    vendor_files: VendorFiles
    vendor_sweeper: VendorFileSweeper
    health: Health
    breaker_reporter: BreakerReporter
    failures: RecentFailures
    figures: FigureSources
    broken_models: BrokenModels
    affinity: ConversationAffinity | None
    span_export: "SpanExport | None" = None


async def open_services(
    settings: Settings,
    stack: AsyncExitStack,
    scrape_source: ScrapeSource | None = None,
) -> Services:
    """Open the services of a worker. `stack` closes them, last opened first. scrape_source: of
    the metrics of all workers."""
    metrics = Metrics(source=scrape_source)
    metrics.start()
    stack.callback(metrics.stop)
    span_export = _span_export_of(settings)
    if span_export is not None:
        spans = metrics.spans
        metrics.count_from(spans.labels("exported"), lambda: span_export.exported)
        metrics.count_from(spans.labels("dropped"), lambda: span_export.dropped)
        metrics.count_from(spans.labels("failed"), lambda: span_export.failed)
    lag = LoopLag()
    lag.start()
    stack.callback(lag.stop)
    measure_process(metrics, lag)
    database = Database.at(settings.store.sql, memory=Path(settings.store.journal))
    stack.push_async_callback(database.aclose)
    breaker_reporter = BreakerReporter(settings, metrics)
    broken_models = BrokenModels(
        settings, lambda model, source: metrics.sample(metrics.model_broken.labels(model), source)
    )

    def breaker_changed(target: Target, state: State, reason: str) -> None:
        breaker_reporter(target, state, reason)
        broken_models.changed(target, state)

    counters = counters_of(settings)
    stack.push_async_callback(counters.aclose)
    # Concurrently, so that an unreachable Redis is waited for once.
    share, health, affinity_store, _ = await asyncio.gather(
        grants_of(settings, stack),
        health_of(settings, stack, breaker_changed, shared=breaker_reporter.knows),
        affinity_store_of(settings, stack),
        counters.start(),
    )
    broken_models.watch(health)
    keys = None
    if settings.auth.mode == "keys":
        keys = KeyDirectory(
            SqlKeyStore(database), grace=GRACE, size=settings.auth.known_keys, share=share
        )
        stack.push_async_callback(keys.aclose)
        # A worker that replaces a dead one during an outage of the store waits for its end.
        await keys.start(must_answer=False)
    ledger = SqlLedgerStore(database)

    async def recover() -> None:
        await ledger_writer.recover_now()

    accounts = Accounts(counters, ledger, recover=recover)
    stack.push_async_callback(accounts.aclose)
    alerts = alerts_of(settings, database, metrics)
    stack.push_async_callback(alerts.aclose)

    async def committed(entries: Sequence[Entry]) -> None:
        alerts.watch.note(entries)
        await accounts.committed(entries)

    async def changed(entry: Entry) -> None:
        alerts.watch.note([entry])
        await accounts.changed(entry)

    ledger_writer = LedgerWriter(ledger, Path(settings.store.journal), committed=committed)
    stack.push_async_callback(ledger_writer.aclose)
    await ledger_writer.start()
    await accounts.start()
    alerts.start()
    sessions = SqlSessionStore(database)
    session_sweeper = SessionSweeper(sessions)
    session_sweeper.start()
    stack.push_async_callback(session_sweeper.aclose)
    replays = await replays_of(settings, stack)
    responses = sweeper = None
    if settings.keep_responses:
        responses = BoundedResponseStore(
            SqlResponseStore(database),
            size=settings.store.responses_max_size,
            count=settings.store.responses_max_count,
            removed=metrics.answers_removed.inc,
        )
        sweeper = Sweeper(responses, grace=settings.longest_request, keep=settings.keep_responses)
        sweeper.start()
        stack.push_async_callback(sweeper.aclose)
    files, part_uploads = files_of(settings, database)
    stack.push_async_callback(files.aclose)
    file_sweeper = FileSweeper(
        files, more=(part_uploads.sweep,), period=settings.files.sweep_interval
    )
    file_sweeper.start()
    stack.push_async_callback(file_sweeper.aclose)
    sandbox = Sandbox(
        cores() // settings.server.workers,
        report=lambda kind, outcome: metrics.media_decoded.labels(kind, outcome).inc(),
    )
    stack.push_async_callback(sandbox.aclose)
    metrics.sample(metrics.media_waiting, lambda: sandbox.waiting)
    throttle_queue, token_queue = throttle_queue_of(settings), throttle_queue_of(settings)
    uploads = uploads_of(settings)
    fetcher = Fetcher(
        FetchRules.of(settings.fetch),
        count=lambda outcome: metrics.fetches.labels(outcome).inc(),
    )
    stack.push_async_callback(fetcher.aclose)
    vendor_files = VendorFiles(
        files,
        SqlVendorFileStore(database),
        count=lambda upstream, outcome: metrics.vendor_files.labels(upstream, outcome).inc(),
    )
    stack.push_async_callback(vendor_files.aclose)
    vendor_sweeper = VendorFileSweeper(vendor_files, period=settings.files.sweep_interval)
    vendor_sweeper.start()
    stack.push_async_callback(vendor_sweeper.aclose)
    metrics.sample(metrics.counters_up, lambda: float(not getattr(counters, "away", False)))
    metrics.sample(metrics.journal_up, lambda: float(ledger_writer.usable))
    metrics.sample(metrics.sql_up, lambda: float(database.up and ledger_writer.delivers))
    metrics.count_from(metrics.counters_lost, lambda: getattr(counters, "losses", 0))
    metrics.sample(metrics.stored_bytes, lambda: file_sweeper.stored)
    metrics.count_from(metrics.files_swept, lambda: file_sweeper.swept)
    metrics.sample(metrics.throttled, lambda: len(throttle_queue) + len(token_queue))
    metrics.count_from(
        metrics.throttle_refusals, lambda: throttle_queue.refusals + token_queue.refusals
    )
    metrics.sample(metrics.body_bytes, lambda: uploads.held + throttle_queue.size)
    metrics.sample(metrics.ledger_waiting, lambda: ledger_writer.pending)
    metrics.sample(metrics.ledger_oldest, lambda: ledger_writer.oldest_age(time()))
    metrics.count_from(metrics.ledger_rows.labels("requests"), lambda: ledger_writer.written)
    metrics.count_from(metrics.ledger_rows.labels("recovery"), lambda: ledger_writer.recovered)
    failures = RecentFailures(breaker_reporter.knows)
    return Services(
        metrics=metrics,
        failures=failures,
        figures=FigureSources(
            health=health,
            failures=failures,
            streams=lambda: metrics.streams,
            queued=lambda: len(throttle_queue) + len(token_queue),
            ledger_rows=lambda: ledger_writer.pending,
            ledger_age=lambda: ledger_writer.oldest_age(time()),
        ),
        database=database,
        keys=keys,
        sessions=sessions,
        ledger=ledger,
        counters=counters,
        accounts=accounts,
        ledger_writer=ledger_writer,
        replays=replays,
        responses=responses,
        sweeper=sweeper,
        files=files,
        alerts=alerts,
        jobs=jobs_of(
            settings, database, files, changed, metrics, step_traces_of(settings, span_export)
        ),
        sandbox=sandbox,
        describing=DescribingSlots(),
        part_uploads=part_uploads,
        sealing=Sealing(SqlSecretStore(database)),
        estimator=Estimator(),
        throttle_queue=throttle_queue,
        token_queue=token_queue,
        uploads=uploads,
        fetcher=fetcher,
        resolver=Resolver(files, fetcher),
        vendor_files=vendor_files,
        vendor_sweeper=vendor_sweeper,
        health=health,
        breaker_reporter=breaker_reporter,
        broken_models=broken_models,
        affinity=None if affinity_store is None else StoredAffinity(affinity_store),
        span_export=span_export,
    )


def step_traces_of(settings: Settings, export: "SpanExport | None") -> StepTraces:
    """Begins the traces of steps of jobs."""
    if export is None:
        return StepTraces()
    return StepTraces(export.spans(settings, route_of), Sampling(settings.tracing.ratio))


def _span_export_of(settings: Settings) -> "SpanExport | None":
    """The export of spans; None where there are no traces."""
    if traces_endpoint(settings.tracing) is None:
        return None
    # OpenTelemetry's SDK, which a gateway without traces does not load.
    from edge.observability.span_export import open_export

    return open_export(settings.tracing)


def alerts_of(settings: Settings, database: Database, metrics: Metrics) -> Alerts:
    """The alerts of this process, with the settings of `[alerts]`."""
    alerts = Alerts(
        SqlAlertStore(database),
        keys=SqlKeyStore(database),
        teams=SqlTeamStore(database),
        secrets=SqlSecretStore(database),
        count=lambda result, times: metrics.alerts.labels(result).inc(times),
    )
    alerts.adopt(settings)
    return alerts


def throttle_queue_of(settings: Settings) -> ThrottleQueue:
    """A queue for throttled requests, with the bounds of the settings."""
    limits = settings.limits
    return ThrottleQueue(
        max_per_subject=limits.throttle_max_per_key,
        max_total=limits.throttle_max_total,
        max_bytes=limits.throttle_max_memory,
        max_wait=limits.throttle_max_wait,
    )


def files_of(settings: Settings, database: Database) -> tuple[Files, PartUploads]:
    """The files of all callers. Rows are in `store.sql`, bytes in `store.objects`."""
    option = settings.files
    objects, lease = objects_of(settings.store), 2 * option.sweep_interval
    files = Files(
        SqlFileStore(database),
        objects,
        SqlSecretStore(database),
        max_size=option.max_size,
        lease=lease,
    )
    uploads = PartUploads(
        SqlUploadStore(database), files, objects, max_size=option.max_upload_size, lease=lease
    )
    return files, uploads


def jobs_of(
    settings: Settings,
    database: Database,
    files: Files,
    settle: Callable[[Entry], Awaitable[None]],
    metrics: Metrics,
    traces: StepTraces,
) -> Jobs:
    """The jobs of this process. The engine claims nothing before it is started. settle: called with
    the reservation of a job that has ended."""
    option = settings.jobs
    store, providers = SqlJobStore(database), NewestProviders()
    errors = NewestErrorStyle(settings.error_style)
    # Videos are large, and read once.
    fetcher = Fetcher(
        FetchRules.of(settings.fetch),
        limits=FetchLimits(total=_LONGEST_COPY, cached=0),
        count=lambda outcome: metrics.fetches.labels(outcome).inc(),
    )
    results = Results(store, files, fetcher, keep=option.keep_results)
    signer = Signer(SqlSecretStore(database))
    steps = Steps(
        store,
        providers=providers,
        results=results,
        notices=Notices(signer, fetcher),
        settle=settle,
        charged=lambda model, cost: metrics.credits.labels(model).inc(cost / NANO),
        lost=metrics.jobs_lost.inc,
        times=JobTimes(
            unknown=option.unknown,
            expire=option.expire,
            first=option.first_poll,
            longest=option.longest_poll,
        ),
        errors=errors,
        traces=traces,
    )
    engine = JobEngine(store, steps, at_once=option.at_once, lease=option.lease, keep=option.keep)
    for state in STATES:
        metrics.sample(metrics.jobs.labels(state), partial(engine.count, state))
    metrics.sample(metrics.jobs_overdue, lambda: engine.figures.overdue)
    metrics.sample(metrics.job_steps, lambda: engine.busy)
    return Jobs(store, engine, results, signer, providers, errors, fetcher, traces)


def objects_of(store: StoreConfig) -> Objects:
    """The objects at `store.objects`, with the options of their bucket."""
    given = {
        "endpoint": store.objects_endpoint,
        "region": store.objects_region,
        "access_key_id": store.objects_access_key and store.objects_access_key.reveal(),
        "secret_access_key": store.objects_secret_key and store.objects_secret_key.reveal(),
    }
    return Objects(store.objects, {name: value for name, value in given.items() if value})


def uploads_of(settings: Settings) -> Uploads:
    """The bound on the memory of request bodies. One of the largest size always fits."""
    each = max(settings.limits.max_body_memory_per_key, settings.server.max_body)
    return Uploads(total=max(settings.limits.max_body_memory, each), each=each)
