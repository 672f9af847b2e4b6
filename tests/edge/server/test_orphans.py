"""Reaping orphans. In a process of its own: it must not reap the children of other tests."""

import subprocess
import sys

import pytest

from tests.waiting import DEADLINE

_BEGIN = """
import os
from edge.server.orphans import OrphanReaper

now, known = [0.0], set()
reaper = OrphanReaper(lambda: known, clock=lambda: now[0])

def child():
    pid = os.fork()
    if not pid:
        os._exit(3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid

def reap(*times):
    for now[0] in times:
        reaper.reap()

def left():
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found and found.si_pid
"""

CASES = {
    "no_children_returns": "reap(0, 1, 2)",
    "system_without_waitid_returns": "del os.waitid; reap(0, 1, 2)",
    "child_that_runs_is_left": """
r, w = os.pipe()
pid = os.fork()
if not pid:
    os.close(w)
    os.read(r, 1)
    os._exit(0)
reap(0, 5, 10)
os.close(w)
assert os.waitpid(pid, 0) == (pid, 0)
""",
    "orphan_is_reaped_after_a_second": """
pid = child()
reap(0, 0.5, 0.9)
assert left() == pid
reap(1.0)
try:
    left()
except ChildProcessError:
    pass
else:
    raise AssertionError
""",
    "worker_is_left_to_the_supervisor": """
pid = child()
known.add(pid)
reap(0, 1, 2, 3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
""",
    "two_orphans_are_reaped_one_after_the_other": """
pids = {child(), child()}
reap(0, 1)
assert left() in pids
reap(2, 3)
try:
    left()
except ChildProcessError:
    pass
else:
    raise AssertionError
""",
    "child_that_somebody_waits_for_is_left_to_it": """
pid = child()
reap(0)
os.waitpid(pid, 0)
pid = child()
reap(1, 1.9)
assert os.waitpid(pid, 0)[0] == pid
""",
}


@pytest.mark.parametrize("script", CASES.values(), ids=list(CASES))
def test_reap(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + script], capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stderr
