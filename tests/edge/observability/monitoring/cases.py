"""For each alert series that make it fire, and series that come close and do not.

Values are written as promtool takes them: `0+6x30` is 0, 6, 12 and so on, one each scrape; `_` is a
scrape that failed, `stale` the end of a series.
"""

from collections.abc import Mapping

import msgspec

GATEWAY = {"namespace": "llm", "job": "gw"}
PROCESS = {**GATEWAY, "instance": "10.0.0.1:8080", "pod": "gw-1"}


class Case(msgspec.Struct, frozen=True):
    """One alert over some series.

    at: minutes after the first scrape at which alerts are compared. labels: those of the firing
    alert, without its severity; None if it must not fire. value: how its text shows `$value`.
    every: minutes between scrapes.
    """

    name: str
    alert: str
    series: Mapping[str, str]
    at: int
    labels: Mapping[str, str] | None = None
    value: str = ""
    every: int = 1


def _labels(**labels: str) -> str:
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


def of(metric: str, *, instance: str = "10.0.0.1:8080", pod: str = "gw-1", **labels: str) -> str:
    """A series of a process, as a scrape stores it."""
    given = {name.rstrip("_"): value for name, value in labels.items()}
    return f"penstock_{metric}{{{_labels(**GATEWAY, instance=instance, pod=pod, **given)}}}"


def second(metric: str, **labels: str) -> str:
    """A series of another process of the same gateway."""
    return of(metric, instance="10.0.0.2:8080", pod="gw-2", **labels)


def requests(status: str, outcome: str, endpoint: str = "chat.completions") -> str:
    return of("requests_total", endpoint=endpoint, model="m", status=status, outcome=outcome)


def buckets(
    metric: str, below: float, above: float, slow: int, fast: int, **labels: str
) -> dict[str, str]:
    """A histogram: so many observations a minute are below a bound, the others above it."""
    total = slow + fast
    return {
        of(f"{metric}_bucket", le=f"{below}", **labels): f"0+{fast}x60",
        of(f"{metric}_bucket", le=f"{above}", **labels): f"0+{total}x60",
        of(f"{metric}_bucket", le="+Inf", **labels): f"0+{total}x60",
        of(f"{metric}_count", **labels): f"0+{total}x60",
    }


def attempts(status: str) -> str:
    return of("upstream_attempts_total", upstream="far", status=status)


FIRST = "time_to_first_content_seconds"

