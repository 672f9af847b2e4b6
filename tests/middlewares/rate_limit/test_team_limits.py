"""Limits of teams beside those of their keys: what is refused, what waits, and whose turn it is.

Time is simulated; nothing sleeps.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest

from middlewares import (
    Exchange,
    HeaderStampMiddleware,
    Principal,
    Problem,
    RateLimitMiddleware,
    rate_limit_headers,
)
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import Team, Usage
from middlewares.limits import Limits, Rate
from middlewares.rate_limit.throttle_queue import QueueFull, ThrottleQueue
from middlewares.stores.counters.base import Check, TeamClaim, Verdict
from middlewares.stores.counters.memory import MemoryCounters
from tests.asgi import Call, Recorded, http_scope, request
from tests.simulated import simulate, unix

from .apps import Gate, SlowCounters, ok, slots_of, status_of

pytestmark = pytest.mark.simulated_time

FOREVER = 1e9
WIDE = Limits(requests=Rate(1000, 1.0))


def member(app: ASGIApp, **exchange: Any) -> ASGIApp:
    """What stands around a limiter: `/red/a` is the key `a` of the team `red`; `/a` has none."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        found = Exchange.of(scope)
        team, _, key = scope["path"][1:].rpartition("/")
        found.principal = Principal(key, team=Team(team) if team else None)
        for name, value in exchange.items():
            setattr(found, name, value)
        await app(scope, receive, send)

    return outer


def limited(
    app: ASGIApp,
    counters: MemoryCounters,
    team: Limits,
    own: Limits | dict[str, Limits] | None = WIDE,
    **options: Any,
) -> ASGIApp:
    """`app` inside a limiter. own: by key, or of all."""

    def own_of(exchange: Exchange) -> Limits | None:
        assert exchange.principal is not None
        return own.get(exchange.principal.id) if isinstance(own, dict) else own

    def team_of(exchange: Exchange) -> tuple[str, Limits] | None:
        assert exchange.principal is not None and exchange.principal.team is not None
        return f"team:{exchange.principal.team.id}", team

    limit = RateLimitMiddleware(
        app, counters=counters, limits=own_of, team=team_of, clock=unix, **options
    )
    return HeaderStampMiddleware(limit, stamp=lambda it: rate_limit_headers(it, clock=unix))


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def elapsed() -> float:
    return asyncio.get_running_loop().time()


class Log:
    """An app that notes who came through, and when."""

    def __init__(self) -> None:
        self.came: list[tuple[float, str]] = []

    @property
    def keys(self) -> str:
        return "".join(path[-1] for _, path in self.came)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.came.append((round(elapsed(), 1), scope["path"]))
        await ok(scope, receive, send)


# Refusals


def test_refusal_says_that_the_limit_is_of_the_team() -> None:
    async def main() -> None:
        counters = MemoryCounters()
        app = member(limited(ok, counters, Limits(requests=Rate(2, 60.0))))
        assert [await status_of(app, f"/red/{key}") for key in "ab"] == [200, 200]
        refused = await request(app, "POST", "/red/c")
        assert refused.status == 429
        assert refused.header("retry-after") == "30"
        assert refused.json()["error"]["message"] == (
            "Rate limit reached for requests of your team: limit 2 per minute. Please try again"
            " in 30s."
        )
        assert Exchange.of(refused.scope).reason == "no requests of team:red left for 30.000 s"
        assert await status_of(app, "/blue/a") == 200
        assert await status_of(app, "/a") == 200

    simulate(main())


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(tokens=Rate(100, 60.0)), "tokens of your team: limit 100 per minute"),
        (Limits(concurrency=1), "concurrent requests of your team: limit 1 at once"),
    ],
)
def test_refusal_names_tokens_and_slots_of_the_team(limits: Limits, text: str) -> None:
    async def main() -> None:
        gate = Gate()
        app = member(limited(gate, MemoryCounters(), limits), estimate=80)
        async with asyncio.TaskGroup() as group:
            group.create_task(status_of(app, "/red/a"))
            await settled()
            refused = await request(app, "POST", "/red/b")
            gate.open.set()
        assert refused.status == 429
        assert f"Rate limit reached for {text}." in refused.json()["error"]["message"]

    simulate(main())


