"""Phases of the load generator with the conversations of coding agents.

bodies: each connection has a conversation of its own, whose first request no subject has seen; all
later ones repeat it and add a turn. When all have ended, each connection begins another. The
subject's CPU time is read when all connections are silent, so that of first requests and of later
ones are known separately.

beside: streams, and one connection that sends requests with large bodies at a rate. The time
between events is noted first without that connection, then with a conversation that grows, then
with another conversation in each request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count, islice
from time import perf_counter
from typing import Any, cast

from .client import Connection, Expected, Reply
from .fleet import KEEPS_UP, Fleet, percentiles
from .growing import SIZES, Conversation, Dialect
from .processes import cpu_ns
from .provider import order

_TOKENS = 20
_TRAILS = 0.05
"""Seconds after the last answer in which a subject may still work for it: log, ledger."""
_DEADLINE = 30.0
_LONGEST = 8.0
"""Seconds after which the slowest subjects get no further request of a conversation."""
_SETTLE = 1.0
CALLS = 5.0
"""Requests a second of the one connection that sends large bodies."""


class Caller:
    """Sends the requests of conversations on one connection, and awaits each answer."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet = fleet
        self._connection: Connection
        self._numbers = count(number, step=1000)
        self._words = (f"canary-{number:03d}{each:06d}-yranac" for each in count())
        self._requests: Iterator[tuple[bytes, Expected]] = iter(())

    async def connect(self) -> None:
        """Open the connection; servers close one that is silent for long."""
        host, port = self._fleet.job.target.address
        _, self._connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(lambda _: None), host, port
        )

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def begin(self) -> None:
        """Another conversation."""
        self._requests = self._conversation()

    def prepare(self, requests: int, *, conversations: bool = False) -> None:
        """Make so many requests now. conversations: each begins one, else all are of one."""
        if conversations:
            self._requests = iter([next(self._conversation()) for _ in range(requests)])
        else:
            self._requests = iter(list(islice(self._conversation(), requests)))

    def _conversation(self) -> Iterator[tuple[bytes, Expected]]:
        target = self._fleet.job.target
        size, dialect = SIZES[self._fleet.job.size], cast("Dialect", target.dialect)
        conversation = Conversation(dialect, target.model, size, next(self._numbers))
        words = list(islice(self._words, size.turns + 1))
        requests = conversation.requests(order(word, _TOKENS) for word in words)
        for word, (body, marks) in zip(words, requests, strict=True):
            holds = f"marks-{marks}.".encode()
            yield target.post(body), Expected(word.encode(), _TOKENS, b"}", holds)

    async def ask(self) -> bool:
        """Send the next request; False when there is none or the answer is wrong."""
        found = next(self._requests, None)
        if found is None:
            return False
        if not self._connection.alive:
            self._fleet.note("the connection was closed between two requests")
            return False
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._connection.send(*found, answered.set_result)
        try:
            return self._fleet.take(await asyncio.wait_for(answered, _DEADLINE))
        except TimeoutError:
            raise SystemExit(f"no answer in {_DEADLINE:.0f} s") from None

    async def rest(self, until: float) -> None:
        """Send all further requests, or those up to a time of perf_counter."""
        while perf_counter() < until and await self.ask():
            pass

    async def paced(self, rate: float, seconds: float) -> float:
        """Send requests when they are due, or as fast as they are answered; how many per second."""
        began, sent = perf_counter(), 0
        while sent < rate * seconds and perf_counter() < began + 2 * seconds:
            await asyncio.sleep(max(0.0, began + sent / rate - perf_counter()))
            if not await self.ask():
                break
            sent += 1
        return sent / max(seconds, perf_counter() - began)


