"""Rate limits that refuse: what is admitted, what it costs, and what a refusal says.

Time is simulated where it matters; nothing sleeps.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from middlewares import (
    AuthMiddleware,
    ErrorsMiddleware,
    Exchange,
    HeaderStampMiddleware,
    Problem,
    RateLimitMiddleware,
    Target,
    Usage,
    by_address,
    rate_limit_headers,
)
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import Attempt, Dialect
from middlewares.limits import Level, Limits, Rate
from middlewares.stores import KeyDirectory, MemoryKeyStore
from middlewares.stores.counters.base import Check, TeamClaim, Verdict
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.errors import CountersUnavailable
from tests.asgi import Call, Recorded, request
from tests.simulated import EPOCH, simulate, unix

from .apps import Gate, SlowCounters, as_principal, ok, slots_of, status_of

pytestmark = pytest.mark.simulated_time

MINUTE = Limits(requests=Rate(60, 60.0, 10))
TARGET = Target("up", "m")


def limited(
    app: ASGIApp,
    counters: MemoryCounters,
    limits: Limits | Callable[[Exchange], Limits | None] = MINUTE,
    **options: Any,
) -> ASGIApp:
    """`app` inside a limiter inside stamped headers."""
    limit = RateLimitMiddleware(
        app,
        counters=counters,
        limits=limits if callable(limits) else lambda _: limits,
        clock=unix,
        **options,
    )
    return HeaderStampMiddleware(limit, stamp=lambda found: rate_limit_headers(found, clock=unix))


async def statuses(app: ASGIApp, count: int, **options: Any) -> list[int]:
    return [(await request(app, "POST", **options)).status for _ in range(count)]


# How many


def test_sixty_a_minute_and_ten_more() -> None:
    async def main() -> None:
        app = limited(ok, MemoryCounters())
        first = await request(app, "POST")
        assert first.status == 200
        assert first.header("x-ratelimit-limit") == "60"
        assert first.header("x-ratelimit-remaining") == "59"
        assert first.header("x-ratelimit-reset") == str(int(EPOCH) + 1)
        assert await statuses(app, 69) == [200] * 69
        refused = await request(app, "POST")
        assert refused.status == 429
        assert refused.header("retry-after") == "1"
        assert refused.header("x-ratelimit-limit") == "60"
        assert refused.header("x-ratelimit-remaining") == "0"
        assert refused.header("x-ratelimit-reset") == str(int(EPOCH) + 70)
        assert refused.json()["error"] == {
            "message": "Rate limit reached for requests: limit 60 per minute."
            " Please try again in 1s.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
        await asyncio.sleep(1)
        assert await statuses(app, 2) == [200, 429]
        await asyncio.sleep(70)
        assert await statuses(app, 71) == [200] * 70 + [429]

    simulate(main())


@pytest.mark.parametrize("count", [30, 400])
def test_a_plan_holds_to_one_request_over_ten_minutes(count: int) -> None:
    """A caller that asks five times as often gets its limit, to the request."""

    async def main() -> None:
        app = limited(ok, MemoryCounters(), Limits(requests=Rate(count, 60.0)))
        admitted = 0
        tries = 10 * count * 5
        for _ in range(tries):
            admitted += (await status_of(app)) == 200
            await asyncio.sleep(600 / tries)
        assert abs(admitted - (count + 10 * count)) <= 1

    simulate(main())


def test_the_safety_net_stands_before_authentication() -> None:
    """5,000 in ten minutes for each address; what is refused costs no look-up of a key."""

    async def main() -> None:
        seen = 0
        auth = AuthMiddleware(ok, keys=KeyDirectory(MemoryKeyStore()))

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal seen
            seen += 1
            await auth(scope, receive, send)

        app = RateLimitMiddleware(
            counted,
            counters=MemoryCounters(),
            limits=lambda _: Limits(requests=Rate(5000, 600.0)),
            name="address",
            report=False,
            clock=unix,
        )
        outcomes = [await status_of(app) for _ in range(5000)]
        assert outcomes == [401] * 5000
        refused = await request(app, "POST")
        assert (refused.status, seen) == (429, 5000)
        assert "limit 5000 per 10 minutes" in refused.json()["error"]["message"]
        assert not [name for name, _ in refused.headers if b"ratelimit" in name]
        assert await status_of(app, client=("192.0.2.7", 1)) == 401

    simulate(main())


def test_no_limits_no_count() -> None:
    async def main() -> None:
        counters = Unreachable()
        for nothing in (None, Limits()):
            app = limited(ok, counters, lambda _, it=nothing: it)  # type: ignore[misc]
            assert (await request(app, "POST")).status == 200
        app = as_principal(limited(ok, counters, exempt=("models",)), {"endpoint": "models"})
        assert (await request(app, "GET")).status == 200

    simulate(main())


class Unreachable(MemoryCounters):
    """Counters that do not answer."""

    in_process = False

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
        raise CountersUnavailable("no route to host 192.0.2.1")


@pytest.mark.parametrize("on_excess", ["reject", "throttle"])
def test_counters_that_do_not_answer(on_excess: Any) -> None:
    async def main() -> None:
        limits = Limits(requests=Rate(1, 1.0), on_excess=on_excess)
        refused = await request(limited(ok, Unreachable(), limits), "POST")
        assert refused.status == 503
        assert refused.header("retry-after") == "1"
        assert "192.0.2.1" not in refused.text
        reason = Exchange.of(refused.scope).reason
        assert reason == "rate counters: no route to host 192.0.2.1"

    simulate(main())


def test_principals_names_and_addresses_are_counted_apart() -> None:
    async def main() -> None:
        counters = MemoryCounters()
        one = Limits(requests=Rate(1, 60.0))
        app = as_principal(limited(ok, counters, one))
        assert await statuses(app, 2, path="/a") == [200, 429]
        assert await statuses(app, 2, path="/b") == [200, 429]
        other = as_principal(limited(ok, counters, one, name="other"))
        assert await statuses(other, 2, path="/a") == [200, 429]
        again = as_principal(limited(ok, counters, one))
        assert await statuses(again, 1, path="/a") == [429]
        strangers = limited(ok, counters, one)
        assert await statuses(strangers, 2, client=("192.0.2.1", 1)) == [200, 429]
        assert await statuses(strangers, 1, client=("192.0.2.2", 1)) == [200]
        assert await statuses(strangers, 2, client=None) == [200, 429]

    simulate(main())


def test_two_limiters_of_one_app() -> None:
    """One for all of an address, which says nothing, around one for each principal."""

    async def main() -> None:
        counters = MemoryCounters()
        inner = RateLimitMiddleware(ok, counters=counters, limits=lambda _: MINUTE, clock=unix)
        asked: list[str] = []

        async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
            asked.append(scope["path"])
            await as_principal(inner)(scope, receive, send)

        net = Limits(requests=Rate(72, 3600.0))

        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            Exchange.of(scope).client = "192.0.2.1"
            await limit(scope, receive, send)

        limit = RateLimitMiddleware(
            authenticated,
            counters=counters,
            limits=lambda _: net,
            subject=by_address,
            name="address",
            report=False,
            clock=unix,
        )
        app = HeaderStampMiddleware(outer, stamp=lambda it: rate_limit_headers(it, clock=unix))
        assert await statuses(app, 71, path="/a") == [200] * 70 + [429]
        last = await request(app, "POST", "/b")
        assert (last.status, last.header("x-ratelimit-limit")) == (200, "60")
        refused = await request(app, "POST", "/b")
        assert (refused.status, refused.header("retry-after")) == (429, "50")
        assert refused.header("x-ratelimit-limit") is None
        assert asked == ["/a"] * 71 + ["/b"]

    simulate(main())


def test_an_address_that_the_router_found_counts_before_that_of_the_socket() -> None:
    async def main() -> None:
        limit = RateLimitMiddleware(
            ok,
            counters=MemoryCounters(),
            limits=lambda _: Limits(requests=Rate(1, 60.0)),
            clock=unix,
        )

        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            Exchange.of(scope).client = scope["path"][1:]
            await limit(scope, receive, send)

        assert await statuses(routed, 2, path="/192.0.2.1") == [200, 429]
        assert await statuses(routed, 1, path="/192.0.2.2") == [200]

    simulate(main())


def test_one_subscriber_of_ipv6_is_one_caller() -> None:
    """Else a single home has 2^64 addresses to come from."""
    exchange = Exchange()
    for address, counted in (
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no:address", "no:address"),
        ("", "unknown"),
    ):
        exchange.client = address
        assert by_address(exchange) == counted

    async def main() -> None:
        app = limited(ok, MemoryCounters(), Limits(requests=Rate(1, 60.0)))
        assert await statuses(app, 1, client=("2001:db8::1", 1)) == [200]
        assert await statuses(app, 1, client=("2001:db8::2", 1)) == [429]

    simulate(main())


def test_a_refused_request_spends_nothing() -> None:
    """BerriAI/litellm#39309: what was rejected went on to burn the rate."""

    async def main() -> None:
        counters = MemoryCounters()
        limits = Limits(requests=Rate(10, 60.0), tokens=Rate(1000, 60.0), concurrency=5)
        asked = 0

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal asked
            asked += 1
            exchange = Exchange.of(scope)
            exchange.usage = Usage(input=exchange.estimate)
            await ok(scope, receive, send)

        app = as_principal(limited(inner, counters, limits), {"estimate": 600})
        assert await statuses(app, 1) == [200]
        checks = [Check("requests", limits.requests or Rate(1, 1)), Check("tokens", Rate(1000, 60))]
        before = await counters.levels("key:/", checks, now=unix())
        assert await statuses(app, 500) == [429] * 500
        assert await counters.levels("key:/", checks, now=unix()) == before
        assert before[1] == 0
        assert asked == 1
        small = as_principal(limited(inner, counters, limits), {"estimate": 100})
        assert await statuses(small, 4) == [200] * 4

    simulate(main())


