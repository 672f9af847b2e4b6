"""Another model where a limit refuses: what is called again, and what the client sees."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from middlewares import (
    DowngradeMiddleware,
    Exchange,
    Principal,
    Problem,
    RateLimitMiddleware,
    Target,
)
from middlewares.asgi import Receive, Scope, Send
from middlewares.exchange import Attempt
from middlewares.limits import Limits, Rate
from middlewares.stores.counters.memory import MemoryCounters
from tests.asgi import Call, Recorded, http_scope, request

Act = Callable[[Scope, Receive, Send], Awaitable[None]]

SMALLER = {"rate_limited": "small", "budget_exceeded": "tiny"}


class Script:
    """An app that does for each call what comes next, and remembers what it was called with."""

    def __init__(self, *acts: Act) -> None:
        self.acts = list(acts)
        self.found: list[tuple[str, str, str, int]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        self.found.append(
            (
                exchange.downgrade_to,
                exchange.refused,
                exchange.fallback_from,
                exchange.fallback_depth,
            )
        )
        await self.acts.pop(0)(scope, receive, send)


def refuses(kind: str) -> Act:
    return Problem(kind, reason="because")


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def ask(
    script: Script, downgrade_to: Mapping[str, str] = SMALLER, model: str = "large"
) -> tuple[Recorded, Exchange]:
    scope = http_scope("POST")
    exchange = Exchange.of(scope)
    exchange.model = model
    app = DowngradeMiddleware(script, downgrade_to=lambda exchange: downgrade_to)
    async with Call(app, scope) as call:
        return await call.done(), exchange


async def test_what_is_not_refused_is_not_touched() -> None:
    script = Script(answers)
    answer, exchange = await ask(script)
    assert answer.body == b"ok"
    assert script.found == [("", "", "", 0)]
    assert (exchange.downgrade_to, exchange.fallback_from) == ("", "")


@pytest.mark.parametrize(("kind", "model"), SMALLER.items())
async def test_another_model_serves(kind: str, model: str) -> None:
    script = Script(refuses(kind), answers)
    answer, exchange = await ask(script)
    assert (answer.status, answer.body) == (200, b"ok")
    assert len(answer.messages) == 2
    assert answer.header("retry-after") is None
    assert script.found == [("", "", "", 0), (model, kind, "large", 1)]
    assert (exchange.problem, exchange.reason, exchange.outcome) == ("", "", "")


async def test_refusal_of_the_downgraded_request_is_answered() -> None:
    script = Script(refuses("rate_limited"), refuses("budget_exceeded"))
    answer, exchange = await ask(script)
    assert answer.json()["error"]["code"] == "budget_exceeded"
    assert (exchange.problem, exchange.outcome) == ("budget_exceeded", "refused")
    assert len(script.found) == 2


async def test_other_refusals_are_answered() -> None:
    script = Script(refuses("insufficient_credits"))
    answer, exchange = await ask(script)
    assert answer.json()["error"]["code"] == "insufficient_credits"
    assert exchange.downgrade_to == ""


async def test_refusal_of_an_upstream_is_answered() -> None:
    """Its limit is not the caller's."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).attempts.append(Attempt(Target("up", "m"), 0.0, status=429))
        await refuses("rate_limited")(scope, receive, send)

    script = Script(asked)
    answer, _ = await ask(script)
    assert answer.status == 429
    assert len(script.found) == 1


async def test_a_stream_that_breaks_is_not_begun_again() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        event = Problem("budget_exceeded").event(Exchange.of(scope))
        await send({"type": "http.response.body", "body": event})

    script = Script(breaks)
    answer, _ = await ask(script)
    assert b"budget_exceeded" in answer.body
    assert len(script.found) == 1


async def test_nothing_instead_puts_nothing_around_send() -> None:
    sends: list[Send] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        sends.append(send)
        await refuses("rate_limited")(scope, receive, send)

    call = Call(DowngradeMiddleware(inner, downgrade_to=lambda exchange: {}))
    async with call:
        await call.done()
    assert call.status == 429
    assert sends == [call.send]


async def test_what_clients_know_the_model_by() -> None:
    app = DowngradeMiddleware(
        script := Script(refuses("rate_limited"), answers),
        downgrade_to=lambda exchange: SMALLER,
        named=lambda exchange: "the large one",
    )
    await request(app, "POST")
    assert script.found[1][2] == "the large one"


async def test_cancelled_before_the_second_call() -> None:
    inside = asyncio.Event()

    async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
        await refuses("rate_limited")(scope, receive, send)
        inside.set()
        await asyncio.Event().wait()

    script = Script(hangs, answers)
    async with Call(DowngradeMiddleware(script, downgrade_to=lambda exchange: SMALLER)) as call:
        await inside.wait()
        await call.cancel()
    assert call.record.messages == []
    assert len(script.found) == 1


async def test_around_a_limiter() -> None:
    """The limit is one of the large model; a request beyond it gets the small one."""
    counters = MemoryCounters()

    async def model(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        body = (exchange.downgrade_to or exchange.model).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def limits(exchange: Exchange) -> Limits | None:
        return None if exchange.downgrade_to else Limits(requests=Rate(2, 3600.0))

    limiter = RateLimitMiddleware(model, counters=counters, limits=limits, clock=lambda: 1.8e9)
    app = DowngradeMiddleware(limiter, downgrade_to=lambda exchange: SMALLER)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.principal, exchange.model = Principal("alice"), "large"
        await app(scope, receive, send)

    bodies = [(await request(outer, "POST")).text for _ in range(4)]
    assert bodies == ["large", "large", "small", "small"]