def test_refusal_for_the_key_takes_nothing_of_the_team() -> None:
    async def main() -> None:
        counters = MemoryCounters()
        own = {"a": Limits(requests=Rate(1, 60.0)), "b": WIDE}
        app = member(limited(ok, counters, Limits(requests=Rate(5, 60.0)), own))
        assert [await status_of(app, "/red/a") for _ in range(9)] == [200] + [429] * 8
        refused = await request(app, "POST", "/red/a")
        assert "reached for requests: limit 1 per minute" in refused.json()["error"]["message"]
        assert [await status_of(app, "/red/b") for _ in range(5)] == [200] * 4 + [429]

    simulate(main())


def test_team_limits_hold_for_keys_without_limits() -> None:
    async def main() -> None:
        counters = MemoryCounters()
        app = member(limited(ok, counters, Limits(requests=Rate(2, 60.0)), own=None))
        assert [await status_of(app, f"/red/{key}") for key in "abc"] == [200, 200, 429]
        assert [await status_of(app, "/c") for _ in range(5)] == [200] * 5

    simulate(main())


@pytest.mark.parametrize("make", [MemoryCounters, SlowCounters])
def test_headers_show_what_leaves_less(make: type[MemoryCounters]) -> None:
    async def main() -> None:
        own = Limits(requests=Rate(10, 60.0), tokens=Rate(400, 60.0))
        team = Limits(requests=Rate(11, 60.0), tokens=Rate(500, 60.0))
        app = member(limited(ok, make(), team, own), estimate=100)

        def shown(got: Recorded) -> tuple[int, str | None, str | None]:
            return (
                got.status,
                got.header("x-ratelimit-limit"),
                got.header("x-ratelimit-limit-tokens"),
            )

        assert shown(await request(app, "POST", "/red/a")) == (200, "10", "400")
        assert shown(await request(app, "POST", "/red/b")) == (200, "10", "400")
        assert shown(await request(app, "POST", "/red/c")) == (200, "11", "500")
        last = await request(app, "POST", "/red/c")
        assert last.header("x-ratelimit-remaining") == "7"
        assert last.header("x-ratelimit-remaining-tokens") == "100"

    simulate(main())


# What is given back


def test_both_get_back_what_an_inner_limiter_refuses() -> None:
    async def main() -> None:
        counters = MemoryCounters()
        inner = RateLimitMiddleware(
            ok,
            counters=counters,
            limits=lambda _: None,
            team=lambda _: ("team:red", Limits(tokens=Rate(100, 60.0))),
            clock=unix,
        )
        outer = limited(
            inner,
            counters,
            Limits(requests=Rate(10, 60.0), concurrency=3),
            Limits(requests=Rate(20, 60.0), concurrency=3),
            refund_refused=True,
        )
        app = member(outer, estimate=60)
        assert [await status_of(app, "/red/a") for _ in range(30)] == [200] + [429] * 29
        for who, rate in (("key:a", Rate(20, 60.0)), ("team:red", Rate(10, 60.0))):
            (level,), slots = await counters.levels(who, [Check("requests", rate, 0)], now=unix())
            assert (level.remaining, slots) == (rate.count - 1, 0)

    simulate(main())


@pytest.mark.parametrize(("usage", "used"), [(Usage(250, 150), 400), (None, 100)])
def test_both_are_charged_the_tokens_that_were_used(usage: Usage | None, used: int) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).usage = usage
        await ok(scope, receive, send)

    async def main() -> None:
        counters = MemoryCounters()
        own, team = Rate(1000, 60.0), Rate(2000, 60.0)
        app = member(
            limited(inner, counters, Limits(tokens=team), Limits(tokens=own)), estimate=100
        )
        assert await status_of(app, "/red/a") == 200
        assert await status_of(app, "/red/b") == 200
        for who, rate, times in (("key:a", own, 1), ("key:b", own, 1), ("team:red", team, 2)):
            (level,), _ = await counters.levels(who, [Check("tokens", rate, 0)], now=unix())
            assert level.remaining == rate.count - times * used

    simulate(main())


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem("upstream_error")


def test_both_get_back_the_tokens_of_a_request_that_failed() -> None:
    async def main() -> None:
        counters = MemoryCounters()
        limits = Limits(tokens=Rate(1000, 60.0), concurrency=1)
        app = member(limited(failing, counters, limits, limits), estimate=100)
        for _ in range(20):
            with pytest.raises(Problem):
                await status_of(app, "/red/a")
        for who in ("key:a", "team:red"):
            check = Check("tokens", Rate(1000, 60.0), 0)
            (level,), slots = await counters.levels(who, [check], now=unix())
            assert (level.remaining, slots) == (1000, 0)

    simulate(main())