def test_a_request_that_an_inner_limiter_refuses_takes_none_of_the_outer_rate() -> None:
    async def main() -> None:
        counters = MemoryCounters()
        requests, tokens = Rate(10, 60.0), Rate(1000, 60.0)
        options: dict[str, Any] = {"counters": counters, "clock": unix}
        inner = RateLimitMiddleware(ok, limits=lambda _: Limits(tokens=tokens), **options)
        outer = limited(
            inner, counters, Limits(requests=requests, concurrency=3), refund_refused=True
        )
        app = as_principal(outer, {"estimate": 600})
        first = await request(app, "POST")
        assert first.status == 200
        assert first.header("x-ratelimit-remaining-requests") == "9"
        assert first.header("x-ratelimit-remaining-tokens") == "400"
        assert await statuses(app, 50) == [429] * 50
        (level,), slots = await counters.levels("key:/", [Check("requests", requests)], now=unix())
        assert (level.remaining, slots) == (9, 0)

    simulate(main())


# Tokens


def spending(usage: Usage | None, outcome: str = "completed", produced: int = 0) -> ASGIApp:
    """An app that asked an upstream and used so much."""

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.attempts = [Attempt(TARGET, 0.0)]
        exchange.usage, exchange.output_estimate = usage, produced
        exchange.outcome = outcome  # type: ignore[assignment]
        await ok(scope, receive, send)

    return inner


