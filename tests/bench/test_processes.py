"""CPU time and memory of a tree of real processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bench import processes

BUSY_CHILD = """
import subprocess, sys, time
burn = "import time\\nwhile time.process_time() < 0.1: pass"
subprocess.run([sys.executable, "-c", burn], check=True)
print("reaped", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY_CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_cpu_time_of_children_already_reaped_is_counted(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "reaped\n"
    assert processes.cpu_ns(child.pid) >= 90_000_000


def test_cpu_time_of_this_process_is_that_of_its_clock() -> None:
    before = time.process_time_ns()
    found = processes.cpu_ns(os.getpid())
    assert found >= before


def test_children_are_in_the_tree(child: subprocess.Popen[str]) -> None:
    found = {process.pid for process in processes.tree(os.getpid())}
    assert {os.getpid(), child.pid} <= found


def test_memory_is_that_of_the_tree(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    child.stdout.readline()
    alone, both = processes.memory_kib(child.pid), processes.memory_kib(os.getpid())
    assert 0 < alone["pss"] <= alone["rss"] < both["rss"]


def test_usage_of_no_process_is_zero() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert processes.tree(gone.pid) == []
    assert processes.cpu_ns(gone.pid) == 0