@pytest.mark.parametrize("make", [MemoryCounters, SlowCounters])
def test_slots_of_both_return_after_a_storm_of_cancellations(make: type[MemoryCounters]) -> None:
    async def main() -> None:
        counters, line = make(), ThrottleQueue()
        limits = Limits(concurrency=3, on_excess="throttle")

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(1)
            await ok(scope, receive, send)

        app = member(limited(slow, counters, limits, limits, queue=line))

        async def one(n: int) -> None:
            async with Call(app, http_scope("POST", f"/red/{n % 5}"), timeout=FOREVER) as call:
                await asyncio.sleep((n * 7 % 40) / 10)
                await call.cancel()

        async with asyncio.TaskGroup() as group:
            for n in range(100):
                group.create_task(one(n))
        await settled()
        assert await slots_of(counters, "team:red") == 0
        assert [await slots_of(counters, f"key:{n}") for n in range(5)] == [0] * 5
        assert len(line) == line.size == 0
        assert not line._lines

    simulate(main())


# Turns

PATIENT = Limits(requests=Rate(1, 1.0), on_excess="throttle")


def test_keys_of_a_team_take_turns() -> None:
    async def main() -> None:
        log, line = Log(), ThrottleQueue()
        app = member(limited(log, MemoryCounters(), PATIENT, queue=line))
        async with asyncio.TaskGroup() as group:
            for key in "aaaabbc":
                group.create_task(status_of(app, f"/red/{key}"))
                await settled()
        assert log.keys == "aabcaba"
        assert [when for when, _ in log.came] == [float(n) for n in range(7)]
        assert len(line) == 0
        assert not line._lines

    simulate(main())


def test_newcomer_of_a_team_does_not_pass_those_who_wait() -> None:
    """Keys that ask all the time, at the very moment the rate has something, starve no other."""

    async def main() -> None:
        log = Log()
        line = ThrottleQueue(max_wait=1e6, max_per_subject=1000)
        app = member(limited(log, MemoryCounters(), PATIENT, queue=line))
        async with asyncio.TaskGroup() as group:
            group.create_task(status_of(app, "/red/b"))
            for n in range(60):
                group.create_task(status_of(app, "/red/b"))
                if n % 10 == 0:
                    group.create_task(status_of(app, "/red/a"))
                await asyncio.sleep(1.0)
        assert (
            max(
                when - 10 * n
                for n, when in enumerate(when for when, path in log.came if path[-1] == "a")
            )
            <= 2.0
        )

    simulate(main())


def test_a_team_that_waits_keeps_no_others_waiting() -> None:
    async def main() -> None:
        log = Log()
        app = member(limited(log, MemoryCounters(), PATIENT, queue=ThrottleQueue()))
        async with asyncio.TaskGroup() as group:
            for key in "abcdefgh":
                group.create_task(status_of(app, f"/red/{key}"))
                await settled()
            await status_of(app, "/blue/x")
            for _ in range(50):
                await status_of(app, "/y")
            assert elapsed() == 0.0
        assert elapsed() == pytest.approx(7.0, abs=0.1)

    simulate(main())


def test_a_slot_of_the_team_goes_to_any_of_its_keys_at_once() -> None:
    async def main() -> None:
        counters, line = MemoryCounters(), ThrottleQueue()
        gates = {key: Gate() for key in "abcd"}

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            await gates[scope["path"][-1]](scope, receive, send)

        team = Limits(concurrency=1, on_excess="throttle")
        app = member(limited(inner, counters, team, queue=line))
        async with asyncio.TaskGroup() as group:
            for key in "abcd":
                group.create_task(status_of(app, f"/red/{key}"))
                await settled()
            for key in "abcd":
                await asyncio.sleep(0.3)  # less than the pace at which the counters are asked
                assert [gate.inside for gate in gates.values()] == [key == one for one in gates]
                gates[key].open.set()
                await settled()
        assert await slots_of(counters, "team:red") == len(line) == 0

    simulate(main())