async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
    await Problem("budget_exceeded")(scope, receive, send)


async def kept(scope: Scope, receive: Receive, send: Send) -> None:
    Exchange.of(scope).outcome = "completed"
    await ok(scope, receive, send)


async def raising(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem("model_not_found")


async def raising_after_asking(scope: Scope, receive: Receive, send: Send) -> None:
    Exchange.of(scope).attempts = [Attempt(TARGET, 0.0, status=500)]
    raise Problem("upstream_error")


@pytest.mark.parametrize(
    ("inner", "used"),
    [
        pytest.param(spending(Usage(100, 50, 7, 3)), 160, id="all four figures count"),
        pytest.param(spending(Usage(500, 2000)), 2500, id="more than there is, as a debt"),
        pytest.param(spending(None, "completed"), 400, id="not counted: as estimated"),
        pytest.param(spending(None, "hung_up", 30), 430, id="left: the estimate and what came"),
        pytest.param(spending(None, "failed"), 0, id="the upstream failed"),
        pytest.param(raising_after_asking, 0, id="the upstream failed, raised"),
        pytest.param(refusing, 0, id="refused inside"),
        pytest.param(raising, 0, id="refused inside, raised"),
        pytest.param(kept, 0, id="answered without asking, as a replay"),
        pytest.param(ok, 400, id="an app that does not tell"),
    ],
)
def test_tokens_count_as_really_used(inner: ASGIApp, used: int) -> None:
    async def main() -> None:
        counters = MemoryCounters()
        limits = Limits(tokens=Rate(1000, 100.0))  # one takes a tenth of a second
        app = ErrorsMiddleware(limited(inner, counters, limits))
        await request(as_principal(app, {"estimate": 400}), "POST")
        levels, _ = await counters.levels("key:/", [Check("tokens", Rate(1000, 100.0))], now=unix())
        assert levels[0].reset == pytest.approx(EPOCH + used / 10)
        assert levels[0].remaining == max(0, 1000 - used)

    simulate(main())


def test_debt_is_paid_before_the_next_request() -> None:
    async def main() -> None:
        limits = Limits(tokens=Rate(1000, 100.0))
        app = as_principal(
            limited(spending(Usage(500, 2000)), MemoryCounters(), limits), {"estimate": 100}
        )
        assert (await request(app, "POST")).status == 200
        refused = await request(app, "POST")
        assert refused.status == 429
        assert refused.header("retry-after") == "160"  # 2500 used, 1000 saved up, 100 asked for
        assert refused.header("x-ratelimit-remaining-tokens") == "0"
        assert refused.json()["error"]["message"] == (
            "Rate limit reached for tokens: limit 1000 per 100 seconds. Please try again in 160s."
        )
        await asyncio.sleep(160)
        assert (await request(app, "POST")).status == 200

    simulate(main())


def test_tokens_of_an_app_without_estimates() -> None:
    """Nothing is known before; what was used decides about the next."""

    async def main() -> None:
        app = limited(
            spending(Usage(900, 900)),
            MemoryCounters(),
            Limits(tokens=Rate(1000, 60.0)),
            tokens=lambda _: 0,
        )
        assert await statuses(app, 2) == [200, 429]

    simulate(main())


# At once


def test_so_many_at_once() -> None:
    async def main() -> None:
        gate = Gate()
        app = limited(gate, MemoryCounters(), Limits(concurrency=2))
        async with asyncio.TaskGroup() as group:
            two = [group.create_task(request(app, "POST")) for _ in range(2)]
            while gate.inside < 2:
                await asyncio.sleep(0)
            refused = await request(app, "POST")
            assert refused.status == 429
            said = refused.json()["error"]["message"]
            assert said.startswith("Rate limit reached for concurrent requests: limit 2 at once.")
            assert "try again in" in said
            gate.open.set()
        assert [task.result().status for task in two] == [200, 200]
        assert await statuses(app, 3) == [200] * 3

    simulate(main())


def test_slots_return_to_none_after_a_storm_of_cancellations() -> None:
    """BerriAI/litellm#20256, #27955, #28160: each cancelled request kept its slot, for ever."""

    async def main() -> None:
        counters = MemoryCounters()

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await asyncio.sleep(1)  # before its first byte
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(5):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(1)
            raise LookupError("broke off")

        app = as_principal(
            limited(inner, counters, Limits(concurrency=7, requests=Rate(10_000, 1.0)))
        )
        most = 0
        for n in range(300):
            async with Call(app, body=None if n % 3 == 0 else b"x", timeout=1e9) as call:
                await asyncio.sleep((n * 7 % 80) / 10)
                most = max(most, await slots_of(counters))
                await call.cancel()
        assert most == 1
        assert await slots_of(counters) == 0
        async with asyncio.TaskGroup() as group:
            for n in range(7):
                group.create_task(one(app, n))
        assert await slots_of(counters) == 0

    async def one(app: ASGIApp, n: int) -> None:
        async with Call(app, body=b"x", timeout=1e9) as call:
            await asyncio.sleep(n + 0.5)
            await call.cancel()
        assert not call.running

    simulate(main())


def test_a_request_cancelled_while_the_counters_answer_keeps_no_slot() -> None:
    async def main() -> None:
        counters = SlowCounters()
        app = as_principal(limited(ok, counters, Limits(concurrency=1)))
        async with Call(app, timeout=1e9) as call:
            await counters.asked.wait()
            assert await slots_of(counters) == 1
            await call.cancel()
        assert await slots_of(counters) == 0
        assert not call.record.messages

    simulate(main())


def test_a_thousand_interleaved_requests_share_nothing() -> None:
    async def main() -> None:
        counters = MemoryCounters()
        gate = Gate()
        limits = Limits(requests=Rate(2, 60.0), tokens=Rate(50, 60.0), concurrency=1)
        app = as_principal(limited(gate, counters, limits), {"estimate": 20})
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(status_of(app, f"/{n}")) for n in range(1000)]
            while gate.inside < 1000:
                await asyncio.sleep(0)
            assert await status_of(app, "/7") == 429
            gate.open.set()
        assert {task.result() for task in tasks} == {200}
        for n in range(1000):
            assert await slots_of(counters, f"key:/{n}") == 0
        assert await status_of(app, "/7") == 200
        assert await status_of(app, "/7") == 429

    simulate(main())


