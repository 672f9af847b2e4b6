"""Limits that let wait: whose turn it is, who has to give way, and what a disconnect leaves behind.

Time is simulated: ten minutes of it take a second or two, and nothing sleeps.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import uvloop

from middlewares import Exchange, HeaderStampMiddleware, RateLimitMiddleware, rate_limit_headers
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.disconnects import ClientDisconnected
from middlewares.limits import Limits, Rate
from middlewares.rate_limit.throttle_queue import QueueFull, ThrottleQueue
from middlewares.stores.counters.base import Check, TeamClaim, Verdict
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.errors import CountersUnavailable
from tests.asgi import Call, http_scope
from tests.simulated import simulate, unix

from .apps import Gate, SlowCounters, as_principal, ok, slots_of, status_of

pytestmark = pytest.mark.simulated_time

FOREVER = 1e9
"""Seconds of simulated time, for a driver that would otherwise lose its patience."""
SECOND = Limits(requests=Rate(1, 1.0), on_excess="throttle")


def throttled(
    app: ASGIApp,
    counters: MemoryCounters,
    limits: Limits = SECOND,
    queue: ThrottleQueue | None = None,
    **options: Any,
) -> ASGIApp:
    """`app` inside a limiter of the path, which stands for the principal."""
    limit = RateLimitMiddleware(
        app, counters=counters, limits=lambda _: limits, queue=queue, clock=unix, **options
    )
    stamp = HeaderStampMiddleware(limit, stamp=lambda it: rate_limit_headers(it, clock=unix))
    return as_principal(stamp)


def elapsed() -> float:
    return asyncio.get_running_loop().time()


class Log:
    """An app that notes who came through, and when."""

    def __init__(self) -> None:
        self.came: list[tuple[float, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.came.append((round(elapsed(), 1), scope["path"]))
        await ok(scope, receive, send)


async def waiting(line: ThrottleQueue, count: int) -> None:
    """Until so many stand in the line."""
    for _ in range(1000):
        if len(line) == count:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"{len(line)} wait, not {count}")


async def settled() -> None:
    """Until everything has happened that can without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


# Turns


def test_what_is_too_much_comes_through_at_its_rate_in_its_order() -> None:
    async def main() -> None:
        log, line = Log(), ThrottleQueue()
        app = throttled(log, MemoryCounters(), queue=line)
        async with asyncio.TaskGroup() as group:
            tasks = []
            for n in range(5):
                tasks.append(group.create_task(status_of(app, query=b"%d" % n)))
                await settled()
        assert [task.result() for task in tasks] == [200] * 5
        assert [when for when, _ in log.came] == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert len(line) == line.size == 0

    simulate(main())


def test_requests_of_one_principal_keep_their_order() -> None:
    """Also when there is room at the moment somebody new comes."""

    async def main() -> None:
        came: list[bytes] = []

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            came.append(scope["query_string"])
            await ok(scope, receive, send)

        app = throttled(inner, MemoryCounters())
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(status_of(app, query=b"%d" % n))
                await asyncio.sleep(0.1 if n % 3 else 1.0)
        assert came == [b"%d" % n for n in range(20)]

    simulate(main())


def test_principals_take_turns() -> None:
    """Three with as much to ask for get through in rotation, however they came."""

    async def main() -> None:
        log, line = Log(), ThrottleQueue()
        app = throttled(log, MemoryCounters(), queue=line)
        for who in "abc":
            await status_of(app, f"/{who}")
        async with asyncio.TaskGroup() as group:
            for who in "aaabbbccc":
                group.create_task(status_of(app, f"/{who}"))
                await settled()
        turns = "".join(path[1:] for _, path in log.came)
        assert turns == "abc" * 4

    simulate(main())


