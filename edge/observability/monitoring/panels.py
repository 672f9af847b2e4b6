"""The panels of the dashboard: what each one shows, in which unit, and its queries.

Queries hold for the chosen namespaces and jobs together; panels of requests hold for the chosen
models too.
"""

import msgspec

JOB = 'namespace=~"$namespace",job=~"$job"'
MODEL = f'{JOB},model=~"$model"'
_RATE = "[$__rate_interval]"


class Query(msgspec.Struct, frozen=True):
    """One query of a panel. legend: text for each series, with `{{label}}`. exemplars: whether
    single requests are shown as points. unit: another one than the panel's, on the right axis."""

    expression: str
    legend: str
    exemplars: bool = False
    unit: str = ""


class Panel(msgspec.Struct, frozen=True):
    """One graph over time. unit: Grafana's id of it. stacked: whether its series add up.
    highest: upper end of the axis, None for what the values need."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    stacked: bool = False
    highest: float | None = None


class Section(msgspec.Struct, frozen=True):
    """A row with a title, and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


def _rates(metric: str, labels: str, chosen: str, more: str = "") -> str:
    """Increase per second of a counter, by labels."""
    return f"sum by ({labels}) (rate({metric}{{{chosen}{more}}}{_RATE}))"


def _quantile(share: float, histogram: str, chosen: str, by: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {_rates(f'{histogram}_bucket', labels, chosen)})"


def _quantiles(histogram: str, chosen: str) -> tuple[Query, ...]:
    """Median, 95th and 99th percentile of a histogram."""
    return tuple(
        Query(_quantile(share, histogram, chosen), legend, exemplars=share == 0.99)
        for share, legend in ((0.5, "median"), (0.95, "p95"), (0.99, "p99"))
    )


_CALLS = ',endpoint!~"ops|admin|dashboard|unknown"'
"""Requests at the API, not those of operators, visitors and probes."""
_ALL_CALLS = f"(sum(rate(penstock_requests_total{{{MODEL}{_CALLS}}}{_RATE})) > 0)"


def _share(outcome: str) -> str:
    """Share of the requests at the API that have these labels."""
    return f"sum(rate(penstock_requests_total{{{MODEL}{_CALLS},{outcome}}}{_RATE})) / {_ALL_CALLS}"


