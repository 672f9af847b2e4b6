"""Probes run at once, each within its time, and none of them holds up the others."""

import asyncio
import itertools
import subprocess
import sys
import threading
from contextlib import suppress

from edge.cli.check.finding import Finding
from edge.cli.check.probe import LONGEST, PATIENCE, Findings, Given, Probe, in_thread, run
from tests.edge.cli.commands import ROOT
from tests.waiting import DEADLINE

QUICK = 0.05


def given(*probes: Probe) -> list[Given]:
    return [Given(("stores",), probe) for probe in probes]


async def good() -> Findings:
    yield Finding("ok", "good", "is there")


async def partly() -> Findings:
    yield Finding("ok", "partly", "the first half")
    await asyncio.Event().wait()


async def broken() -> Findings:
    yield Finding("ok", "broken", "begins", group="clock")
    raise KeyError("why\nsecond line")


async def stubborn() -> Findings:
    yield Finding("ok", "stubborn", "begins")
    for _ in itertools.count():
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


def test_run_keeps_what_each_probe_found() -> None:
    found = run(
        given(
            Probe("good", good),
            Probe("partly", partly, patience=QUICK),
            Probe("broken", broken),
        )
    )
    assert [(one.group, one.state, one.what, one.detail) for one in found] == [
        ("stores", "ok", "good", "is there"),
        ("stores", "ok", "partly", "the first half"),
        ("stores", "error", "partly", "no answer within 0.05 s"),
        ("clock", "ok", "broken", "begins"),
        ("stores", "error", "broken", "cannot be checked: KeyError: 'why\\nsecond line'"),
    ]
    assert run([]) == []


def test_run_all_at_once() -> None:
    """Two that wait for each other both end."""
    met = threading.Barrier(2)

    async def meets() -> Findings:
        await in_thread(met.wait)
        yield Finding("ok", "met", "")

    both = (Probe("a", meets, patience=DEADLINE), Probe("b", meets, patience=DEADLINE))
    assert [one.state for one in run(given(*both))] == ["ok", "ok"]


def test_probe_that_cannot_be_stopped_is_left_behind() -> None:
    """In a process of its own, which ends although a task and a thread go on."""
    script = f"""
import threading
from tests.edge.cli.check.test_probe import *

async def stuck():
    await in_thread(threading.Event().wait)
    yield Finding("ok", "never", "")

import edge.cli.check.probe as probe
probe.LONGEST = probe.PATIENCE + 0.2
found = run(given(Probe("good", good), Probe("stubborn", stubborn, patience={QUICK}),
                  Probe("stuck", stuck, patience={QUICK})))
print([(one.what, one.state) for one in found])
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.split("\n")[0] == (
        "[('good', 'ok'), ('stubborn', 'ok'), ('stubborn', 'error'), ('stuck', 'error')]"
    ), ran.stderr
    assert ran.stderr == ""
    assert ran.returncode == 0


def test_times_leave_room_for_the_start_within_ten_seconds() -> None:
    assert PATIENCE == 3.0
    assert PATIENCE < LONGEST <= 7.0
