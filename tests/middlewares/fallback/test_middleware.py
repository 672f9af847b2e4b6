"""One place after another: which are tried, when it ends, and what the client sees of it.

The inner app plays a script: the outcome of each attempt in turn. Time is simulated.
"""

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from middlewares import Candidate, Exchange, FallbackMiddleware, Problem, RetryPolicy, Target
from middlewares.asgi import Receive, Scope, Send
from middlewares.error_kinds import KINDS
from middlewares.exchange import Attempt
from middlewares.fallback.middleware import STATUSES
from middlewares.fallback.retry_state import FAILED
from middlewares.stores.health.base import Verdict
from middlewares.stores.health.breakers import Breakers
from tests.asgi import Call, Recorded, http_scope, request
from tests.simulated import simulate, unix

pytestmark = pytest.mark.simulated_time

Act = Callable[[Scope, Receive, Send], Awaitable[None]]

A, B, C = (Target(name, "m") for name in "abc")


def places(*targets: Target) -> list[Candidate]:
    """All of them serve the model that was asked for."""
    return [Candidate(target, "large") for target in targets]


OTHERS = [Candidate(A, "large"), Candidate(B, "small", "large"), Candidate(C, "tiny", "large")]
"""Each a model of its own; "large" was asked for."""


class Script:
    """An app that does for each try what comes next, and remembers what it found."""

    def __init__(self, *acts: Act) -> None:
        self.acts = list(acts)
        self.tried: list[str] = []
        self.found: list[tuple[str, int]] = []
        self.times: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        assert exchange.candidate is not None
        self.tried.append(exchange.candidate.target.upstream)
        self.found.append((exchange.fallback_from, exchange.fallback_depth))
        self.times.append(asyncio.get_running_loop().time())
        await self.acts.pop(0)(scope, receive, send)