def test_a_key_that_lacks_a_slot_of_its_own_lets_the_others_of_its_team_pass() -> None:
    async def main() -> None:
        counters, line, log = MemoryCounters(), ThrottleQueue(), Log()
        gate = Gate()

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["query_string"] == b"held":
                return await gate(scope, receive, send)
            await log(scope, receive, send)

        own = Limits(concurrency=1, on_excess="throttle")
        app = member(limited(inner, counters, PATIENT, own, queue=line))
        async with asyncio.TaskGroup() as group:
            group.create_task(status_of(app, "/red/a", query=b"held"))
            await settled()
            group.create_task(status_of(app, "/red/b"))  # waits for the rate of the team
            await settled()
            group.create_task(status_of(app, "/red/a"))  # lacks both
            group.create_task(status_of(app, "/red/c"))
            await asyncio.sleep(5.5)
            assert log.keys == "bc"
            gate.open.set()
            await settled()
            assert log.keys == "bca"
        assert len(line) == 0

    simulate(main())


@pytest.mark.parametrize("lacking", ["key", "team"])
def test_what_says_reject_refuses_though_the_other_waits(lacking: str) -> None:
    async def main() -> None:
        narrow, wide = Rate(1, 1.0), Rate(100, 1.0)
        own = Limits(
            requests=narrow if lacking == "key" else wide,
            on_excess="reject" if lacking == "key" else "throttle",
        )
        team = Limits(
            requests=narrow if lacking == "team" else wide,
            on_excess="reject" if lacking == "team" else "throttle",
        )
        app = member(limited(ok, MemoryCounters(), team, own))
        assert [await status_of(app, "/red/a") for _ in range(3)] == [200, 429, 429]
        assert elapsed() == 0.0

    simulate(main())


def test_what_lacks_in_turn_and_says_reject_refuses() -> None:
    """A request waits for its team; when its turn comes, its key has nothing left and rejects."""

    async def main() -> None:
        counters, line = MemoryCounters(), ThrottleQueue()
        own = Limits(requests=Rate(1, 100.0, 1))
        app = member(limited(ok, counters, PATIENT, own, queue=line))
        assert await status_of(app, "/red/a") == 200
        async with asyncio.TaskGroup() as group:
            waits = group.create_task(status_of(app, "/red/a"))
            other = group.create_task(status_of(app, "/red/b"))
            await settled()
            assert len(line) == 2
            counters.charge("key:a", Check("requests", Rate(1, 100.0, 1), 1), unix())
        assert (waits.result(), other.result()) == (429, 200)
        assert elapsed() == pytest.approx(1.0, abs=0.1)

    simulate(main())


def test_who_leaves_the_line_of_a_team_does_not_stop_it() -> None:
    async def main() -> None:
        log, line = Log(), ThrottleQueue()
        app = member(limited(log, MemoryCounters(), PATIENT, queue=line))
        assert await status_of(app, "/red/a") == 200
        async with (
            Call(app, http_scope("POST", "/red/b"), timeout=FOREVER) as first,
            Call(app, http_scope("POST", "/red/c"), timeout=FOREVER) as second,
        ):
            await settled()
            last = asyncio.create_task(status_of(app, "/red/d"))
            await settled()
            first.hang_up()
            await first.done()
            await second.cancel()
        assert await last == 200
        assert log.came == [(0.0, "/red/a"), (1.0, "/red/d")]
        assert not line._lines

    simulate(main())


def test_a_large_request_that_leaves_frees_the_line_for_a_small_one() -> None:
    async def main() -> None:
        line, asked = ThrottleQueue(), [0]
        checks = [Check("tokens", Rate(100, 100.0), 90)]
        large = line.join("key:a", (), verdict=lacks(90.0 / 4), team=TeamClaim("team:t", checks))
        turn = asyncio.create_task(large.wait_turn(never))
        small = line.join(
            "key:b", (), team=TeamClaim("team:t", [Check("tokens", Rate(100, 100.0), 1)])
        )

        async def ask() -> Verdict:
            asked[0] += 1
            return Verdict(True, ())

        waits = asyncio.create_task(small.wait_turn(ask))
        await asyncio.sleep(1)
        assert not waits.done()
        turn.cancel()
        assert (await waits).admitted
        assert elapsed() == pytest.approx(1.0, abs=0.1)
        assert len(line) == 0

    simulate(main())


def lacks(wait: float) -> Verdict:
    return Verdict(False, (), wait, "requests", "team")


