"""When all objects of a worker are visited for unreachable cycles."""

import subprocess
import sys
from itertools import pairwise
from typing import Any

from edge.runtime.garbage import MIDDLE, YOUNG, FullCollections, resident_bytes

MiB = 1 << 20


class Process:
    """A process as the policy sees it: each attribute is what it is given next."""

    def __init__(self) -> None:
        self.memory = 100 * MiB
        self.aged = 0
        self.now = 0.0
        self.unreachable = 0
        self.visits = 0
        self.policy = FullCollections(
            memory=lambda: self.memory,
            collect=self._collect,
            aged=lambda: self.aged,
            clock=lambda: self.now,
        )

    def _collect(self) -> int:
        self.visits += 1
        return self.unreachable

    def check(self, requests: int, times: int = 1) -> int:
        """Checks in as many seconds; how many visits there have been."""
        for _ in range(times):
            self.now += 1.0
            self.policy.check(requests)
        return self.visits


def test_idle_worker_with_new_objects_is_collected_once() -> None:
    process = Process()
    process.aged = 3
    assert process.check(0) == 0  # a request may follow at once
    assert process.check(0) == 1
    assert process.check(0, times=100) == 1, "nothing has been made since"
    process.aged = 4
    assert process.check(0) == 2


def test_idle_worker_without_new_objects_is_never_collected() -> None:
    assert Process().check(0, times=1000) == 0


def test_busy_worker_that_its_requests_explain_is_never_collected() -> None:
    process = Process()
    for second in range(3600):
        process.aged += 1
        streams = min(20_000, second * 1000)
        process.memory = 100 * MiB + streams * 32_000
        assert process.check(max(1, streams)) == 0


def test_requests_between_two_checks_restart_the_idle_time() -> None:
    process = Process()
    process.aged = 1
    for _ in range(10):
        assert process.check(0) == 0
        assert process.check(1) == 0


def test_busy_worker_that_grows_without_reason_is_collected() -> None:
    process = Process()
    process.check(1000)
    process.memory += 300 * MiB
    assert process.check(1000) == 0, "no object has grown old"
    process.aged = 1
    process.unreachable = 1_000_000
    assert process.check(1000) == 1
    assert process.check(1000, times=100) == 1, "it has not grown since"


def test_fruitless_collections_of_a_busy_worker_become_rare() -> None:
    process = Process()
    visits: list[int] = []
    for second in range(20_000):
        process.aged += 1
        process.memory += 10 * MiB
        if process.check(1000) > len(visits):
            visits.append(second)
    gaps = [after - before for before, after in pairwise(visits)]
    assert len(visits) < 12
    assert gaps == sorted(gaps)
    assert max(gaps) <= 3601


def test_fruitful_collections_of_a_busy_worker_stay_a_minute_apart() -> None:
    process = Process()
    process.unreachable = 1_000_000
    visits: list[int] = []
    for second in range(600):
        process.aged += 1
        process.memory += 10 * MiB
        if process.check(1000) > len(visits):
            visits.append(second)
    assert len(visits) in (9, 10)


def test_resident_bytes_of_this_process_are_plausible() -> None:
    assert 10 * MiB < resident_bytes() < 100_000 * MiB


_SETTLED = """
import gc
from edge.runtime.garbage import FullCollections, keep_start_objects, resident_bytes

class Knot:
    def __init__(self):
        self.own = self

keep_start_objects()
policy = FullCollections(memory=resident_bytes)
passes = []
gc.callbacks.append(lambda phase, info: phase == "stop" and passes.append(info))
kept = [[] for _ in range(200_000)]
for _ in range(50_000):
    Knot()
aged = [Knot() for _ in range(1000)]
more = [[] for _ in range(200_000)]
assert max(info["generation"] for info in passes) == 1, "all objects were visited"
found = sum(info["collected"] for info in passes)
assert found >= 40_000, found
del aged
policy.check(0); policy.check(0)
assert passes[-1]["generation"] == 2 and passes[-1]["collected"] >= 1000, passes[-1]
print(gc.get_threshold())
"""


def test_young_cycles_are_freed_at_once_and_old_ones_in_an_idle_moment() -> None:
    done: Any = subprocess.run(
        [sys.executable, "-c", _SETTLED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"({YOUNG}, {MIDDLE},")
