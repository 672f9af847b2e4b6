"""The table of metrics: name, type, labels, help, buckets and multiprocess mode of each.

Metrics are made from it, and so are the rows of `docs/reference.md`, the alert rules and the
Grafana dashboard. Labels come from the configuration and from closed sets, never from a client.
"""

from collections.abc import Iterator

from .metric_rows import CounterRow, GaugeRow, HistogramRow, Maker, Row

_OVERHEADS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
_DURATIONS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_ANSWERS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)
_WAITS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# Requests

REQUESTS = CounterRow("requests", "Finished requests.", ("endpoint", "model", "status", "outcome"))
PROBLEMS = CounterRow("problems", "Requests answered with a problem.", ("kind",))
IN_FLIGHT = GaugeRow("requests_in_flight", "Requests being served now.", mode="livesum")
STREAMS_OPEN = GaugeRow(
    "streams_open", "Streamed answers that have begun and not ended.", mode="livesum"
)
DURATION = HistogramRow(
    "request_duration_seconds",
    "Seconds from the first byte of a request to the last byte of its response.",
    ("endpoint",),
    buckets=_DURATIONS,
)
FIRST_CONTENT = HistogramRow(
    "time_to_first_content_seconds",
    "Seconds from the first byte of a streamed request to the first content sent.",
    ("model",),
    buckets=_ANSWERS,
)
OVERHEAD = HistogramRow(
    "overhead_seconds",
    "Seconds that a request took here, up to the first content of a stream, without waiting for "
    "upstreams and for rate limits. Requests that asked no upstream have none.",
    ("endpoint",),
    buckets=_OVERHEADS,
)
OUTPUT_TOKEN = HistogramRow(
    "output_token_seconds",
    "Seconds between two output tokens of a streamed answer, on average over the answer.",
    ("model",),
    buckets=_PER_TOKEN,
)
TOKENS = CounterRow(
    "tokens", "Tokens reported by upstreams; the kinds do not overlap.", ("model", "kind")
)
UNITS = CounterRow(
    "units",
    "What media requests are charged by beside tokens: images, characters, audio_seconds.",
    ("model", "kind"),
)
CREDITS = CounterRow("credits", "Credits charged, by the model that answered.", ("model",))
CREDIT_REFUSALS = CounterRow(
    "credit_refusals",
    "Requests refused by a limit or for lack of credits: budget_exceeded, insufficient_credits or "
    "rate_limited.",
    ("kind",),
)
THROTTLED = GaugeRow("throttled_requests", "Requests waiting for a rate limit.", mode="livesum")
THROTTLE_WAIT = HistogramRow(
    "throttle_wait_seconds",
    "Seconds that a request waited for a rate limit, if it had to wait.",
    buckets=_WAITS,
)
THROTTLE_REFUSALS = CounterRow(
    "throttle_refusals",
    "Requests that were to wait for a rate limit and were refused: too many wait, or the wait "
    "would be too long.",
)
BODY_BYTES = GaugeRow(
    "request_body_bytes", "Bytes of request bodies held in memory.", mode="livesum"
)
DESCRIPTORS_LEFT = GaugeRow(
    "descriptors_left",
    "File descriptors that a worker can still open; the lowest of all workers.",
    mode="livemin",
)
REFUSED_AT_DOOR = CounterRow(
    "refused_at_door", "Requests refused because file descriptors were used up."
)

# Upstreams