async def never() -> Verdict:
    raise AssertionError("no turn comes")


def test_wait_for_a_team_is_predicted_with_what_waits_before() -> None:
    async def main() -> None:
        line = ThrottleQueue(max_wait=30.0)
        claim = TeamClaim("team:t", [Check("requests", Rate(6, 60.0))])
        own = [Check("requests", Rate(1000, 1.0))]
        entries = [line.join(f"key:{n}", own, verdict=lacks(10.0), team=claim) for n in range(3)]
        with pytest.raises(QueueFull) as full:
            line.join("key:3", own, team=claim)
        assert full.value.wait == pytest.approx(40.0)
        assert full.value.verdict is not None and full.value.verdict.whose == "team"
        for entry in entries:
            entry.close()
        assert len(line) == 0
        assert not line._lines and not line._timetable

    simulate(main())


def test_a_team_of_many_keys_gives_way_as_one_subject() -> None:
    """Where the queue is full, a thousand keys of one team do not shut out the others."""

    async def main() -> None:
        line = ThrottleQueue(max_total=6)
        claim = TeamClaim("team:t", [Check("requests", Rate(1000, 60.0))])
        own = [Check("requests", Rate(1000, 1.0))]
        turns = []
        for n in range(6):
            entry = line.join(f"key:{n}", own, verdict=lacks(10.0), team=claim)
            turns.append(asyncio.create_task(entry.wait_turn(never)))
        await settled()
        other = line.join("other", own, verdict=Verdict(False, (), 1.0, "requests"))
        await settled()
        assert sum(turn.done() for turn in turns) == 1
        more = line.join("more", own, verdict=Verdict(False, (), 1.0, "requests"))
        await settled()
        assert sum(turn.done() for turn in turns) == 2
        with pytest.raises(QueueFull):
            line.join("key:9", own, team=claim)
        for turn in turns:
            turn.cancel()
        await asyncio.wait(turns)
        other.close()
        more.close()
        assert len(line) == 0
        assert not line._lines

    simulate(main())


def test_line_of_a_team_asks_one_question_at_a_time() -> None:
    """A hundred keys that wait for one rate are one question for each request that is admitted."""

    class Counted(MemoryCounters):
        in_process = False
        asked = 0

        async def admit(self, *args: Any, **options: Any) -> Verdict:
            self.asked += 1
            return await super().admit(*args, **options)

    async def main() -> None:
        counters, line = Counted(), ThrottleQueue(max_wait=1e6)
        app = member(limited(ok, counters, PATIENT, queue=line))
        async with asyncio.TaskGroup() as group:
            for n in range(100):
                group.create_task(status_of(app, f"/red/{n}"))
                await settled()
        assert elapsed() == pytest.approx(99.0, abs=0.1)
        assert counters.asked <= 2 * 100 + 2

    simulate(main())


def test_teams_of_many_keys_and_mixed_limits_come_through() -> None:
    """Whatever is admitted, refused, cancelled: the queue ends empty, each team has its rate."""

    async def main() -> None:
        counters, line = SlowCounters(), ThrottleQueue(max_wait=20.0)
        team = Limits(requests=Rate(5, 1.0), concurrency=4, on_excess="throttle")
        own = Limits(requests=Rate(3, 1.0), concurrency=2, on_excess="throttle")
        outcomes: Counter[tuple[str, int]] = Counter()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(0.1)
            await ok(scope, receive, send)

        app = member(limited(slow, counters, team, own, queue=line))

        async def one(n: int) -> None:
            path = f"/{'red' if n % 3 else 'blue'}/{n % 5}"
            try:
                async with asyncio.timeout(0.5 + n % 7 if n % 11 == 0 else None):
                    outcomes[path[1:4], await status_of(app, path)] += 1
            except TimeoutError:
                outcomes["gone", 0] += 1

        async with asyncio.TaskGroup() as group:
            for n in range(300):
                group.create_task(one(n))
                await asyncio.sleep(0.02)
        assert sum(outcomes.values()) == 300
        assert outcomes["red", 200] <= 5 + 5 * elapsed() + 1
        assert outcomes["red", 200] >= 5 * 5
        assert len(line) == line.size == 0
        assert not line._lines and not line._timetable
        assert await slots_of(counters, "team:red") == await slots_of(counters, "team:blu") == 0

    simulate(main())