CASES = (
    Case(
        "all_processes_unready_fires",
        "PenstockNoReplicaReady",
        {
            of("workers_wanted"): "2x60",
            second("workers_wanted"): "2x60",
            of("ready"): "1x10 0x50",
            second("ready"): "1x20 0x40",
        },
        30,
        GATEWAY,
    ),
    Case(
        "all_targets_gone_fires",
        "PenstockNoReplicaReady",
        {of("workers_wanted"): "2x10 stale", of("ready"): "1x10 stale"},
        90,
        GATEWAY,
    ),
    Case(
        "one_of_two_replicas_ready_does_not_fire",
        "PenstockNoReplicaReady",
        {
            of("workers_wanted"): "2x60",
            second("workers_wanted"): "2x10 stale",
            of("ready"): "1x60",
            second("ready"): "1x10 stale",
        },
        30,
    ),
    Case(
        "eight_percent_failed_or_cut_fires",
        "PenstockErrorShare",
        {
            requests("200", "completed"): "0+92x60",
            requests("503", "refused"): "0+5x60",
            requests("200", "cut"): "0+2x60",
            requests("502", "cut"): "0+1x60",
        },
        30,
        GATEWAY,
        "8%",
    ),
    Case(
        "four_percent_failed_and_many_refused_does_not_fire",
        "PenstockErrorShare",
        {
            requests("200", "completed"): "0+96x60",
            requests("429", "refused"): "0+500x60",
            requests("503", "refused"): "0+4x60",
            requests("503", "completed", "ops"): "0+600x60",
        },
        30,
    ),
    Case(
        "one_failure_on_an_idle_gateway_does_not_fire",
        "PenstockErrorShare",
        {requests("200", "completed"): "0x60", requests("502", "failed"): "0x20 1x40"},
        22,
    ),
    Case(
        "a_short_outage_does_not_fire",
        "PenstockErrorShare",
        {requests("200", "completed"): "0+100x60", requests("502", "failed"): "0x20 0+50x3 150x40"},
        26,
    ),
    Case(
        "one_in_ten_after_fifteen_seconds_fires",
        "PenstockFirstContentSlow",
        buckets(FIRST, 15.0, 30.0, 2, 18, model="m"),
        40,
        {**GATEWAY, "model": "m"},
        "22.5s",
    ),
    Case(
        "one_in_forty_does_not_fire",
        "PenstockFirstContentSlow",
        buckets(FIRST, 15.0, 30.0, 1, 39, model="m"),
        40,
    ),
    Case(
        "no_requests_do_not_fire",
        "PenstockFirstContentSlow",
        buckets(FIRST, 15.0, 30.0, 0, 0, model="m"),
        40,
    ),
    Case(
        "two_percent_above_the_bound_fires",
        "PenstockOverheadHigh",
        buckets("overhead_seconds", 0.05, 0.1, 2, 98, endpoint="messages"),
        40,
        GATEWAY,
        "75ms",
    ),
    Case(
        "half_a_percent_above_does_not_fire",
        "PenstockOverheadHigh",
        buckets("overhead_seconds", 0.05, 0.1, 1, 199, endpoint="messages"),
        40,
    ),
    Case(
        "few_slow_requests_do_not_fire",
        "PenstockOverheadHigh",
        buckets("overhead_seconds", 0.05, 0.1, 2, 2, endpoint="messages"),
        40,
    ),
    Case(
        "all_breakers_of_a_model_open_fires",
        "PenstockAllTargetsOpen",
        {
            of("model_broken", model="m"): "0x5 1x60",
            second("model_broken", model="m"): "0x60",
            of("model_broken", model="other"): "0x60",
        },
        20,
        {**GATEWAY, "model": "m"},
    ),
    Case(
        "a_breaker_that_closed_again_does_not_fire",
        "PenstockAllTargetsOpen",
        {of("model_broken", model="m"): "0x5 1 0x60"},
        9,
    ),
    Case(
        "every_fifth_attempt_refused_fires",
        "PenstockUpstreamAuthFailing",
        {attempts("200"): "0+8x60", attempts("401"): "0+1x60", attempts("403"): "0+1x60"},
        20,
        {**GATEWAY, "upstream": "far"},
        "20%",
    ),
    Case(
        "every_hundredth_attempt_refused_does_not_fire",
        "PenstockUpstreamAuthFailing",
        {attempts("200"): "0+99x60", attempts("403"): "0+1x60"},
        20,
    ),
    Case(
        "one_refused_attempt_does_not_fire",
        "PenstockUpstreamAuthFailing",
        {attempts("200"): "0+1x60", attempts("403"): "0x10 1x50"},
        15,
    ),
    Case(
        "one_worker_without_redis_fires",
        "PenstockCountersDown",
        {of("counters_up"): "1x10 0x50", second("counters_up"): "1x60"},
        20,
        GATEWAY,
    ),
    Case(
        "redis_back_at_once_does_not_fire",
        "PenstockCountersDown",
        {of("counters_up"): "1x10 0 1x50"},
        11,
    ),
    Case(
        "rows_wait_for_minutes_fires",
        "PenstockLedgerLag",
        {of("ledger_oldest_seconds"): "0x10 0+60x50", second("ledger_oldest_seconds"): "0x60"},
        14,
        PROCESS,
        "3m 0s",
    ),
    Case(
        "rows_wait_for_half_a_minute_does_not_fire",
        "PenstockLedgerLag",
        {of("ledger_oldest_seconds"): "30x60"},
        20,
    ),
    Case(
        "a_process_that_ended_with_old_rows_fires",
        "PenstockLedgerRowsWaiting",
        {of("ledger_oldest_seconds"): "0x10 0+60x5 stale", second("ledger_oldest_seconds"): "0x60"},
        20,
        PROCESS,
        "5m 0s",
    ),
    Case(
        "a_process_that_ended_with_new_rows_does_not_fire",
        "PenstockLedgerRowsWaiting",
        {of("ledger_oldest_seconds"): "0x10 1x5 stale"},
        20,
    ),
    Case(
        "a_process_that_came_back_does_not_fire",
        "PenstockLedgerRowsWaiting",
        {of("ledger_oldest_seconds"): "0x5 120x5 stale 0x60"},
        20,
    ),
    Case(
        "a_refused_file_fires",
        "PenstockConfigRefused",
        {of("config_valid"): "1x10 0x50", second("config_valid"): "1x60"},
        20,
        PROCESS,
    ),
    Case(
        "a_valid_file_does_not_fire",
        "PenstockConfigRefused",
        {of("config_valid"): "1x10 0 1x50"},
        30,
    ),
    Case(
        "two_configurations_for_long_fires",
        "PenstockConfigsDiffer",
        {
            of("config_hash", pid="7"): "4711x60",
            of("config_hash", pid="8"): "4711x60",
            second("config_hash", pid="7"): "4711x10 4712x60",
        },
        40,
        GATEWAY,
        "2",
    ),
    Case(
        "a_roll_out_does_not_fire",
        "PenstockConfigsDiffer",
        {
            of("config_hash", pid="7"): "4711x20 4712x60",
            second("config_hash", pid="7"): "4711x10 4712x60",
        },
        25,
    ),
    Case(
        "refusals_for_minutes_fires",
        "PenstockThrottleQueueFull",
        {of("throttle_refusals_total"): "0+3x60"},
        20,
        GATEWAY,
    ),
    Case(
        "requests_that_wait_do_not_fire",
        "PenstockThrottleQueueFull",
        {of("throttle_refusals_total"): "7x60", of("throttled_requests"): "90x60"},
        20,
    ),
    Case(
        "a_worker_late_for_minutes_fires",
        "PenstockLoopLag",
        {of("loop_lag_seconds"): "0.01x10 0.5x50", second("loop_lag_seconds"): "0.01x60"},
        30,
        PROCESS,
        "500ms",
    ),
    Case(
        "a_worker_late_once_does_not_fire",
        "PenstockLoopLag",
        {of("loop_lag_seconds"): "0.01x10 5 0.01x50"},
        12,
    ),
    Case(
        "five_ends_in_half_an_hour_fires",
        "PenstockWorkerRestarts",
        {of("worker_ends"): "0x10 0+1x5 5x50"},
        30,
        PROCESS,
        "5",
    ),
    Case(
        "one_end_does_not_fire",
        "PenstockWorkerRestarts",
        {of("worker_ends"): "0x10 1x60"},
        30,
    ),
    Case(
        "requests_wait_for_minutes_fires",
        "PenstockPoolWaiting",
        {
            of("pool_waiting", upstream="far"): "2x60",
            second("pool_waiting", upstream="far"): "1x60",
        },
        20,
        {**GATEWAY, "upstream": "far"},
        "3",
    ),
    Case(
        "requests_wait_now_and_then_does_not_fire",
        "PenstockPoolWaiting",
        {of("pool_waiting", upstream="far"): "2x3 0 2x3 0 2x3 0 2x3 0 2x3 0 2x3"},
        20,
    ),
    Case(
        "memory_tripled_in_hours_fires",
        "PenstockMemoryGrows",
        {of("process_resident_bytes"): "300000000+20000000x60"},
        540,
        PROCESS,
        "1.173Gi",
        every=10,
    ),
    Case(
        "memory_after_the_start_does_not_fire",
        "PenstockMemoryGrows",
        {of("process_resident_bytes"): "100000000+10000000x20 300000000x40"},
        540,
        every=10,
    ),
    Case(
        "a_peak_of_bodies_does_not_fire",
        "PenstockMemoryGrows",
        {of("process_resident_bytes"): "300000000x50 900000000x2 300000000x10"},
        530,
        every=10,
    ),
)