def test_nine_do_not_notice_a_greedy_tenth() -> None:
    """One at fifty times its rate: no other is refused or waits, and it gets its rate exactly."""

    async def main() -> None:
        counters, line = MemoryCounters(), ThrottleQueue()
        limits = Limits(requests=Rate(60, 60.0, 10), on_excess="throttle")
        app = throttled(ok, counters, limits, line)
        outcomes: dict[str, Counter[int]] = {f"/{n}": Counter() for n in range(10)}
        waited: dict[str, float] = dict.fromkeys(outcomes, 0.0)
        times: list[float] = []

        async def one(who: str) -> None:
            began = elapsed()
            status = await status_of(app, who)
            outcomes[who][status] += 1
            waited[who] = max(waited[who], elapsed() - began)
            if who == "/0" and status == 200:
                times.append(elapsed())

        async def client(group: asyncio.TaskGroup, who: str, count: int, pause: float) -> None:
            for n in range(count):
                await asyncio.sleep(max(0.0, n * pause - elapsed()))
                group.create_task(one(who))

        async with asyncio.TaskGroup() as group:
            group.create_task(client(group, "/0", 600 * 50, 0.02))
            for n in range(1, 10):
                group.create_task(client(group, f"/{n}", 600, 1.0))
        for who in list(outcomes)[1:]:
            assert outcomes[who] == {200: 600}
            assert waited[who] == 0.0
        assert outcomes["/0"].total() == 30_000
        assert outcomes["/0"][429] > 0
        within = [when for when in times if when < 600.0]
        assert abs(len(within) - (70 + 599)) <= 1
        assert 0.0 < waited["/0"] <= 30.1
        assert len(line) == line.size == 0

    simulate(main())


def test_tokens_let_wait_as_well() -> None:
    async def main() -> None:
        log = Log()
        limits = Limits(tokens=Rate(100, 100.0), on_excess="throttle")
        app = throttled(log, MemoryCounters(), limits, tokens=lambda it: int(it.request_id))

        async def ask(tokens: int) -> int:
            state = {"penstock.exchange": Exchange(request_id=str(tokens))}
            return await status_of(app, "/", state=state)

        async with asyncio.TaskGroup() as group:
            for tokens in (100, 5, 20, 1):
                group.create_task(ask(tokens))
                await settled()
        assert [when for when, _ in log.came] == [0.0, 5.0, 25.0, 26.0]

    simulate(main())


def test_a_slot_goes_to_who_waits_when_it_is_given_back() -> None:
    async def main() -> None:
        counters, line, gates = MemoryCounters(), ThrottleQueue(), [Gate() for _ in range(4)]
        limits = Limits(concurrency=1, on_excess="throttle")

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            await gates[int(scope["query_string"])](scope, receive, send)

        app = throttled(inner, counters, limits, line)
        async with asyncio.TaskGroup() as group:
            for n in range(4):
                group.create_task(status_of(app, query=b"%d" % n))
                await settled()
            for n in range(4):
                await asyncio.sleep(0.3)  # less than the pace at which the counters are asked
                assert [gate.inside for gate in gates] == [int(m == n) for m in range(4)]
                assert await slots_of(counters) == 1
                gates[n].open.set()
                await settled()
        assert await slots_of(counters) == len(line) == 0

    simulate(main())


def test_a_slot_that_another_process_gives_back_is_found() -> None:
    async def main() -> None:
        counters, line = MemoryCounters(), ThrottleQueue()
        app = throttled(ok, counters, Limits(concurrency=1, on_excess="throttle"), line)
        assert (await counters.admit("key:/", (), slots=1, lease="there", now=unix())).admitted
        task = asyncio.create_task(status_of(app))
        await asyncio.sleep(3.5)
        assert len(line) == 1
        counters.release("key:/", "there")
        began = elapsed()
        assert await task == 200
        assert elapsed() - began <= 1.1

    simulate(main())


class LateCounters(MemoryCounters):
    """Counters whose answer about a slot is out of date when it comes."""

    in_process = False

    def __init__(self) -> None:
        super().__init__()
        self.refused = asyncio.Event()
        self.go_on = asyncio.Event()

    async def admit(
        self,
        who: str,
        checks: Sequence[Check],
        *,
        slots: int = 0,
        lease: str = "",
        now: float | None = None,
        team: TeamClaim | None = None,
    ) -> Verdict:
        verdict = await super().admit(who, checks, slots=slots, lease=lease, now=now, team=team)
        if not verdict.admitted:
            self.refused.set()
            await self.go_on.wait()
        return verdict


@pytest.mark.parametrize("standing", [False, True], ids=["newcomer", "first of the line"])
def test_a_slot_given_back_while_the_counters_answer_is_not_missed(standing: bool) -> None:
    async def main() -> None:
        counters, gate, line = LateCounters(), Gate(), ThrottleQueue()
        app = throttled(gate, counters, Limits(concurrency=1, on_excess="throttle"), line)
        first = asyncio.create_task(status_of(app))
        await gate.came.wait()
        if standing:
            counters.go_on.set()
        second = asyncio.create_task(status_of(app))
        await counters.refused.wait()
        if standing:
            await waiting(line, 1)
            counters.go_on.clear()
            counters.refused.clear()
            await counters.refused.wait()  # it has asked again by itself
        gate.open.set()
        assert await first == 200
        began = elapsed()
        counters.go_on.set()
        assert await second == 200
        assert elapsed() == began

    simulate(main())


