"""Load on one target, in a process and on a core of its own; prints one JSON object.

    python -m bench.load '{"phase": "streams", "target": {"url": …, "model": …}, "pid": …, …}'

A phase starts its connections, lets them settle, then opens a measuring window: between its two
ends the CPU time of the process tree `pid` is read, and what was received is counted. Every reply
is checked against what was asked for; a result with errors is no result.

    saturate    plain requests, each connection sends the next when it has its answer
    rate        plain requests, `rate` per second over the connections
    streams     one long stream per connection, `rate` events per second each; `behind` tells
                that the target could not keep up, and then the ends are not waited for
    first       short streams one after another on each connection: times to first token
    hold        streams that hardly speak, all open at once: memory
    bodies      conversations that grow, one per connection (`bench.large`)
    beside      streams beside one connection whose conversation grows (`bench.large`)
"""

import asyncio
import gc
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import msgspec
import uvloop

from . import large
from .client import Connection, Expected, Reply
from .fleet import KEEPS_UP, Fleet, Job
from .processes import allow_many_files, memory_kib

_PLAIN_TOKENS = 20
_SETTLE = 0.5
_DEADLINE = 60.0


def _chain(
    fleet: Fleet, connection: Connection, request: bytes, expected: Expected
) -> Callable[[], None]:
    """Send `request` again and again on `connection`, until an answer is wrong."""

    def done(reply: Reply) -> None:
        if fleet.take(reply) and connection.alive:
            connection.send(request, expected, done)

    return lambda: connection.send(request, expected, done)


async def saturate(fleet: Fleet) -> dict[str, Any]:
    """Closed loop: as many requests as there are connections are always on their way."""
    for number, connection in enumerate(fleet.connections):
        _chain(fleet, connection, *fleet.job.target.request(number, tokens=_PLAIN_TOKENS))()
    return await _window(fleet)


async def rate(fleet: Fleet) -> dict[str, Any]:
    """Open loop: a request when it is due, on whichever connection is free."""
    job, loop = fleet.job, asyncio.get_running_loop()
    free = [
        (connection, *job.target.request(number, tokens=_PLAIN_TOKENS))
        for number, connection in enumerate(fleet.connections)
    ]
    began, sent = loop.time(), 0

    def go() -> None:
        nonlocal sent
        due = int((loop.time() - began) * job.rate)
        while sent < due and free:  # else late: sent when a connection is free again
            sent += 1
            one = free.pop(0)
            connection, request, expected = one

            def done(reply: Reply, one: Any = one) -> None:
                if fleet.take(reply):
                    free.append(one)

            connection.send(request, expected, done)
        timer[0] = loop.call_later(max(0.001, 1 / job.rate), go)

    timer: list[asyncio.Handle] = [loop.call_soon(go)]
    try:
        return await _window(fleet)
    finally:
        timer[0].cancel()


async def _window(fleet: Fleet) -> dict[str, Any]:
    await asyncio.sleep(fleet.job.warmup)
    fleet.open_window()
    await asyncio.sleep(fleet.job.window)
    return fleet.close_window()


async def streams(fleet: Fleet) -> dict[str, Any]:
    """One stream per connection, begun evenly over a second; measured while all are running."""
    job = fleet.job
    begin = job.warmup
    tokens = round(job.rate * (begin + 3 * _SETTLE + job.window))
    ended = await _one_each(fleet, tokens=tokens, over=begin)
    await asyncio.sleep(_SETTLE)
    fleet.open_window()
    await asyncio.sleep(job.window)
    result = fleet.close_window()
    if ended.done() or result["requests"]:
        raise SystemExit("streams ended inside the measuring window")
    due = job.connections * job.rate * result["seconds"]
    behind = result["events"] < KEEPS_UP * due
    if not behind:
        await asyncio.wait_for(ended, _DEADLINE)
    return {**result, "behind": behind}


async def first(fleet: Fleet) -> dict[str, Any]:
    """Streams of half a second in turn on each connection, out of step with each other."""
    job = fleet.job
    tokens = max(1, round(job.rate / 2))
    for number, connection in enumerate(fleet.connections):
        start = _chain(fleet, connection, *job.target.request(number, tokens=tokens, rate=job.rate))
        start()
        await asyncio.sleep(0.5 / len(fleet.connections))
    return await _window(fleet)


async def hold(fleet: Fleet) -> dict[str, Any]:
    """Open all streams, read memory before and when each has its first token, see them end."""
    job = fleet.job
    before = memory_kib(job.pid) if job.pid else {}
    ended = await _one_each(
        fleet, tokens=round(job.rate * (job.window + job.warmup)), over=job.warmup
    )
    fleet.open_window()
    held = memory_kib(job.pid) if job.pid else {}
    early = ended.done()
    await asyncio.wait_for(ended, _DEADLINE)
    if early:
        raise SystemExit("streams ended before all were open")
    return {**fleet.close_window(), "memory_before_kib": before, "memory_kib": held}


async def _one_each(fleet: Fleet, *, tokens: int, over: float) -> "asyncio.Future[None]":
    """Begin one stream per connection, evenly over `over` seconds, and wait until each has said
    something. The future is done when all have ended."""
    job, loop = fleet.job, asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    left = len(fleet.connections)

    def done(reply: Reply) -> None:
        nonlocal left
        fleet.take(reply)
        left -= 1
        if not left and not ended.done():
            ended.set_result(None)

    began = perf_counter()
    for number, connection in enumerate(fleet.connections):
        pause = began + over * number / len(fleet.connections) - perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        connection.send(*job.stream(number, tokens), done)
    deadline = perf_counter() + _DEADLINE
    while not fleet.faults and any(connection.silent for connection in fleet.connections):
        if perf_counter() > deadline:
            raise SystemExit("a stream had no first token in a minute")
        await asyncio.sleep(0.005)
    return ended


async def run(job: Job) -> dict[str, Any]:
    """One phase from connect to close."""
    fleet = Fleet(job)
    if job.phase != "bodies":  # its callers have connections of their own
        await fleet.connect()
    gc.collect()
    gc.disable()
    phases = {
        "saturate": saturate,
        "rate": rate,
        "streams": streams,
        "first": first,
        "hold": hold,
        "bodies": large.bodies,
        "beside": large.beside,
    }
    try:
        result = await phases[job.phase](fleet)
    finally:
        fleet.close()
    return {"phase": job.phase, "faults": fleet.faults, "errors": fleet.errors, **result}


def main() -> None:
    """Run the job given as the only argument."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    allow_many_files()
    if job.core is not None:
        os.sched_setaffinity(0, {job.core})
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(job))) + b"\n")


if __name__ == "__main__":
    main()