# Headers


async def stamped(dialect: Dialect, limits: Limits, estimate: int = 0) -> Recorded:
    app = limited(ok, MemoryCounters(), limits)
    return await request(as_principal(app, {"dialect": dialect, "estimate": estimate}), "POST")


BOTH = Limits(requests=Rate(120, 60.0), tokens=Rate(60_000, 60.0))


@pytest.mark.parametrize("dialect", ["openai", "responses"])
def test_headers_as_openai_has_them(dialect: Dialect) -> None:
    got = simulate(stamped(dialect, BOTH, 5000))
    assert [
        (name.decode(), value.decode()) for name, value in got.headers if b"ratelimit" in name
    ] == [
        ("x-ratelimit-limit", "120"),
        ("x-ratelimit-remaining", "119"),
        ("x-ratelimit-reset", str(int(EPOCH) + 1)),
        ("x-ratelimit-limit-requests", "120"),
        ("x-ratelimit-remaining-requests", "119"),
        ("x-ratelimit-reset-requests", "500ms"),
        ("x-ratelimit-limit-tokens", "60000"),
        ("x-ratelimit-remaining-tokens", "55000"),
        ("x-ratelimit-reset-tokens", "5s"),
    ]


def test_headers_as_anthropic_has_them() -> None:
    got = simulate(stamped("anthropic", BOTH, 5000))
    found = {name.decode(): value.decode() for name, value in got.headers if b"limit" in name}
    for kind, seconds in (("requests", 1), ("tokens", 5)):
        reset = found.pop(f"anthropic-ratelimit-{kind}-reset")
        assert reset.endswith("Z")
        assert datetime.fromisoformat(reset).timestamp() == EPOCH + seconds
    assert found == {
        "x-ratelimit-limit": "120",
        "x-ratelimit-remaining": "119",
        "x-ratelimit-reset": str(int(EPOCH) + 1),
        "anthropic-ratelimit-requests-limit": "120",
        "anthropic-ratelimit-requests-remaining": "119",
        "anthropic-ratelimit-tokens-limit": "60000",
        "anthropic-ratelimit-tokens-remaining": "55000",
    }