# Hanging up, and being cancelled


def test_disconnect_while_waiting_takes_nothing() -> None:
    async def main() -> None:
        log, line, counters = Log(), ThrottleQueue(), MemoryCounters()
        app = throttled(log, counters, queue=line)
        assert await status_of(app) == 200
        async with (
            Call(app, http_scope("POST"), timeout=FOREVER) as leaves,
            Call(app, http_scope("POST"), timeout=FOREVER) as stays,
        ):
            await waiting(line, 2)
            before = elapsed()
            leaves.hang_up()
            await leaves.done()
            assert elapsed() == before
            assert len(line) == 1
            assert not leaves.record.messages
            assert Exchange.of(leaves.scope).outcome == "hung_up"
            await stays.done()
        assert log.came == [(0.0, "/"), (1.0, "/")]

    simulate(main())


def test_disconnect_while_the_counters_answer_gives_back_what_was_taken() -> None:
    async def main() -> None:
        line, counters, log = ThrottleQueue(), SlowCounters(), Log()
        limits = Limits(Rate(1, 1.0), Rate(1000, 10.0), concurrency=3, on_excess="throttle")
        app = throttled(log, counters, limits, line, tokens=lambda _: 10)
        assert await status_of(app) == 200
        async with Call(app, timeout=FOREVER) as call:
            await waiting_in(line, counters)
            call.hang_up()
            await call.done()
            assert Exchange.of(call.scope).outcome == "hung_up"
        assert await slots_of(counters) == len(line) == 0
        rates = [Check("requests", Rate(1, 1.0)), Check("tokens", Rate(1000, 10.0))]
        levels, _ = await counters.levels("key:/", rates, now=unix())
        assert [level.remaining for level in levels] == [1, 1000]
        assert len(log.came) == 1

    async def waiting_in(line: ThrottleQueue, counters: SlowCounters) -> None:
        """Until the one in the line asks again."""
        while not len(line):
            await asyncio.sleep(0.001)
        counters.asked.clear()
        await counters.asked.wait()

    simulate(main())


@pytest.mark.parametrize("how", ["hang up", "cancel"])
def test_a_storm_while_waiting_leaves_no_trace(how: str) -> None:
    """BerriAI/litellm#27955: a client that cancels its speculative request, at every turn."""

    async def main() -> None:
        line, counters = ThrottleQueue(), SlowCounters()
        limits = Limits(Rate(100, 10.0), concurrency=2, on_excess="throttle")

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await asyncio.sleep(0.35)
            await ok(scope, receive, send)

        app = throttled(inner, counters, limits, line)
        ended: Counter[str] = Counter()

        async def one(n: int) -> None:
            async with Call(app, http_scope("POST", f"/{n % 5}"), timeout=FOREVER) as call:
                await asyncio.sleep((n * 37 % 200) / 100)
                ended[f"{'done' if not call.running else 'under way'}"] += 1
                if how == "cancel":
                    await call.cancel()
                else:
                    call.hang_up()
                    await call.ended()

        async with asyncio.TaskGroup() as group:
            for n in range(400):
                group.create_task(one(n))
                await asyncio.sleep(0.01)
        assert min(ended.values()) > 20
        assert len(line) == line.size == 0
        assert not any(line.has_waiting(f"key:/{n}") for n in range(5))
        for n in range(5):
            assert await slots_of(counters, f"key:/{n}") == 0
        await settled()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left
        assert await status_of(app, "/0") == 200

    simulate(main())


def test_shutdown_while_waiting() -> None:
    """Every task is cancelled at once, as `asyncio.run` does at its end."""

    async def main() -> None:
        line, counters = ThrottleQueue(), MemoryCounters()
        app = throttled(ok, counters, queue=line)
        calls = [asyncio.create_task(hold(app)) for _ in range(10)]
        await waiting(line, 9)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait(calls)
        assert len(line) == line.size == 0
        assert await status_of(app, "/other") == 200

    async def hold(app: ASGIApp) -> None:
        async with Call(app, timeout=FOREVER) as call:
            await call.done()

    simulate(main())