def answers(status: int = 200, body: bytes = b"ok", **headers: str) -> Act:
    async def act(scope: Scope, receive: Receive, send: Send) -> None:
        named = [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        await send({"type": "http.response.start", "status": status, "headers": named})
        await send({"type": "http.response.body", "body": body})

    return act


def raises(kind: str, *, retry_after: int | None = None, held: bool = True, **attempt: Any) -> Act:
    """As a layer that asks an upstream does: with an attempt, if anything is said of one."""

    async def act(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        if attempt and exchange.candidate is not None:
            exchange.attempts.append(Attempt(exchange.candidate.target, 0.0, **attempt))
        reason = f"try {len(exchange.attempts)}"
        raise Problem(kind, retry_after=retry_after, reason=reason, held=held)

    return act


def after(seconds: float, act: Act) -> Act:
    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(seconds)
        await act(scope, receive, send)

    return late


def app_of(
    script: Script,
    where: Sequence[Candidate],
    *,
    retry: RetryPolicy | None = None,
    health: Breakers | None = None,
    chance: float = 1.0,
    **rest: Any,
) -> FallbackMiddleware:
    return FallbackMiddleware(
        script,
        candidates=lambda exchange: where,
        health=health,
        retry=retry,
        clock=lambda: asyncio.get_running_loop().time(),
        random=lambda: chance,
        **rest,
    )


def ask(app: FallbackMiddleware, **rest: Any) -> Recorded:
    """One request in simulated time; raises what the app raised."""
    return simulate(request(app, "POST", timeout=1e6, **rest))


class Counted(Breakers):
    """Breakers, and what was reported to them: one entry for each answer and for each end."""

    def __init__(self, **rest: Any) -> None:
        super().__init__(clock=unix, random=lambda: 0.5, **rest)
        self.reported: list[tuple[Target, str]] = []

    def answered(self, place: Target, mark: float, *, seconds: float = 0.0) -> None:
        self.reported.append((place, "answered"))
        super().answered(place, mark, seconds=seconds)

    def ended(
        self, place: Target, verdict: Verdict, mark: float, *, retry_after: int | None = None
    ) -> None:
        self.reported.append((place, verdict))
        super().ended(place, verdict, mark, retry_after=retry_after)


def health_of(**rest: Any) -> Counted:
    return Counted(**rest)


# In order


def test_the_first_that_answers() -> None:
    script = Script(answers(body=b"first"))
    answer = ask(app_of(script, places(A, B, C)))
    assert (answer.status, answer.body) == (200, b"first")
    assert script.tried == ["a"]


def test_one_after_the_other_until_one_answers() -> None:
    script = Script(raises("upstream_error"), raises("upstream_timeout"), answers())
    assert ask(app_of(script, places(A, B, C))).status == 200
    assert script.tried == ["a", "b", "c"]
    assert script.times == [0.0, 0.0, 0.0]


def test_failed_is_called_with_each_failure_and_no_refusal() -> None:
    calls: list[tuple[str, str]] = []

    def failed(exchange: Exchange, candidate: Candidate, problem: Problem) -> None:
        calls.append((candidate.target.upstream, problem.kind))

    script = Script(raises("upstream_error"), raises("upstream_timeout"), answers())
    ask(app_of(script, places(A, B, C), failed=failed))
    assert calls == [("a", "upstream_error"), ("b", "upstream_timeout")]
    calls.clear()
    for kind in ("upstream_error", "invalid_request"):
        with pytest.raises(Problem):
            ask(app_of(Script(raises(kind)), places(A), failed=failed, statuses=frozenset()))
    assert calls == [("a", "upstream_error")]


def test_answer_is_the_last_failure() -> None:
    script = Script(raises("upstream_timeout"), raises("rate_limited", retry_after=9))
    with pytest.raises(Problem) as raised:
        ask(app_of(script, places(A, B)))
    assert (raised.value.kind, raised.value.retry_after) == ("rate_limited", 9)


def test_places_may_take_time_to_find() -> None:
    script = Script(answers())

    async def found() -> Sequence[Candidate]:
        await asyncio.sleep(1)
        return places(B)

    app = FallbackMiddleware(script, candidates=lambda exchange: found())
    assert ask(app).status == 200
    assert script.tried == ["b"]


def test_nowhere_is_passed_on_as_it_is() -> None:
    seen = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((Exchange.of(scope).candidate, send))
        await answers()(scope, receive, send)

    app = FallbackMiddleware(inner, candidates=lambda exchange: ())
    assert ask(app).status == 200
    assert seen[0][0] is None
    assert "_Gate" not in repr(seen[0][1])


def test_target_that_answered_is_reported() -> None:
    shown: list[Candidate] = []
    where = places(A, B)
    script = Script(raises("upstream_error"), answers())
    ask(app_of(script, where, served=lambda exchange, place: shown.append(place)))
    assert shown == [where[1]]
    with pytest.raises(Problem):
        failing = Script(*[raises("upstream_error")] * 2)
        ask(app_of(failing, where, served=lambda exchange, place: shown.append(place)))
    assert shown == [where[1]]


# What is tried elsewhere and what is not


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_by_kind_of_problem(kind: str) -> None:
    script = Script(raises(kind), answers())
    app = app_of(script, places(A, B))
    if kind in FAILED:
        assert ask(app).status == 200
        assert script.tried == ["a", "b"]
    else:
        with pytest.raises(Problem) as raised:
            ask(app)
        assert raised.value.kind == kind
        assert script.tried == ["a"]


@pytest.mark.parametrize("status", [200, 201, 204, 400, 401, 404, 422, 501, *sorted(STATUSES)])
def test_by_status(status: int) -> None:
    script = Script(answers(status, b"first", secret="a"), answers(body=b"second"))
    answer = ask(app_of(script, places(A, B)))
    if status in STATUSES:
        assert (answer.status, answer.body) == (200, b"second")
        assert answer.header("secret") is None
        assert [message["type"] for message in answer.messages] == [
            "http.response.start",
            "http.response.body",
        ]
    else:
        assert (answer.status, answer.body) == (status, b"first")
        assert script.tried == ["a"]


def test_the_last_failed_answer_is_the_one_that_is_seen() -> None:
    script = Script(answers(503, b"a"), answers(500, b"b", x_from="b"))
    answer = ask(app_of(script, places(A, B)))
    assert (answer.status, answer.body, answer.header("x-from")) == (500, b"b", "b")


def test_a_failed_answer_then_a_problem() -> None:
    script = Script(answers(503, b"a"), raises("upstream_error"))
    with pytest.raises(Problem) as raised:
        ask(app_of(script, places(A, B)))
    assert raised.value.kind == "upstream_error"


def test_a_failed_answer_that_ends_in_a_problem() -> None:
    """What comes after the head of a failed answer is as little seen, and counts once."""

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 503})
        raise Problem("upstream_error")

    async def main() -> None:
        health = health_of()
        script = Script(both, both, answers())
        retry = RetryPolicy(retries=1, backoff=1.0)
        answer = await request(app_of(script, places(A, B), health=health, retry=retry))
        assert answer.status == 200
        assert script.times == [0, 0, 1]
        assert health.reported.count((A, "bad")) == health.reported.count((B, "bad")) == 1

    simulate(main())