class Meter:
    """CPU time of the subject for so many requests."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.cpu_us = 0.0
        self.requests = 0
        self.seconds = 0.0

    async def add(self, work: Awaitable[Any]) -> None:
        """Wait until it is done and the subject silent; add what it cost."""
        pid = self._fleet.job.pid
        done, began = self._fleet.done, perf_counter()
        used = cpu_ns(pid) if pid else 0
        await work
        self.seconds += perf_counter() - began
        await asyncio.sleep(_TRAILS)
        self.cpu_us += ((cpu_ns(pid) if pid else 0) - used) / 1000
        self.requests += self._fleet.done - done


async def bodies(fleet: Fleet) -> dict[str, Any]:
    """Conversations in turns until the window is over, at least one on each connection."""
    job = fleet.job
    callers = [Caller(fleet, number) for number in range(job.connections)]
    for caller in callers:
        await caller.connect()
    first, later = Meter(fleet), Meter(fleet)
    began, warm = perf_counter(), False
    while not fleet.faults and (not warm or perf_counter() - began < job.window):
        for caller in callers:
            caller.begin()
        if not warm:  # connections, buffers and code paths that the first conversation opens
            await asyncio.gather(*(caller.ask() for caller in callers))
            await asyncio.sleep(_TRAILS)
            for caller in callers:
                caller.begin()
            warm, began = True, perf_counter()
        await first.add(asyncio.gather(*(caller.ask() for caller in callers)))
        until = perf_counter() + _LONGEST
        await later.add(asyncio.gather(*(caller.rest(until) for caller in callers)))
    for caller in callers:
        caller.close()
    return {
        "first_us": first.cpu_us / max(1, first.requests),
        "firsts": first.requests,
        "later_us": later.cpu_us / max(1, later.requests),
        "laters": later.requests,
        "later_s": later.seconds,
    }


class Gaps:
    """Time between the events of streams."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._measuring = False
        self._found: list[float] = []
        self._events = 0

    def listener(self) -> Callable[[int], None]:
        """To be called with the number of events of each piece of one stream."""
        last = 0.0

        def heard(events: int) -> None:
            nonlocal last
            if not events:
                return
            now = self._clock()
            if last and self._measuring:
                self._found.append(now - last)
                self._events += events
            last = now

        return heard

    async def during(self, work: Awaitable[Any]) -> dict[str, Any]:
        """Percentiles of the gaps while it is awaited, its result, and the events per second."""
        self._found, self._events, self._measuring = [], 0, True
        began = perf_counter()
        result = await work
        self._measuring = False
        rate = self._events / (perf_counter() - began)
        return {**percentiles(self._found), "rate": rate, "result": result}


async def beside(fleet: Fleet) -> dict[str, Any]:
    """Streams alone, beside a conversation that grows, and beside one that is always another."""
    job = fleet.job
    gaps = Gaps()
    growing, changing = Caller(fleet, 0), Caller(fleet, 1)
    requests = round(CALLS * job.window)
    growing.prepare(requests + 1)
    changing.prepare(requests, conversations=True)
    seconds = job.warmup + 3 * _SETTLE + 7 * job.window
    ended = 0

    def over(reply: Reply) -> None:
        nonlocal ended
        ended += 1
        fleet.take(reply)

    for number, each in enumerate(fleet.connections):
        each.listen(gaps.listener())
        each.send(*job.stream(number, round(seconds * job.rate)), over)
        await asyncio.sleep(job.warmup / len(fleet.connections))
    await asyncio.sleep(_SETTLE)
    alone = await gaps.during(asyncio.sleep(job.window))
    due = job.rate * len(fleet.connections)
    found: dict[str, Any] = {"alone": alone, "behind": alone["rate"] < KEEPS_UP * due}
    if not found["behind"]:
        await growing.connect()
        await growing.ask()
        found["grown"] = await gaps.during(growing.paced(CALLS, job.window))
        await asyncio.sleep(_SETTLE)
        await changing.connect()
        found["unseen"] = await gaps.during(changing.paced(CALLS, job.window))
    if ended and not fleet.faults:
        raise SystemExit("streams ended inside the measuring window")
    return found