def test_counters_that_fail_while_somebody_waits() -> None:
    class Failing(MemoryCounters):
        in_process = False

        failing = False

        async def admit(self, *args: Any, **options: Any) -> Verdict:
            if self.failing:
                raise CountersUnavailable("gone")
            return await super().admit(*args, **options)

    async def main() -> None:
        line, counters = ThrottleQueue(), Failing()
        app = throttled(ok, counters, queue=line)
        assert await status_of(app) == 200
        tasks = [asyncio.create_task(status_of(app)) for _ in range(3)]
        await waiting(line, 3)
        counters.failing = True
        assert [await task for task in tasks] == [503] * 3
        assert len(line) == 0

    simulate(main())


# What the inner app still receives


def test_a_body_read_ahead_is_the_apps_to_read() -> None:
    async def main() -> None:
        got: list[Any] = []

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            while True:
                got.append(await receive())
                if not got[-1].get("more_body"):
                    break
            await ok(scope, receive, send)
            got.append(await receive())

        line = ThrottleQueue()
        app = throttled(inner, MemoryCounters(), queue=line)
        assert await status_of(throttled(ok, MemoryCounters(), queue=line)) == 200
        async with Call(app, body=b"first", timeout=FOREVER) as first:
            await first.started()
            first.hang_up()
            await first.done()
        got.clear()
        async with Call(app, body=None, timeout=FOREVER) as call:
            sent = [call.feed(b"a", more=True), call.feed(b"b", more=True)]
            await waiting(line, 1)
            await call.received_all()
            await asyncio.sleep(1.5)  # it is through by now, and waits for the rest
            assert len(line) == 0
            sent.append(call.feed(b"c"))
            await call.started()
            call.hang_up()
            await call.done()
        assert [message.get("body") for message in got] == [b"a", b"b", b"c", None]
        assert all(ours is theirs for ours, theirs in zip(got, sent, strict=False))
        assert got[-1]["type"] == "http.disconnect"

    simulate(main())


def test_only_so_much_is_read_ahead() -> None:
    """Beyond it nothing listens; what was read is not lost."""

    async def main() -> None:
        sizes: list[int] = []

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            while True:
                message = await receive()
                sizes.append(len(message["body"]))
                if not message["more_body"]:
                    break
            await ok(scope, receive, send)

        line = ThrottleQueue()
        app = throttled(inner, MemoryCounters(), queue=line)
        chunks = [b"x" * (300 << 10)] * 9
        async with Call(app, body=chunks, timeout=FOREVER) as first:
            await first.done()
        sizes.clear()
        async with Call(app, body=chunks, timeout=FOREVER) as call:
            await waiting(line, 1)
            await settled()
            assert len(call.received) == 4
            await call.done()
        assert sizes == [300 << 10] * 9

    simulate(main())


def test_what_receive_raises_reaches_the_app() -> None:
    async def main() -> None:
        async def broken() -> Any:
            raise ConnectionResetError("gone")

        raised: list[BaseException] = []

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await receive()
            except ConnectionResetError as error:
                raised.append(error)

        async def send(message: Any) -> None:
            raise AssertionError("nothing is sent")

        app = throttled(inner, MemoryCounters())
        for _ in range(2):
            await app(http_scope("POST"), broken, send)
        assert [str(error) for error in raised] == ["gone", "gone"]

    simulate(main())


# Bounds


async def full(line: ThrottleQueue, who: str, check: Check, size: int = 0) -> float:
    """The `Retry-After` of a request that finds no place."""
    with pytest.raises(QueueFull) as refused:
        line.join(who, (check,), size=size, verdict=reported(1.0))
    return refused.value.wait


def reported(wait: float, lacking: str = "requests") -> Verdict:
    return Verdict(admitted=False, levels=(), wait=wait, lacking=lacking)


CHECK = Check("requests", Rate(10, 10.0))


def test_so_many_of_one_principal() -> None:
    async def main() -> None:
        line = ThrottleQueue(max_per_subject=3)
        places = [line.join("a", (CHECK,), verdict=reported(1.0)) for _ in range(3)]
        assert await full(line, "a", CHECK) == pytest.approx(4.0)
        line.join("b", (CHECK,), verdict=reported(1.0)).close()
        places[1].close()
        line.join("a", (CHECK,)).close()
        for place in places:
            place.close()
        assert len(line) == 0

    simulate(main())