def test_no_header_where_nothing_is_limited() -> None:
    assert rate_limit_headers(Exchange()) == ()
    got = simulate(stamped("openai", Limits(tokens=Rate(10, 1.0))))
    names = {name for name, _ in got.headers}
    assert b"x-ratelimit-limit-tokens" in names
    assert not {b"x-ratelimit-limit", b"x-ratelimit-limit-requests"} & names
    got = simulate(stamped("openai", Limits(concurrency=1)))
    assert not [name for name, _ in got.headers if b"ratelimit" in name]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3.0, "0s"),
        (0.0, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (0.9999, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360.0, "6m0s"),
        (86.4, "1m26.4s"),
        (3600.0, "1h0m0s"),
        (90061.5, "25h1m1.5s"),
    ],
)
def test_durations_as_openai_writes_them(seconds: float, text: str) -> None:
    exchange = Exchange()
    exchange.levels = (Level("requests", 1, 0, seconds),)
    found = dict(rate_limit_headers(exchange, clock=lambda: 0.0))
    assert found[b"x-ratelimit-reset-requests"].decode() == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.0, "second"),
        (60.0, "minute"),
        (3600.0, "hour"),
        (86400.0, "day"),
        (600.0, "10 minutes"),
        (7200.0, "2 hours"),
        (0.5, "0.5 seconds"),
        (90.0, "90 seconds"),
    ],
)
def test_the_refusal_names_the_rate(seconds: float, text: str) -> None:
    async def main() -> None:
        app = limited(ok, MemoryCounters(), Limits(requests=Rate(1, seconds)))
        assert (await request(app, "POST")).status == 200
        refused = await request(app, "POST")
        said = refused.json()["error"]["message"]
        wait = max(1, round(seconds))
        assert said == (
            f"Rate limit reached for requests: limit 1 per {text}. Please try again in {wait}s."
        )
        assert refused.header("retry-after") == str(wait)

    simulate(main())