SECTIONS = (
    Section(
        "Traffic",
        (
            Panel(
                "Requests",
                "Finished requests per second, by endpoint.",
                "reqps",
                (
                    Query(
                        _rates("penstock_requests_total", "endpoint", MODEL, _CALLS), "{{endpoint}}"
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Status",
                "Finished requests per second, by status. A stream that was cut has the status "
                "with which it began.",
                "reqps",
                (Query(_rates("penstock_requests_total", "status", MODEL, _CALLS), "{{status}}"),),
                stacked=True,
            ),
            Panel(
                "Failed requests",
                "Share of the requests that ended with a status of 500 or more, were cut after "
                "their answer had begun, or were refused with 429.",
                "percentunit",
                (
                    Query(_share('status=~"5.."'), "status 5xx"),
                    Query(_share('outcome="cut"'), "cut"),
                    Query(_share('status="429"'), "status 429"),
                ),
            ),
            Panel(
                "Running requests",
                "Requests being served now, and streams among them that have begun.",
                "short",
                (
                    Query(f"sum(penstock_requests_in_flight{{{JOB}}})", "requests"),
                    Query(f"sum(penstock_streams_open{{{JOB}}})", "open streams"),
                ),
            ),
        ),
    ),
    Section(
        "Latency",
        (
            Panel(
                "Time to first content",
                "Time from the first byte of a streamed request to the first content sent.",
                "s",
                _quantiles("penstock_time_to_first_content_seconds", MODEL),
            ),
            Panel(
                "Duration",
                "Time from the first byte of a request to the last byte of its answer, over all "
                "models.",
                "s",
                _quantiles("penstock_request_duration_seconds", f"{JOB}{_CALLS}"),
            ),
            Panel(
                "Time in the gateway",
                "Time that requests spent in the gateway itself, without waiting for upstreams and "
                "for rate limits, over all models.",
                "s",
                _quantiles("penstock_overhead_seconds", JOB),
            ),
            Panel(
                "Time per output token",
                "Average time between two output tokens of a stream; half of the streams of a "
                "model are faster.",
                "s",
                (
                    Query(
                        _quantile(0.5, "penstock_output_token_seconds", MODEL, "model"),
                        "{{model}}",
                    ),
                ),
            ),
        ),
    ),
    Section(
        "Tokens and money",
        (
            Panel(
                "Tokens by kind",
                "Tokens per second that upstreams reported. The kinds do not overlap.",
                "short",
                (Query(_rates("penstock_tokens_total", "kind", MODEL), "{{kind}}"),),
                stacked=True,
            ),
            Panel(
                "Tokens by model",
                "Tokens per second of all kinds, by the model that answered.",
                "short",
                (Query(_rates("penstock_tokens_total", "model", MODEL), "{{model}}"),),
                stacked=True,
            ),
            Panel(
                "Credits per hour",
                "Credits charged per hour, by the model that answered.",
                "short",
                (Query(f"3600 * {_rates('penstock_credits_total', 'model', MODEL)}", "{{model}}"),),
                stacked=True,
            ),
            Panel(
                "Ledger",
                "Age of the oldest cost in a journal that is not in the ledger yet, by instance.",
                "s",
                (
                    Query(
                        f"max by (instance) (penstock_ledger_oldest_seconds{{{JOB}}})",
                        "{{instance}}",
                    ),
                ),
            ),
        ),
    ),
    Section(
        "Upstreams",
        (
            Panel(
                "Attempts",
                "Attempts per second, by upstream and status; status 0 means no answer.",
                "reqps",
                (
                    Query(
                        _rates("penstock_upstream_attempts_total", "upstream, status", JOB),
                        "{{upstream}} {{status}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Failed attempts and fallbacks",
                "Failed attempts per second, by upstream and kind of problem, and requests "
                "answered by another model than the requested one.",
                "reqps",
                (
                    Query(
                        _rates("penstock_upstream_errors_total", "upstream, kind", JOB),
                        "{{upstream}} {{kind}}",
                    ),
                    Query(
                        f"sum(rate(penstock_fallbacks_total{{{MODEL}}}{_RATE}))",
                        "fallbacks to another model",
                    ),
                ),
            ),
            Panel(
                "Upstream latency",
                "95th percentile of the time to the first content of a stream, or to the end of "
                "an answer without one, by upstream.",
                "s",
                (
                    Query(
                        _quantile(
                            0.95, "penstock_upstream_answer_seconds", MODEL, "upstream, stream"
                        ),
                        "{{upstream}}, stream {{stream}}",
                    ),
                ),
            ),
            Panel(
                "Circuit breakers",
                "State of each target: 0 closed, 1 half-open, 2 open; the worst worker. Targets "
                "that never failed are missing.",
                "short",
                (
                    Query(
                        f"max by (upstream, target) (penstock_breaker_state{{{JOB}}})",
                        "{{upstream}}/{{target}}",
                    ),
                ),
                highest=2,
            ),
        ),
    ),
    Section(
        "Limits and queue",
        (
            Panel(
                "Problems",
                "Requests per second that were answered with a problem, by kind.",
                "reqps",
                (Query(_rates("penstock_problems_total", "kind", JOB), "{{kind}}"),),
                stacked=True,
            ),
            Panel(
                "Waiting requests",
                "Requests that wait for a rate limit, or for a connection to an upstream.",
                "short",
                (
                    Query(f"sum(penstock_throttled_requests{{{JOB}}})", "for a rate limit"),
                    Query(
                        f"sum by (upstream) (penstock_pool_waiting{{{JOB}}})",
                        "for a connection to {{upstream}}",
                    ),
                ),
            ),
            Panel(
                "Wait for rate limits",
                "Time that requests of plans that throttle waited for their turn, if they had to.",
                "s",
                _quantiles("penstock_throttle_wait_seconds", JOB),
            ),
            Panel(
                "Upstream connections",
                "Open connections, by upstream and state.",
                "short",
                (
                    Query(
                        f"sum by (upstream, state) (penstock_pool_connections{{{JOB}}})",
                        "{{upstream}} {{state}}",
                    ),
                ),
                stacked=True,
            ),
        ),
    ),
    Section(
        "Processes and stores",
        (
            Panel(
                "Workers",
                "Configured workers, those that accept connections and those that are ready; and "
                "processes of which /readyz answers 200.",
                "short",
                (
                    Query(f"sum(penstock_workers_wanted{{{JOB}}})", "wanted"),
                    Query(f"sum(penstock_workers_alive{{{JOB}}})", "alive"),
                    Query(f"sum(penstock_workers_ready{{{JOB}}})", "ready"),
                    Query(f"sum(penstock_ready{{{JOB}}})", "processes ready"),
                ),
            ),
            Panel(
                "Processor and event loop",
                "Cores in use by the workers of each instance, and by how many seconds a timer of "
                "its worst worker was late.",
                "short",
                (
                    Query(
                        _rates("penstock_process_cpu_seconds_total", "instance", JOB),
                        "{{instance}} cores",
                    ),
                    Query(
                        f"max by (instance) (penstock_loop_lag_seconds{{{JOB}}})",
                        "{{instance}} late by",
                        unit="s",
                    ),
                ),
            ),
            Panel(
                "Memory",
                "Resident memory of the workers of each instance, and request bodies held in it.",
                "bytes",
                (
                    Query(
                        f"sum by (instance) (penstock_process_resident_bytes{{{JOB}}})",
                        "{{instance}}",
                    ),
                    Query(f"sum(penstock_request_body_bytes{{{JOB}}})", "request bodies"),
                ),
            ),
            Panel(
                "Stores",
                "1 while the SQL store, Redis and the journal answer every worker, else 0.",
                "short",
                (
                    Query(f"min(penstock_sql_up{{{JOB}}})", "SQL"),
                    Query(f"min(penstock_counters_up{{{JOB}}})", "Redis, or counters in memory"),
                    Query(f"min(penstock_journal_up{{{JOB}}})", "journal"),
                ),
                highest=1,
            ),
        ),
    ),
)