def test_request_that_would_wait_too_long_is_refused_at_once() -> None:
    async def main() -> None:
        limits = Limits(requests=Rate(6, 60.0), on_excess="throttle")
        line = ThrottleQueue(max_wait=30.0)
        app = throttled(ok, MemoryCounters(), limits, line)
        assert [await status_of(app) for _ in range(6)] == [200] * 6
        tasks = [asyncio.create_task(status_of(app)) for _ in range(3)]
        await waiting(line, 3)
        began = elapsed()
        async with Call(app, timeout=FOREVER) as call:
            await call.done()
        assert elapsed() == began
        assert (call.status, call.header("retry-after")) == (429, "40")
        assert call.header("x-ratelimit-remaining") == "0"
        assert "limit 6 per minute. Please try again in 40s." in call.record.text
        assert [await task for task in tasks] == [200] * 3
        assert elapsed() == pytest.approx(began + 30.0, abs=0.1)

    simulate(main())


def test_patience_ends_where_the_prediction_was_wrong() -> None:
    """Another process serves the same principal, and takes what this one waits for."""

    async def main() -> None:
        counters, line = MemoryCounters(), ThrottleQueue(max_wait=5.0)
        app = throttled(ok, counters, queue=line)
        assert await status_of(app) == 200
        tasks = [asyncio.create_task(status_of(app)) for _ in range(3)]
        await waiting(line, 3)
        counters.charge("key:/", Check("requests", Rate(1, 1.0), 600), unix())
        assert [await task for task in tasks] == [429] * 3
        assert elapsed() == pytest.approx(5.0, abs=0.01)
        assert len(line) == 0

    simulate(main())


def test_patience_ends_for_who_waits_for_a_slot() -> None:
    async def main() -> None:
        counters, gate, line = MemoryCounters(), Gate(), ThrottleQueue(max_wait=5.0)
        app = throttled(gate, counters, Limits(concurrency=1, on_excess="throttle"), line)
        first = asyncio.create_task(status_of(app))
        await gate.came.wait()
        assert await status_of(app) == 429
        assert elapsed() == pytest.approx(5.0, abs=0.01)
        gate.open.set()
        assert await first == 200

    simulate(main())


def test_where_the_line_is_full_the_greediest_gives_way() -> None:
    async def main() -> None:
        line = ThrottleQueue(max_total=6)
        turns = []
        for _ in range(5):
            place = line.join("greedy", (CHECK,), verdict=reported(3.0))
            turns.append(asyncio.create_task(place.wait_turn(never)))
        other = line.join("b", (CHECK,), verdict=reported(3.0))
        await settled()
        newcomer = line.join("c", (CHECK,), verdict=reported(3.0))
        await settled()
        assert [turn.done() for turn in turns] == [False] * 4 + [True]
        refused = turns[4].exception()
        assert isinstance(refused, QueueFull)
        assert refused.wait == pytest.approx(7.0)  # the first in 3 s, and one second for each
        assert await full(line, "greedy", CHECK) == pytest.approx(7.0)
        more = [line.join(who, (CHECK,), verdict=reported(3.0)) for who in "de"]
        await settled()
        assert [turn.done() for turn in turns] == [False] * 2 + [True] * 3
        assert len(line) == 6
        assert await full(line, "b", CHECK) > 0.0  # as many as the greediest has
        last = line.join("f", (CHECK,), verdict=reported(3.0))
        await settled()
        assert await full(line, "g", CHECK) == pytest.approx(1.0)  # all have one
        assert line.refusals == 7  # four that waited, and three that found no place
        for turn in turns:
            turn.cancel()
        await asyncio.wait(turns)
        for place in (other, newcomer, *more, last):
            place.close()
        assert len(line) == 0

    async def never() -> Verdict:
        raise AssertionError("no turn comes")

    simulate(main())


def test_so_many_bytes_are_held() -> None:
    async def main() -> None:
        line = ThrottleQueue(max_bytes=1000)
        big = line.join("big", (CHECK,), size=700, verdict=reported(1.0))
        turn = asyncio.create_task(big.wait_turn(never))
        more = asyncio.create_task(line.join("big", (CHECK,), size=200).wait_turn(never))
        await settled()
        assert await full(line, "small", CHECK, size=1001) == pytest.approx(1.0)
        assert await full(line, "other", CHECK, size=950) > 0.0  # it would have the most
        small = line.join("small", (CHECK,), size=100, verdict=reported(1.0))
        assert (line.size, len(line)) == (1000, 3)
        tiny = line.join("tiny", (CHECK,), size=1, verdict=reported(1.0))
        await settled()
        assert (line.size, more.done(), turn.done()) == (801, True, False)
        assert isinstance(more.exception(), QueueFull)
        assert line.refusals == 3
        turn.cancel()
        await asyncio.wait((turn,))
        small.close()
        tiny.close()
        assert line.size == 0

    async def never() -> Verdict:
        raise AssertionError("no turn comes")

    simulate(main())