ATTEMPTS = CounterRow(
    "upstream_attempts",
    "Attempts by upstream and response status; 0 means no response.",
    ("upstream", "status"),
)
UPSTREAM_ERRORS = CounterRow(
    "upstream_errors",
    "Attempts that failed, by upstream and kind of problem.",
    ("upstream", "kind"),
)
UPSTREAM_ANSWER = HistogramRow(
    "upstream_answer_seconds",
    "Seconds from the start of the attempt that answered to its first content (stream true) or to "
    "its last byte (stream false), by upstream and model.",
    ("upstream", "model", "stream"),
    buckets=_ANSWERS,
)
CORRECTIONS = CounterRow(
    "upstream_corrections",
    "Corrected requests sent after an upstream refused the first one, within an attempt.",
    ("upstream",),
)
FALLBACKS = CounterRow(
    "fallbacks", "Requests answered by another model than the requested one.", ("model",)
)
BREAKER_STATE = GaugeRow(
    "breaker_state",
    "State of the circuit breaker of a target: 0 closed, 1 half-open, 2 open.",
    ("upstream", "target"),
    mode="livemax",
)
TARGET_BROKEN = GaugeRow(
    "target_broken",
    "1 while the circuit breaker of a target is open, 0 once a request to it was answered. "
    "Replaced by breaker_state.",
    ("upstream", "target"),
    mode="livemax",
)
MODEL_BROKEN = GaugeRow(
    "model_broken",
    "1 while no target of a model may be tried: circuit breakers are open, or upstreams asked to "
    "wait. Models that never failed, and those behind a `*`, have none.",
    ("model",),
    mode="livemax",
)
POOL_CONNECTIONS = GaugeRow(
    "pool_connections",
    "Connections to an upstream by state: idle, or busy with a request.",
    ("upstream", "state"),
    mode="livesum",
)
POOL_WAITING = GaugeRow(
    "pool_waiting",
    "Requests waiting for a connection to an upstream, because `max_connections` are busy.",
    ("upstream",),
    mode="livesum",
)

# Stores and money

LEDGER_ROWS = CounterRow(
    "ledger_rows",
    "Rows written to the ledger, of requests of this process or recovered from a dead one.",
    ("from",),
)
LEDGER_WAITING = GaugeRow(
    "ledger_waiting_rows", "Journal rows that are not in the SQL store yet.", mode="livesum"
)
LEDGER_OLDEST = GaugeRow(
    "ledger_oldest_seconds",
    "Age of the oldest journal row that is not in the SQL store yet; 0 without one.",
    mode="livemax",
)
JOURNAL_UP = GaugeRow(
    "journal_up",
    "1 while the journal can be written, 0 while requests that cost credits are refused.",
    mode="livemin",
)
SQL_UP = GaugeRow(
    "sql_up",
    "1 while the SQL store is the expected one, answers and accepts rows, else 0.",
    mode="livemin",
)
COUNTERS_UP = GaugeRow(
    "counters_up",
    "1 while the shared counters answer, 0 while the policy for their outage applies.",
    mode="livemin",
)
COUNTERS_LOST = CounterRow(
    "counters_lost",
    "Times Redis lost its counters and accounts were restored from the ledger, once per worker "
    "that noticed.",
)
ALERTS = CounterRow(
    "alerts",
    "Alerts about budgets: raised, sent, failed (a try that was not taken) and given_up.",
    ("result",),
)
ANSWERS_REMOVED = CounterRow(
    "answers_removed", "Stored responses deleted because the quota of their owner was full."
)
ANSWERS_NOT_KEPT = CounterRow("answers_not_kept", "Responses that could not be stored.")

# Files, media and jobs

VENDOR_FILES = CounterRow(
    "vendor_files",
    "Copies of files at upstreams, by outcome: uploaded, refused, lost or deleted.",
    ("upstream", "outcome"),
)
FETCHES = CounterRow(
    "fetches", "Files fetched from URLs that callers and upstreams gave, by outcome.", ("outcome",)
)
DESCRIPTIONS = CounterRow(
    "descriptions",
    "Texts made from media for models that do not take them, by kind and outcome.",
    ("kind", "outcome"),
)
DESCRIPTION_HITS = CounterRow("description_cache_hits", "Texts of media that were in the cache.")
STORED_BYTES = GaugeRow(
    "stored_bytes",
    "Bytes of all files, with those being written, at the last sweep.",
    mode="livemax",
)
FILES_SWEPT = CounterRow(
    "files_swept",
    "Files and parts removed by sweeps: expired, deleted or left by a process that died.",
)
MEDIA_DECODED = CounterRow(
    "media_decoded",
    "Tasks of the media sandbox by kind of media and outcome: done, invalid (broken media, or over "
    "a limit), unavailable, missing (no decoder installed) or cancelled.",
    ("kind", "outcome"),
)
MEDIA_WAITING = GaugeRow(
    "media_waiting", "Tasks waiting for a process of the media sandbox.", mode="livesum"
)
JOBS = GaugeRow(
    "jobs",
    "Video and music jobs by state; those in a final state until their webhook was taken.",
    ("state",),
    mode="livemax",
)
JOBS_OVERDUE = GaugeRow(
    "jobs_overdue_seconds",
    "Seconds that the oldest job has waited for a worker to go on with it.",
    mode="livemax",
)
JOB_STEPS = GaugeRow(
    "job_steps", "Jobs that are being submitted, asked about or copied now.", mode="livesum"
)
JOBS_LOST = CounterRow(
    "jobs_lost", "Jobs that failed because no answer to their submission came and none was found."
)

