"""The alerts: when each one fires, how urgent it is, and what its notification says.

They hold for one gateway and for many in one Prometheus: each expression is grouped by `namespace`
and `job`, which need not exist. None fires on an idle gateway, and none divides by zero.
`docs/runbook.md` has a section for each.
"""

from typing import Literal

import msgspec

_GATEWAY = "namespace, job"
_PROCESS = "namespace, job, instance, pod"
_UPSTREAM = "namespace, job, upstream"
_MODEL = "namespace, job, model"


class Alert(msgspec.Struct, frozen=True):
    """One alert rule.

    severity: "critical" needs somebody now, "warning" today. wait: how long the expression must
    hold. summary, description: Go templates of Prometheus, with `$labels` and `$value`.
    """

    name: str
    severity: Literal["critical", "warning"]
    wait: str
    expression: str
    summary: str
    description: str


ALERTS = (
    Alert(
        name="PenstockNoReplicaReady",
        severity="critical",
        wait="1m",
        expression=f"""\
max by ({_GATEWAY}) (max_over_time(penstock_workers_wanted[1d])) > 0
unless on ({_GATEWAY})
sum by ({_GATEWAY}) (penstock_ready) > 0""",
        summary="No process of {{ $labels.job }} is ready.",
        description="No process of {{ $labels.job }} can be scraped, or /readyz of each answers "
        "503. Load balancers send no requests to them.",
    ),
    Alert(
        name="PenstockErrorShare",
        severity="critical",
        wait="10m",
        expression=f"""\
sum by ({_GATEWAY}) (
  rate(penstock_requests_total{{endpoint!="ops",status=~"5.."}}[5m])
  or rate(penstock_requests_total{{endpoint!="ops",outcome="cut"}}[5m])
)
/ (sum by ({_GATEWAY}) (rate(penstock_requests_total{{endpoint!="ops"}}[5m])) > 0.02)
> 0.05""",
        summary="{{ $value | humanizePercentage }} of the requests to {{ $labels.job }} fail.",
        description="For 10 minutes more than 5 % of the requests to {{ $labels.job }} ended with "
        "a status of 500 or more, or were cut after their answer had begun.",
    ),
    Alert(
        name="PenstockFirstContentSlow",
        severity="warning",
        wait="10m",
        expression=f"""\
histogram_quantile(
  0.95, sum by ({_MODEL}, le) (rate(penstock_time_to_first_content_seconds_bucket[10m]))
) > 15
and on ({_MODEL})
sum by ({_MODEL}) (rate(penstock_time_to_first_content_seconds_count[10m])) > 0.02""",
        summary="Streams of {{ $labels.model }} begin late: {{ $value | humanizeDuration }} (p95).",
        description="5 % of the streams of {{ $labels.model }} at {{ $labels.job }} wait for more "
        "than 15 s for their first content.",
    ),
    Alert(
        name="PenstockOverheadHigh",
        severity="warning",
        wait="10m",
        expression=f"""\
histogram_quantile(
  0.99, sum by ({_GATEWAY}, le) (rate(penstock_overhead_seconds_bucket[5m]))
) > 0.05
and on ({_GATEWAY})
sum by ({_GATEWAY}) (rate(penstock_overhead_seconds_count[5m])) > 0.2""",
        summary="{{ $labels.job }} itself adds {{ $value | humanizeDuration }} to requests (p99).",
        description="1 % of the requests to {{ $labels.job }} spend more than 50 ms in the gateway "
        "itself, without the time of upstreams and of rate limits.",
    ),
    Alert(
        name="PenstockAllTargetsOpen",
        severity="critical",
        wait="3m",  # longer than the range: breakers that open once, for seconds, do not count
        expression=f"max by ({_MODEL}) (max_over_time(penstock_model_broken[2m])) > 0",
        summary="No target of {{ $labels.model }} is used.",
        description="The circuit breakers of all targets of {{ $labels.model }} are open in at "
        "least one worker of {{ $labels.job }}. Its requests go to fallbacks, or fail.",
    ),
    Alert(
        name="PenstockUpstreamAuthFailing",
        severity="critical",
        wait="2m",
        expression=f"""\
sum by ({_UPSTREAM}) (rate(penstock_upstream_attempts_total{{status=~"401|403"}}[10m]))
/ (sum by ({_UPSTREAM}) (rate(penstock_upstream_attempts_total[10m])) > 0)
> 0.05
and on ({_UPSTREAM})
sum by ({_UPSTREAM}) (increase(penstock_upstream_attempts_total{{status=~"401|403"}}[10m])) > 2""",
        summary="{{ $labels.upstream }} refuses the key of {{ $labels.job }}.",
        description="{{ $value | humanizePercentage }} of the attempts at {{ $labels.upstream }} "
        "were answered 401 or 403 in the last 10 minutes.",
    ),
    Alert(
        name="PenstockCountersDown",
        severity="critical",
        wait="1m",
        expression=f"min by ({_GATEWAY}) (penstock_counters_up) == 0",
        summary="Redis does not answer {{ $labels.job }}.",
        description="The shared counters of {{ $labels.job }} do not answer. The policy for their "
        "outage applies to rates and budgets.",
    ),
    Alert(
        name="PenstockLedgerLag",
        severity="critical",
        wait="1m",
        expression=f"max by ({_PROCESS}) (penstock_ledger_oldest_seconds) > 60",
        summary="{{ $labels.instance }} has not written its ledger for "
        "{{ $value | humanizeDuration }}.",
        description="Costs of requests wait in the journal of {{ $labels.instance }}, because the "
        "SQL store does not take them. Usage and credits fall behind; nothing is lost while the "
        "journal exists.",
    ),
    Alert(
        name="PenstockLedgerRowsWaiting",
        severity="critical",
        wait="1m",
        expression=f"""\
max by ({_PROCESS}) (last_over_time(penstock_ledger_oldest_seconds[30m])) > 30
unless on ({_PROCESS})
max by ({_PROCESS}) (penstock_ledger_oldest_seconds)""",
        summary="{{ $labels.instance }} is stopping or has ended with costs in its journal only.",
        description="{{ $labels.instance }} accepts no more connections, and at its last scrape "
        "rows had waited in its journal for {{ $value | humanizeDuration }}. They are lost when "
        "its journal is deleted.",
    ),
    Alert(
        name="PenstockConfigRefused",
        severity="warning",
        wait="1m",
        expression=f"min by ({_PROCESS}) (penstock_config_valid) == 0",
        summary="{{ $labels.instance }} refuses its configuration file.",
        description="The configuration file of {{ $labels.instance }} changed and is not valid, or "
        "changes a setting that needs a restart. The previous configuration stays in use.",
    ),
    Alert(
        name="PenstockConfigsDiffer",
        severity="warning",
        wait="15m",
        expression=f"""\
count by ({_GATEWAY}) (count_values by ({_GATEWAY}) ("hash", penstock_config_hash)) > 1""",
        summary="Workers of {{ $labels.job }} run {{ $value }} different configurations.",
        description="For 15 minutes the workers of {{ $labels.job }} have not run the same "
        "configuration file.",
    ),
    Alert(
        name="PenstockThrottleQueueFull",
        severity="warning",
        wait="5m",
        expression=f"sum by ({_GATEWAY}) (rate(penstock_throttle_refusals_total[5m])) > 0",
        summary="{{ $labels.job }} refuses requests that were to wait for a rate limit.",
        description="Requests of plans that throttle are answered 429 at {{ $labels.job }}: too "
        "many wait already, or they would wait for too long.",
    ),
    Alert(
        name="PenstockLoopLag",
        severity="warning",
        wait="5m",
        expression=f"max by ({_PROCESS}) (avg_over_time(penstock_loop_lag_seconds[5m])) > 0.25",
        summary="The event loop of {{ $labels.instance }} is late by "
        "{{ $value | humanizeDuration }}.",
        description="A worker of {{ $labels.instance }} does not get to its work in time: all its "
        "requests and streams wait.",
    ),
    Alert(
        name="PenstockWorkerRestarts",
        severity="warning",
        wait="0m",
        expression=f"sum by ({_PROCESS}) (increase(penstock_worker_ends[30m])) > 2",
        summary="Workers of {{ $labels.instance }} end unexpectedly.",
        description="About {{ $value | humanize }} workers of {{ $labels.instance }} ended "
        "unexpectedly in the last 30 minutes, each with the requests that it served.",
    ),
    Alert(
        name="PenstockPoolWaiting",
        severity="warning",
        wait="5m",
        expression=f"sum by ({_UPSTREAM}) (penstock_pool_waiting) > 0",
        summary="Requests of {{ $labels.job }} wait for connections to {{ $labels.upstream }}.",
        description="{{ $value }} requests wait because all `max_connections` to "
        "{{ $labels.upstream }} are busy.",
    ),
    Alert(
        name="PenstockMemoryGrows",
        severity="warning",
        wait="30m",
        expression=f"""\
max by ({_PROCESS}) (min_over_time(penstock_process_resident_bytes[1h]))
> on ({_PROCESS})
1.5 * max by ({_PROCESS}) (max_over_time(penstock_process_resident_bytes[1h] offset 6h))
+ 268435456""",
        summary="The memory of {{ $labels.instance }} grows: {{ $value | humanize1024 }}B.",
        description="The workers of {{ $labels.instance }} never needed less in the last hour than "
        "one and a half times, and 256 MiB more than, their most of 6 hours ago.",
    ),
)