def test_who_is_about_to_leave_the_line_does_not_give_way() -> None:
    async def main() -> None:
        line, answered = ThrottleQueue(max_bytes=1000), asyncio.Event()

        async def ask() -> Verdict:
            await answered.wait()
            return Verdict(admitted=True, levels=())

        turn = asyncio.create_task(
            line.join("a", (CHECK,), size=900, verdict=reported(1.0)).wait_turn(ask)
        )
        await asyncio.sleep(2)
        assert await full(line, "b", CHECK, size=200) > 0.0
        answered.set()
        assert (await turn).admitted
        line.join("b", (CHECK,), size=200, verdict=reported(1.0)).close()

    simulate(main())


def test_who_moves_up_has_the_time_of_its_own() -> None:
    """The first would have had to give up before its turn; it left, and the second need not."""

    async def main() -> None:
        log, counters, line = Log(), MemoryCounters(), ThrottleQueue(max_wait=5.0)
        app = throttled(log, counters, queue=line)
        assert await status_of(app) == 200
        async with Call(app, timeout=FOREVER) as first:
            await waiting(line, 1)
            counters.charge("key:/", Check("requests", Rate(1, 1.0), 5), unix())
            await asyncio.sleep(3)
            second = asyncio.create_task(status_of(app))
            await waiting(line, 2)
            await asyncio.sleep(1)
            first.hang_up()
            await first.done()
        assert await second == 200
        assert log.came == [(0.0, "/"), (6.0, "/")]

    simulate(main())


def test_a_body_counts_by_its_announced_length() -> None:
    async def main() -> None:
        counters, line = MemoryCounters(), ThrottleQueue(max_bytes=3 << 20)
        app = throttled(ok, counters, queue=line)
        assert await status_of(app) == 200
        sizes = []
        tasks = []
        for length in (b"1000", None, b"many"):
            headers = [] if length is None else [(b"content-length", length)]
            tasks.append(asyncio.create_task(status_of(app, headers=headers)))
            await settled()
            sizes.append(line.size)
        assert sizes == [1000, 1000 + (1 << 20), 1000 + (2 << 20)]
        assert await status_of(app, headers=[(b"content-length", b"2000000")]) == 429
        assert [await task for task in tasks] == [200] * 3
        assert line.size == 0

    simulate(main())


def test_a_place_that_was_left_is_no_place() -> None:
    async def main() -> None:
        line = ThrottleQueue()
        place = line.join("a", (CHECK,), verdict=reported(1.0))
        place.disconnect()
        place.disconnect()
        assert len(line) == 0
        with pytest.raises(ClientDisconnected):
            await place.wait_turn(never)
        assert len(line) == 0

    async def never() -> Verdict:
        raise AssertionError("no turn comes")

    simulate(main())


def test_the_timetable_of_a_storm_stays_small() -> None:
    """Those who join and leave at once leave nothing that grows."""

    async def main() -> None:
        line = ThrottleQueue()
        kept = line.join("kept", (CHECK,), verdict=reported(20.0))
        for n in range(10_000):
            line.join(f"{n}", (CHECK,), verdict=reported(20.0)).disconnect()
        assert len(line) == 1
        assert len(line._timetable) < 200
        kept.close()
        assert not line._timetable
        assert line._timer is None

    simulate(main())


@pytest.mark.parametrize("name", ["max_per_subject", "max_total", "max_bytes", "max_wait"])
def test_bounds_are_more_than_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} 0: expected more than 0"):
        ThrottleQueue(**{name: 0})


def test_queues_whose_turn_is_now_are_admitted_on_the_loop_of_the_server() -> None:
    """uvloop gives no timer, but a handle without a time, for what is due at once."""
    occupied = Verdict(False, (), 5.0, "concurrency")

    async def ask() -> Verdict:
        return Verdict(True, ())

    async def run() -> list[Verdict]:
        queue = ThrottleQueue()
        entries = [queue.join(f"key:{n % 3}", [], size=0, verdict=occupied) for n in range(6)]
        waiting = [asyncio.ensure_future(entry.wait_turn(ask)) for entry in entries]
        await asyncio.sleep(0)
        for n in range(3):
            queue.slot_released(f"key:{n}")
        return await asyncio.gather(*waiting)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert all(verdict.admitted for verdict in runner.run(run()))