def test_other_exceptions_count_as_no_failure() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError

    async def main() -> Counted:
        health = health_of()
        with pytest.raises(LookupError):
            await request(app_of(script, places(A, B), health=health))
        return health

    script = Script(breaks)
    health = simulate(main())
    assert script.tried == ["a"]
    assert health.in_flight(A) == 0
    assert health.reported == [(A, "none")]


def test_no_retry_after_content() -> None:
    """Neither where the exchange says so, nor where a head has passed."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).first_content = 1.0
        raise Problem("upstream_error")

    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise Problem("upstream_error")

    async def main() -> None:
        for act in (broken, half):
            health = health_of()
            script = Script(act, answers())
            with pytest.raises(Problem):
                await request(app_of(script, places(A, B), health=health))
            assert script.tried == ["a"]
            assert health.reported.count((A, "bad")) == 1

    simulate(main())


@pytest.mark.parametrize("statuses", [frozenset[int](), STATUSES])
def test_a_head_that_left_early_does_not_end_it(statuses: frozenset[int]) -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).headers_sent_early = True
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})
        raise Problem("upstream_timeout")

    async def rest(scope: Scope, receive: Receive, send: Send) -> None:
        assert Exchange.of(scope).headers_sent_early
        await send({"type": "http.response.body", "body": b"data: 1\n\n"})

    script = Script(early, rest)
    answer = ask(app_of(script, places(A, B), statuses=statuses))
    assert answer.body == b": ping\n\ndata: 1\n\n"


def test_without_statuses_nothing_is_put_around_send() -> None:
    sends: list[Send] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        sends.append(send)
        await answers(503)(scope, receive, send)

    async def main() -> None:
        call = Call(app_of(Script(inner), places(A, B), statuses=frozenset()))
        async with call:
            await call.done()
        assert call.status == 503
        assert sends == [call.send]

    simulate(main())


# The request's body


def reading(act: Act, bodies: list[bytes]) -> Act:
    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        bodies.append(body)
        await act(scope, receive, send)

    return reads


def test_each_attempt_gets_the_whole_body() -> None:
    bodies: list[bytes] = []
    acts = (raises("upstream_error"), answers(503), answers())
    script = Script(*[reading(act, bodies) for act in acts])

    async def main() -> None:
        async with Call(app_of(script, places(A, B, C)), body=[b"on", b"", b"e"]) as call:
            await call.done()

    simulate(main())
    assert bodies == [b"one"] * 3


def test_a_body_that_is_too_large_to_keep() -> None:
    script = Script()
    answer = ask(app_of(script, places(A, B), body=10), body=b"x" * 11)
    assert answer.status == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert script.tried == []


def test_where_there_is_no_second_attempt_the_body_is_not_held() -> None:
    bodies: list[bytes] = []
    script = Script(reading(answers(), bodies))
    assert ask(app_of(script, places(A), body=10), body=b"x" * 11).status == 200
    assert bodies == [b"x" * 11]
    script = Script(reading(answers(), bodies))
    retry = RetryPolicy(max_attempts=1)
    assert ask(app_of(script, places(A, B), retry=retry, body=10), body=b"x" * 11).status == 200


def test_body_that_breaks_off_is_refused() -> None:
    script = Script()

    async def main() -> None:
        async with Call(app_of(script, places(A, B)), body=None) as call:
            call.feed(b"half", more=True)
            await call.received_all()
            call.hang_up()
            record = await call.done()
        assert record.status == 400
        assert Exchange.of(call.scope).outcome == "refused"

    simulate(main())
    assert script.tried == []


# Health


def broke(health: Breakers, *targets: Target) -> None:
    for target in targets:
        for _ in range(5):
            health.ended(target, "bad", health.began(target))


def test_broken_places_are_passed_over_while_there_is_another() -> None:
    async def main() -> None:
        health = health_of()
        broke(health, A, C)
        script = Script(raises("upstream_error"), raises("upstream_error"), answers())
        await request(app_of(script, places(A, B, C), health=health))
        assert script.tried == ["b", "a", "c"]

    simulate(main())


def test_where_all_are_broken_the_one_that_is_due_first() -> None:
    async def main() -> None:
        health = health_of()
        broke(health, A)
        await asyncio.sleep(1)
        broke(health, B)
        health.ended(C, "bad", health.began(C), retry_after=2)
        script = Script(*[raises("upstream_error")] * 2, answers())
        await request(app_of(script, places(B, A, C), health=health))
        assert script.tried == ["c", "a", "b"]

    simulate(main())


def test_the_only_place_is_tried_however_it_is() -> None:
    async def main() -> None:
        health = health_of()
        broke(health, A)
        script = Script(answers())
        assert (await request(app_of(script, places(A), health=health))).status == 200

    simulate(main())


def test_what_health_hears() -> None:
    async def main() -> None:
        health = health_of()
        script = Script(
            after(1, raises("rate_limited", retry_after=30)),
            after(1, answers(503, retry_after="40")),
            after(2, answers()),
        )
        await request(app_of(script, places(A, B, C), health=health))
        conditions = health.conditions()
        assert conditions[A].until == pytest.approx(unix() - 3 + 30)
        assert conditions[B].until == pytest.approx(unix() - 2 + 40)
        assert conditions[C].latency == 2.0
        assert conditions[A].latency == 0.0
        assert [condition.in_flight for condition in conditions.values()] == [0, 0, 0]

    simulate(main())


def test_the_wait_that_the_table_has_is_not_what_a_place_asked_for() -> None:
    async def main() -> None:
        health = health_of()
        script = Script(raises("rate_limited"), answers())
        await request(app_of(script, places(A, B), health=health))
        assert health.admits(A)

    simulate(main())


def test_a_failure_that_one_request_provoked_is_not_held_against_the_place() -> None:
    """Another place is tried, and the breaker counts nothing, neither good nor bad."""

    async def main() -> None:
        health = health_of()
        provoked = raises("upstream_error", status=431, held=False)
        for _ in range(20):
            script = Script(provoked, answers())
            assert (await request(app_of(script, places(A, B), health=health))).status == 200
        assert health.conditions()[A].state == "closed"
        broke(health, C)
        await asyncio.sleep(5.1)
        with pytest.raises(Problem):
            await request(app_of(Script(provoked), places(C), health=health))
        assert health.conditions()[C].state == "half_open"

    simulate(main())


@pytest.mark.parametrize(
    ("act", "closes"),
    [
        (raises("content_filtered", status=400), True),
        (raises("invalid_request", status=422), True),
        (raises("audio_not_supported_by_model"), False),  # ours: no upstream was asked
        (raises("upstream_unavailable", status=503), False),
    ],
)
def test_an_answer_of_the_place_closes_its_breaker(act: Act, closes: bool) -> None:
    async def main() -> None:
        health = health_of()
        broke(health, A)
        await asyncio.sleep(5.1)
        with pytest.raises(Problem):
            await request(app_of(Script(act), places(A), health=health))
        assert (health.conditions()[A].state == "closed") is closes
        assert health.latency(A) == 0.0

    simulate(main())


@pytest.mark.parametrize("statuses", [frozenset[int](), STATUSES])
def test_others_do_not_wait_for_the_end_of_a_long_answer(statuses: frozenset[int]) -> None:
    async def main() -> None:
        health = health_of()
        broke(health, A)
        await asyncio.sleep(5.1)
        pings, content, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = Exchange.of(scope)
            exchange.headers_sent_early = True
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})
            await pings.wait()
            exchange.first_content = 1.0
            assert exchange.health_report is not None
            exchange.health_report.answered()
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
            await content.wait()
            await send({"type": "http.response.body", "body": b"2", "more_body": True})
            await over.wait()
            raise Problem("upstream_error")

        app = app_of(Script(stream), places(A, B), health=health, statuses=statuses)
        async with Call(app) as call:
            assert await call.chunk() == b": ping\n\n"
            assert health.conditions()[A].state == "half_open"
            pings.set()
            assert await call.chunk() == b"1"
            content.set()
            assert await call.chunk() == b"2"
            assert health.conditions()[A].state == "closed"
            assert health.in_flight(A) == 1
            over.set()
            assert isinstance(await call.ended(), Problem)
        assert health.in_flight(A) == 0
        assert health.conditions()[A].state == "closed"

    simulate(main())


def test_a_failed_answer_closes_nothing() -> None:
    """Of a probe that is the last try, and so is seen by the client."""

    async def main() -> None:
        health = health_of()
        broke(health, A)
        await asyncio.sleep(5.1)
        answer = await request(app_of(Script(answers(503)), places(A), health=health))
        assert answer.status == 503
        assert health.conditions()[A].state == "open"

    simulate(main())


def test_a_probe_of_an_app_that_says_nothing_of_content() -> None:
    async def main() -> None:
        health = health_of()
        broke(health, A)
        await asyncio.sleep(5.1)
        over = asyncio.Event()

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            for _ in range(2):
                await send({"type": "http.response.body", "body": b"1", "more_body": True})
            await over.wait()
            await send({"type": "http.response.body"})

        async with Call(app_of(Script(stream), places(A), health=health)) as call:
            assert await call.chunk() + await call.chunk() == b"11"
            assert health.conditions()[A].state == "closed"
            over.set()
            await call.done()

    simulate(main())


@pytest.mark.parametrize("content", [0.0, 0.5])
def test_of_who_left_nothing_can_be_said_unless_there_was_content(content: float) -> None:
    served: list[Candidate] = []

    async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        await asyncio.sleep(content)
        exchange.first_content = content
        exchange.outcome = "hung_up"

    async def main() -> None:
        health = health_of()
        app = app_of(
            Script(leaves),
            places(A, B),
            health=health,
            served=lambda exchange, place: served.append(place),
        )
        await request(app)
        assert health.latency(A) == content
        assert health.in_flight(A) == 0
        assert served == []

    simulate(main())


def test_a_cancelled_attempt_has_ended() -> None:
    async def main() -> None:
        health = health_of()
        inside = asyncio.Event()

        async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
            inside.set()
            await asyncio.Event().wait()

        async with Call(app_of(Script(hangs), places(A, B), health=health)) as call:
            await inside.wait()
            assert health.in_flight(A) == 1
            await call.cancel()
        assert health.in_flight(A) == 0
        assert health.reported == [(A, "none")]

    simulate(main())


# How long


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_no_more_attempts_than_allowed(attempts: int) -> None:
    script = Script(*[raises("upstream_error")] * attempts)
    with pytest.raises(Problem):
        ask(app_of(script, places(A, B, C), retry=RetryPolicy(max_attempts=attempts, retries=9)))
    assert len(script.tried) == attempts


def test_no_attempt_begins_after_its_time() -> None:
    script = Script(after(4, raises("upstream_error")), after(7, raises("upstream_timeout")))
    with pytest.raises(Problem) as raised:
        ask(app_of(script, places(A, B, C), retry=RetryPolicy(deadline=10)))
    assert script.times == [0.0, 4.0]
    assert raised.value.kind == "upstream_timeout"


def test_rounds_with_pauses_that_grow() -> None:
    script = Script(*[raises("upstream_error")] * 7, answers())
    retry = RetryPolicy(max_attempts=99, retries=4, backoff=1.0, max_backoff=3.0)
    ask(app_of(script, places(A, B), retry=retry))
    assert script.tried == ["a", "b"] * 4
    assert script.times == [0, 0, 1, 1, 3, 3, 6, 6]


def test_pauses_are_at_random() -> None:
    script = Script(raises("upstream_error"), answers())
    ask(app_of(script, places(A), retry=RetryPolicy(retries=1, backoff=1.0), chance=0.25))
    assert script.times == [0, 0.25]


def test_rounds_come_to_an_end() -> None:
    script = Script(*[raises("upstream_error")] * 4)
    with pytest.raises(Problem):
        ask(app_of(script, places(A, B), retry=RetryPolicy(max_attempts=99, retries=1)))
    assert script.tried == ["a", "b", "a", "b"]


def test_a_pause_that_would_take_too_long_is_not_begun() -> None:
    script = Script(after(9.5, raises("upstream_error")))
    with pytest.raises(Problem):
        ask(app_of(script, places(A), retry=RetryPolicy(retries=1, backoff=1.0, deadline=10)))
    assert script.times == [0.0]


def test_a_round_waits_as_long_as_it_was_asked_to() -> None:
    async def main() -> None:
        script = Script(raises("rate_limited", retry_after=3), answers())
        app = app_of(
            script, places(A), retry=RetryPolicy(retries=1, backoff=0.5), health=health_of()
        )
        await request(app, timeout=100)
        assert script.times == [0.0, pytest.approx(3.0)]

    simulate(main())


def test_a_round_is_without_those_who_want_to_be_left_alone_for_longer() -> None:
    async def main() -> None:
        script = Script(raises("rate_limited", retry_after=60), raises("upstream_error"), answers())
        app = app_of(
            script, places(A, B), retry=RetryPolicy(retries=1, backoff=0.5), health=health_of()
        )
        await request(app, timeout=100)
        assert script.tried == ["a", "b", "b"]

    simulate(main())


def test_long_retry_after_is_not_waited_for() -> None:
    async def main() -> None:
        script = Script(raises("rate_limited", retry_after=9))
        app = app_of(
            script, places(A), retry=RetryPolicy(retries=1, max_backoff=8.0), health=health_of()
        )
        with pytest.raises(Problem):
            await request(app, timeout=100)
        assert script.times == [0.0]

    simulate(main())


def test_a_client_that_leaves_during_a_pause() -> None:
    async def main() -> None:
        script = Script(raises("upstream_error"))
        retry = RetryPolicy(retries=1, backoff=8.0)
        async with Call(app_of(script, places(A), retry=retry), timeout=100) as call:
            await asyncio.sleep(2)
            call.hang_up()
            record = await call.done()
            assert asyncio.get_running_loop().time() == 2
        assert record.messages == []
        assert Exchange.of(call.scope).outcome == "hung_up"
        assert script.tried == ["a"]

    simulate(main())


@pytest.mark.parametrize("unanswered", [True, False])
@pytest.mark.parametrize("goes_on", [True, False])
def test_what_may_have_been_worked_on(unanswered: bool, goes_on: bool) -> None:
    """Tried elsewhere only where that is wanted; what was refused before it was sent, always."""
    script = Script(raises("upstream_timeout", unanswered=unanswered), answers())
    app = app_of(script, places(A, B), retry=RetryPolicy(retry_unanswered=goes_on))
    if unanswered and not goes_on:
        with pytest.raises(Problem):
            ask(app)
        assert script.tried == ["a"]
    else:
        assert ask(app).status == 200


# Other models


def test_from_which_model_and_how_deep() -> None:
    script = Script(*[raises("upstream_error")] * 3)
    with pytest.raises(Problem):
        ask(app_of(script, OTHERS))
    assert script.found == [("", 0), ("large", 1), ("large", 2)]


def test_depth_counts_models_and_not_places() -> None:
    where = [*places(A, B), Candidate(A, "small", "large"), Candidate(C, "small", "large")]
    script = Script(*[raises("upstream_error")] * 3, answers())
    ask(app_of(script, where))
    assert script.found == [("", 0), ("", 0), ("large", 1), ("large", 1)]


def test_another_model_at_once_has_depth_one() -> None:
    script = Script(answers())
    ask(app_of(script, OTHERS[1:]))
    assert script.found == [("large", 1)]


def test_back_at_the_model_that_was_asked_for() -> None:
    script = Script(*[raises("upstream_error")] * 2, answers())
    ask(app_of(script, OTHERS[:2], retry=RetryPolicy(retries=1)))
    assert script.found == [("", 0), ("large", 1), ("", 0)]


def test_what_stands_further_out_may_have_taken_another_model_already() -> None:
    script = Script(raises("upstream_error"), answers())
    scope = http_scope("POST", headers={"content-length": "0"})
    exchange = Exchange.of(scope)
    exchange.fallback_from, exchange.fallback_depth = "huge", 1
    where = [Candidate(A, "large"), Candidate(B, "small", "large")]

    async def main() -> None:
        async with Call(app_of(script, where), scope) as call:
            await call.done()

    simulate(main())
    assert script.found == [("huge", 1), ("huge", 2)]


def test_refusal_of_another_model_is_not_answered() -> None:
    script = Script(
        raises("upstream_error"), raises("context_length_exceeded", status=400), answers()
    )
    assert ask(app_of(script, OTHERS)).status == 200
    assert script.tried == ["a", "b", "c"]


def test_nor_is_it_where_it_was_the_last() -> None:
    script = Script(
        raises("upstream_timeout"), raises("context_length_exceeded"), raises("invalid_request")
    )
    with pytest.raises(Problem) as raised:
        ask(app_of(script, OTHERS))
    assert raised.value.kind == "upstream_timeout"


def test_but_where_another_model_is_the_first_its_refusal_is_the_callers() -> None:
    script = Script(raises("context_length_exceeded"))
    with pytest.raises(Problem) as raised:
        ask(app_of(script, OTHERS[1:]))
    assert raised.value.kind == "context_length_exceeded"


# What remains


@pytest.mark.parametrize(
    ("acts", "retry"),
    [
        ([raises("upstream_error"), answers()], RetryPolicy()),
        ([raises("upstream_error"), raises("upstream_timeout")], RetryPolicy()),
        ([raises("upstream_error"), raises("invalid_request")], RetryPolicy()),
        ([raises("upstream_error")], RetryPolicy(max_attempts=1)),
        ([raises("upstream_error"), raises("upstream_error")], RetryPolicy(deadline=0.0)),
        ([answers(503), raises("upstream_error")], RetryPolicy()),
    ],
)
@pytest.mark.parametrize("other", ["", "large"])
def test_no_problem_stays_until_the_next_garbage_collection(
    acts: list[Act], retry: RetryPolicy, other: str
) -> None:
    """A traceback holds frames, and those hold prompts of megabytes."""
    alive: list[weakref.ref[Problem]] = []

    def watched(act: Act) -> Act:
        async def watching(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await act(scope, receive, send)
            except Problem as problem:
                alive.append(weakref.ref(problem))
                raise

        return watching

    where = [Candidate(A, "large"), Candidate(B, "small", other)]

    async def run(app: FallbackMiddleware) -> None:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        with suppress(Problem):
            await app(http_scope("POST"), receive, send)
        assert alive
        assert [ref() for ref in alive] == [None] * len(alive)

    gc.collect()
    gc.disable()
    try:
        simulate(run(app_of(Script(*map(watched, acts)), where, retry=retry)))
    finally:
        gc.enable()


@pytest.mark.parametrize("tried", [0, 1])
def test_a_target_that_cannot_be_asked_is_passed_over_after_a_failure(tried: int) -> None:
    """Of another dialect, say, in which the request cannot be put."""

    def failing(scope: Scope) -> None:
        exchange = Exchange.of(scope)
        exchange.attempts.extend([Attempt(A, 0.0, status=500)] * tried)

    async def first(scope: Scope, receive: Receive, send: Send) -> None:
        failing(scope)
        raise Problem("upstream_error")

    script = Script(first, raises("invalid_request"), answers())
    app = app_of(script, places(A, B, C))
    if tried:  # an app that notes its attempts, and has made none
        assert ask(app).status == 200
        assert script.tried == ["a", "b", "c"]
    else:  # one of which that is not known
        with pytest.raises(Problem) as raised:
            ask(app)
        assert raised.value.kind == "invalid_request"