# Dashboard, log and traces

SIGN_INS = CounterRow(
    "sign_ins",
    "Attempts to sign in to the dashboard, by way (key, password, oidc) and result.",
    ("how", "result"),
)
LOG_LINES_DROPPED = CounterRow(
    "log_lines_dropped", "Log lines dropped because they were not read fast enough."
)
SPANS = CounterRow(
    "spans",
    "Spans of traces by result: exported, dropped (the queue was full) or failed (the collector "
    "did not take them).",
    ("result",),
)

# Processes

LOOP_LAG = GaugeRow(
    "loop_lag_seconds",
    "Longest time that a timer of a worker was late within the last 10 s; the worst worker.",
    mode="livemax",
)
CPU_SECONDS = CounterRow("process_cpu_seconds", "Processor time of all workers, user and system.")
RESIDENT_BYTES = GaugeRow(
    "process_resident_bytes", "Resident memory of all workers together.", mode="livesum"
)
WORKER_STARTS = CounterRow(
    "worker_starts", "Worker processes that started, also in place of others that ended."
)
WORKERS_WANTED = GaugeRow("workers_wanted", "Configured worker processes.", mode="livemostrecent")
WORKERS_ALIVE = GaugeRow(
    "workers_alive", "Worker processes that accept connections.", mode="livemostrecent"
)
WORKERS_READY = GaugeRow(
    "workers_ready",
    "Worker processes that accept connections and are ready.",
    mode="livemostrecent",
)
READY = GaugeRow(
    "ready", "1 while /readyz of at least one worker answers 200, else 0.", mode="livemax"
)
WORKER_ENDS = GaugeRow(
    "worker_ends", "Unexpected ends of workers and failed starts.", mode="livemostrecent"
)
WORKER_START_FAILURES = GaugeRow(
    "worker_start_failures",
    "Workers that failed before they accepted connections; part of the worker ends.",
    mode="livemostrecent",
)
CONFIG_HASH = GaugeRow(
    "config_hash",
    "Hash of the configuration file that a worker serves, as a number; label `pid` names the "
    "worker.",
    mode="liveall",
)
BUILD_INFO = GaugeRow(
    "build_info", "1, with the version of the program as label.", ("version",), mode="livemax"
)
CONFIG_RELOADS = CounterRow(
    "config_reloads",
    "Configurations read while serving, by result: applied, refused or unchanged.",
    ("result",),
    maker="parent",
)
CONFIG_VALID = GaugeRow(
    "config_valid",
    "1 while the configuration file is valid, 0 after it was refused.",
    mode="max",
    maker="parent",
)
METRICS_MISSING = GaugeRow(
    "metrics_missing",
    "Values missing from this scrape because the shared memory is full.",
    mode="max",
    maker="scrape",
)


def rows(*makers: Maker) -> Iterator[Row]:
    """The rows of these makers, all without any, in the order of this file."""
    for row in TABLE:
        if not makers or row.maker in makers:
            yield row


TABLE: tuple[Row, ...] = tuple(
    row
    for row in tuple(globals().values())
    if isinstance(row, CounterRow | GaugeRow | HistogramRow)
)
