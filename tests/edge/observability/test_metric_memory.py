"""Metrics of several processes in shared memory."""

import json
import os
import subprocess
import sys
from fcntl import LOCK_EX, LOCK_UN, lockf
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.observability.metric_memory import lock_file

ROOT = Path(__file__).parents[3]

PREPARE = """
import json, os, signal, sys
import edge.observability.metric_memory as module
module._SLOT = int(os.environ.get("SLOT", module._SLOT))
from edge.observability.metric_memory import MetricMemory
memory = MetricMemory(int(os.environ.get("SLOTS", 6)))
memory.install()
from middlewares import Exchange, Metrics
from edge.observability.reload_metrics import ReloadMetrics
from prometheus_client import generate_latest

def child(work):
    there, here = os.pipe()
    back, say = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            work()
            os.write(say, b"1")
            os.read(there, 1)
        finally:
            os._exit(0)
    os.close(say)
    assert os.read(back, 1) == b"1"
    return pid, here

def end(pid, here):
    os.write(here, b"1")
    os.waitpid(pid, 0)

def kill(pid, here):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

def count(number, flying=0):
    def work():
        metrics = Metrics(source=memory)
        for _ in range(number + flying):
            metrics.began()
        for _ in range(number):
            metrics.finished(Exchange(endpoint="e", catalog_id="m"), 0.0)
        metrics.flush()
    return work

def scrape():
    print(json.dumps(generate_latest(memory).decode()))

def used():
    print(json.dumps(f"used {max(slot.head()[0] for slot in memory._slots)}\\n"))
"""


def run(script: str, **env: str) -> list[dict[str, float]]:
    """What each `scrape()` of a script showed: value by sample name, of those without labels that
    tell more than the endpoint."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREPARE + script],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [_values(json.loads(line)) for line in done.stdout.splitlines()]


def _values(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("le") in (None, "+Inf"):
                name = sample.name
                if "result" in sample.labels:
                    name = f"{name} {sample.labels['result']}"
                found[name] = found.get(name, 0.0) + sample.value
    return found


def test_scrape_several_processes_adds_up() -> None:
    (seen,) = run(
        "a = child(count(3, flying=2)); b = child(count(4, flying=1)); scrape(); end(*a); end(*b)"
    )
    assert seen["penstock_requests_total"] == 7
    assert seen["penstock_requests_in_flight"] == 3
    assert seen["penstock_request_duration_seconds_count"] == 7
    assert seen["penstock_request_duration_seconds_bucket"] == 7
    assert seen["penstock_metrics_missing"] == 0


def test_killed_process_keeps_its_counters_and_loses_its_live_gauges() -> None:
    first, second, third = run(
        "a = child(count(3, flying=2)); b = child(count(4)); scrape(); kill(*a); scrape();"
        "memory.release(a[0]); c = child(count(5, flying=1)); scrape(); end(*b); end(*c)"
    )
    assert first["penstock_requests_in_flight"] == 2
    assert second["penstock_requests_total"] == 7
    assert second["penstock_requests_in_flight"] == 0
    assert third["penstock_requests_total"] == 12
    assert third["penstock_requests_in_flight"] == 1


def test_successor_uses_the_slot_of_a_dead_process() -> None:
    (seen,) = run("for _ in range(20):\n    kill(*child(count(1, flying=1)))\nscrape()", SLOTS="2")
    assert seen["penstock_requests_total"] == 20
    assert "penstock_requests_in_flight" not in seen  # none lives


def test_gauge_of_the_parent_is_shown_by_its_children() -> None:
    (seen,) = run(
        "reloads = ReloadMetrics(); reloads.record('applied', valid=True)\n"
        "a = child(count(1))\n"
        "reloads.record('applied', valid=True); reloads.record('refused', valid=False)\n"
        "b = child(lambda: (count(1)(), scrape(), sys.stdout.flush())); end(*a); end(*b)"
    )
    assert seen["penstock_config_reloads_total applied"] == 2
    assert seen["penstock_config_reloads_total refused"] == 1
    assert seen["penstock_config_valid"] == 0
    assert seen["penstock_requests_total"] == 2


def test_values_without_room_are_counted() -> None:
    (whole,) = run("a = child(count(3)); used(); end(*a)")
    (seen,) = run("a = child(count(3)); scrape(); end(*a)", SLOT=str(int(whole["used"]) - 64))
    assert seen["penstock_metrics_missing"] > 0
    assert seen["penstock_requests_total"] == 3  # it came before the memory was full


def test_process_without_a_slot_counts_for_itself() -> None:
    (seen,) = run("a = child(count(3)); b = child(count(4)); scrape(); end(*a); end(*b)", SLOTS="1")
    assert seen["penstock_requests_total"] == 3


@pytest.mark.parametrize("kind", ["memfd", "file"])
def test_lock_two_kinds_of_file_exclude_each_other(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "file":
        monkeypatch.delattr(os, "memfd_create")
    lock = lock_file()
    try:
        lockf(lock, LOCK_EX)
        other = subprocess.run([sys.executable, "-c", OTHER, str(lock)], pass_fds=(lock,))
        assert other.returncode == 3
        lockf(lock, LOCK_UN)
        other = subprocess.run([sys.executable, "-c", OTHER, str(lock)], pass_fds=(lock,))
        assert other.returncode == 0
    finally:
        os.close(lock)


OTHER = """
import sys
from fcntl import LOCK_EX, LOCK_NB, lockf
try:
    lockf(int(sys.argv[1]), LOCK_EX | LOCK_NB)
except OSError:
    sys.exit(3)
"""
