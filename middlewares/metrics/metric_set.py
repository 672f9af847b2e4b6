"""The metrics of a worker, made from the table."""

from prometheus_client import CollectorRegistry

from middlewares import metric_table as table
from middlewares.metric_rows import NAMESPACE
from middlewares.shared import Shared


class MetricSet(Shared):
    """A metric for each row of the table whose maker is a worker.

    namespace: prefix of all names, as in `penstock_requests_total`.
    """

    def __init__(self, registry: CollectorRegistry, namespace: str = NAMESPACE) -> None:
        self.requests = table.REQUESTS.make(registry, namespace)
        self.problems = table.PROBLEMS.make(registry, namespace)
        self.in_flight = table.IN_FLIGHT.make(registry, namespace)
        self.streams_open = table.STREAMS_OPEN.make(registry, namespace)
        self.duration = table.DURATION.make(registry, namespace)
        self.first_content = table.FIRST_CONTENT.make(registry, namespace)
        self.overhead = table.OVERHEAD.make(registry, namespace)
        self.output_token = table.OUTPUT_TOKEN.make(registry, namespace)
        self.tokens = table.TOKENS.make(registry, namespace)
        self.units = table.UNITS.make(registry, namespace)
        self.credits = table.CREDITS.make(registry, namespace)
        self.credit_refusals = table.CREDIT_REFUSALS.make(registry, namespace)
        self.throttled = table.THROTTLED.make(registry, namespace)
        self.throttle_wait = table.THROTTLE_WAIT.make(registry, namespace)
        self.throttle_refusals = table.THROTTLE_REFUSALS.make(registry, namespace)
        self.body_bytes = table.BODY_BYTES.make(registry, namespace)
        self.descriptors_left = table.DESCRIPTORS_LEFT.make(registry, namespace)
        self.refused_at_door = table.REFUSED_AT_DOOR.make(registry, namespace)
        self.attempts = table.ATTEMPTS.make(registry, namespace)
        self.upstream_errors = table.UPSTREAM_ERRORS.make(registry, namespace)
        self.upstream_answer = table.UPSTREAM_ANSWER.make(registry, namespace)
        self.corrections = table.CORRECTIONS.make(registry, namespace)
        self.fallbacks = table.FALLBACKS.make(registry, namespace)
        self.breaker_state = table.BREAKER_STATE.make(registry, namespace)
        self.broken = table.TARGET_BROKEN.make(registry, namespace)
        self.model_broken = table.MODEL_BROKEN.make(registry, namespace)
        self.pool_connections = table.POOL_CONNECTIONS.make(registry, namespace)
        self.pool_waiting = table.POOL_WAITING.make(registry, namespace)
        self.ledger_rows = table.LEDGER_ROWS.make(registry, namespace)
        self.ledger_waiting = table.LEDGER_WAITING.make(registry, namespace)
        self.ledger_oldest = table.LEDGER_OLDEST.make(registry, namespace)
        self.journal_up = table.JOURNAL_UP.make(registry, namespace)
        self.sql_up = table.SQL_UP.make(registry, namespace)
        self.counters_up = table.COUNTERS_UP.make(registry, namespace)
        self.counters_lost = table.COUNTERS_LOST.make(registry, namespace)
        self.alerts = table.ALERTS.make(registry, namespace)
        self.answers_removed = table.ANSWERS_REMOVED.make(registry, namespace)
        self.answers_not_kept = table.ANSWERS_NOT_KEPT.make(registry, namespace)
        self.vendor_files = table.VENDOR_FILES.make(registry, namespace)
        self.fetches = table.FETCHES.make(registry, namespace)
        self.descriptions = table.DESCRIPTIONS.make(registry, namespace)
        self.description_hits = table.DESCRIPTION_HITS.make(registry, namespace)
        self.stored_bytes = table.STORED_BYTES.make(registry, namespace)
        self.files_swept = table.FILES_SWEPT.make(registry, namespace)
        self.media_decoded = table.MEDIA_DECODED.make(registry, namespace)
        self.media_waiting = table.MEDIA_WAITING.make(registry, namespace)
        self.jobs = table.JOBS.make(registry, namespace)
        self.jobs_overdue = table.JOBS_OVERDUE.make(registry, namespace)
        self.job_steps = table.JOB_STEPS.make(registry, namespace)
        self.jobs_lost = table.JOBS_LOST.make(registry, namespace)
        self.sign_ins = table.SIGN_INS.make(registry, namespace)
        self.log_lines_dropped = table.LOG_LINES_DROPPED.make(registry, namespace)
        self.spans = table.SPANS.make(registry, namespace)
        self.loop_lag = table.LOOP_LAG.make(registry, namespace)
        self.cpu_seconds = table.CPU_SECONDS.make(registry, namespace)
        self.resident_bytes = table.RESIDENT_BYTES.make(registry, namespace)
        self.worker_starts = table.WORKER_STARTS.make(registry, namespace)
        self.workers_wanted = table.WORKERS_WANTED.make(registry, namespace)
        self.workers_alive = table.WORKERS_ALIVE.make(registry, namespace)
        self.workers_ready = table.WORKERS_READY.make(registry, namespace)
        self.ready = table.READY.make(registry, namespace)
        self.worker_ends = table.WORKER_ENDS.make(registry, namespace)
        self.worker_start_failures = table.WORKER_START_FAILURES.make(registry, namespace)
        self.config_hash = table.CONFIG_HASH.make(registry, namespace)
        self.build_info = table.BUILD_INFO.make(registry, namespace)
