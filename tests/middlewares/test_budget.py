"""Who may spend, what a request costs in the end, and what the ledger says of it.

The app inside does to the exchange what a forwarder does, by a script. Figures are small: an input
token costs 1000 nano-credits, an output token 2000.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from middlewares import Attempt, ErrorsMiddleware, Exchange, Principal, Problem, Target, Usage
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.budget import BudgetMiddleware, Quote, credits_used
from middlewares.exchange import Team
from middlewares.limits import Budget, Window
from middlewares.pricing import NANO, Price
from middlewares.stores import StoreUnavailable
from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.base import RENEWAL, Unknown
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.memory import MemoryLedgerStore
from middlewares.stores.ledger.writer import LedgerWriter
from tests.asgi import Call, Recorded, http_scope

pytestmark = pytest.mark.simulated_time

IN, OUT = 1000, 2000
PRICE = Price(input=NANO, output=2 * NANO, cache_read=NANO // 10, cache_write=NANO)
HOUR = 3600.0
NOON = datetime(2026, 8, 8, 12, tzinfo=UTC).timestamp()
EVENT_STREAM = [(b"content-type", b"text/event-stream")]

Steps = Sequence[Any]


def five_hours(cap: int, **fields: Any) -> Budget:
    return Budget(windows=(Window("5h", 5 * HOUR, cap),), **fields)


class Scripted:
    """An app that takes `steps`: an Exchange's fields to set, bytes to stream, an event to wait
    for, or something to raise or answer with."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        exchange = Exchange.of(scope)
        started = False
        for step in self.steps:
            if isinstance(step, dict):
                for name, value in step.items():
                    setattr(exchange, name, value)
            elif isinstance(step, bytes):
                if not started:
                    head = {"type": "http.response.start", "status": 200, "headers": EVENT_STREAM}
                    await send(head)
                    started = True
                await send({"type": "http.response.body", "body": step, "more_body": True})
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, type):
                raise step("scripted")
            else:
                await step(scope, receive, send)
                return
        if not started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Billing:
    """Counters, accounts and a ledger in memory, around budgeted apps, with a clock to set."""

    def __init__(
        self,
        counters: type[MemoryCounters] = MemoryCounters,
        ledger_writer: type[LedgerWriter] = LedgerWriter,
    ) -> None:
        self.now = NOON
        self.counters = counters(clock=lambda: self.now)
        self.ledger = MemoryLedgerStore()
        self.accounts = Accounts(self.counters, self.ledger, clock=lambda: self.now)
        self.ledger_writer = ledger_writer(self.ledger, None, committed=self.accounts.committed)
        self.count = 0

    def app(
        self,
        inner: ASGIApp,
        budget: Budget,
        *,
        tokens: tuple[int, int] = (100, 200),
        price: Price = PRICE,
        units: Usage | None = None,
        team: Budget | None = None,
    ) -> BudgetMiddleware:
        bill = Quote(budget, "pro", *tokens, price, units=units, team_budget=team)
        return BudgetMiddleware(
            inner,
            accounts=self.accounts,
            ledger_writer=self.ledger_writer,
            quote=lambda exchange: bill,
            clock=lambda: self.now,
        )

    def scope(self, **fields: Any) -> Scope:
        self.count += 1
        scope = http_scope("POST", "/v1/chat/completions")
        exchange = Exchange.of(scope)
        exchange.principal = Principal("key-1", owner="ann")
        exchange.request_id = f"r{self.count}"
        for name, value in fields.items():
            setattr(exchange, name, value)
        return scope

    async def ask(self, app: ASGIApp, **fields: Any) -> Recorded:
        """One request to its end; what is raised is answered as it is in a chain."""
        async with Call(ErrorsMiddleware(app), self.scope(**fields)) as call:
            return await call.done()

    async def rows(self) -> list[Entry]:
        """Every row, oldest first; all of them in the ledger."""
        await self.ledger_writer.flush()
        return [entry for entry in reversed(await self.ledger.page()) if entry.kind == "use"]

    async def row(self) -> Entry:
        [row] = await self.rows()
        return row

    async def used(self, budget: Budget, account: str = "key-1") -> tuple[int, int]:
        """Used of the first window, held included; and held. By the counters."""
        standing = await self.accounts.status(account, budget)
        held = sum(standing.held.values())
        return standing.windows[0].used if standing.windows else -standing.credits, held

    async def settled(self, budget: Budget) -> int:
        """What is spent, when nothing is held any more, and ledger and counters agree."""
        rows = await self.rows()
        used, held = await self.used(budget)
        assert held == 0
        assert self.accounts.holds == 0
        assert used == sum(row.cost for row in rows if row.starts)
        return used

    async def later(self, seconds: float) -> None:
        """Time passes, in a process that lives; what has ended is in the ledger."""
        await self.ledger_writer.flush()
        while seconds > 0:
            self.now += min(seconds, RENEWAL)
            self.counters.renew()
            seconds -= RENEWAL

    async def grant(self, amount: int, account: str = "key-1") -> None:
        self.count += 1
        entry = Entry(
            id=f"g{self.count}",
            kind="credit",
            account=account,
            at=self.now,
            ended_at=self.now,
            granted=amount,
        )
        await self.ledger.append([entry])
        await self.accounts.refresh()


@asynccontextmanager
async def opened(billing: Billing) -> AsyncIterator[Billing]:
    await billing.ledger_writer.start()
    yield billing
    await billing.ledger_writer.aclose()
    await billing.accounts.aclose()
    await billing.counters.aclose()


@pytest.fixture
async def billing() -> AsyncIterator[Billing]:
    async with opened(Billing()) as billing:
        yield billing


def attempts(*statuses: int) -> dict[str, Any]:
    """What an exchange has of upstreams that were asked."""
    return {
        "attempts": [
            Attempt(Target(f"up{n}", "m"), started=1.0, status=status, ended=1.5)
            for n, status in enumerate(statuses)
        ],
        "served": "model-1",
        "tariff": PRICE,
    }


ASKED = attempts(200)
COUNTED = {"usage": Usage(90, 50, cache_read=20), "usage_reported": True, "outcome": "completed"}
COUNTED_COST = 90 * IN + 50 * OUT + 20 * 100
BOUND = 100 * IN + 200 * OUT


# What it costs in the end


@pytest.mark.parametrize("stream", [False, True])
async def test_twins_cost_what_the_upstream_counted(billing: Billing, stream: bool) -> None:
    budget = five_hours(NANO)
    steps: Steps = [b"data: 1\n\n", b"data: 2\n\n"] if stream else []
    inner = Scripted(ASKED, {"first_content": 1.0, "output_estimate": 70}, *steps, COUNTED)
    scope = billing.scope(stream=stream, model="m1", endpoint="chat.completions")
    async with Call(billing.app(inner, budget), scope) as call:
        assert (await call.done()).status == 200
    assert Exchange.of(scope).cost == COUNTED_COST
    row = await billing.row()
    assert row.cost == COUNTED_COST
    assert (row.input, row.output, row.cache_read) == (90, 50, 20)
    assert (row.measured, row.ended, row.stream) == (True, "completed", stream)
    assert (row.id, row.account, row.owner, row.plan) == ("r1", "key-1", "ann", "pro")
    assert (row.model, row.asked, row.endpoint) == ("model-1", "m1", "chat.completions")
    assert (row.reserved, row.from_credits, row.starts) == (BOUND, 0, {"5h": NOON})
    assert row.first_content_ms is not None
    assert row.duration_ms > 0
    assert await billing.settled(budget) == COUNTED_COST


async def test_many_attempts_settle_once(billing: Billing) -> None:
    """QuantumNous/new-api#7486: billed twice, once for each try."""
    budget = five_hours(NANO)
    inner = Scripted(attempts(503, 429, 200), COUNTED)
    await billing.ask(billing.app(inner, budget))
    row = await billing.row()
    assert row.cost == COUNTED_COST
    assert [(tried.upstream, tried.status, tried.ms) for tried in row.attempts] == [
        ("up0", 503, 500.0),
        ("up1", 429, 500.0),
        ("up2", 200, 500.0),
    ]
    assert await billing.settled(budget) == COUNTED_COST


@pytest.mark.parametrize("answered", [True, False])
async def test_usage_of_failed_attempts_is_paid(billing: Billing, answered: bool) -> None:
    """Each at the price of its own model; nothing for those that reported nothing."""
    budget = five_hours(NANO)
    asked = attempts(500, 503, 200 if answered else 502)
    asked["attempts"][0].usage = Usage(40, 2, cache_read=5)
    asked["attempts"][0].cost = 777
    ended = COUNTED if answered else {"outcome": "failed"}
    await billing.ask(billing.app(Scripted(asked, ended), budget))
    row = await billing.row()
    assert row.cost == 777 + (COUNTED_COST if answered else 0)
    used = (130, 52, 25) if answered else (40, 2, 5)
    assert (row.input, row.output, row.cache_read) == used
    assert await billing.settled(budget) == row.cost


async def test_usage_of_the_only_attempt_is_paid_where_none_followed(billing: Billing) -> None:
    """Another was about to be made, and could not be."""
    budget = five_hours(NANO)
    asked = attempts(200)
    asked["attempts"][0].usage = Usage(40)
    asked["attempts"][0].cost = 777
    await billing.ask(billing.app(Scripted(asked, {"outcome": "failed"}), budget))
    row = await billing.row()
    assert (row.cost, row.input, row.output) == (777, 40, 0)
    assert await billing.settled(budget) == 777


@pytest.mark.parametrize("status", [0, 200, 503])
async def test_client_gone_between_two_attempts_pays_the_first(
    billing: Billing, status: int
) -> None:
    """It has failed, whether it was connected or not, so that nothing is estimated."""
    budget = five_hours(NANO)
    asked = attempts(status)
    asked["attempts"][0].problem = "upstream_unavailable"
    await billing.ask(billing.app(Scripted(asked, LEFT), budget))
    row = await billing.row()
    assert (row.cost, row.input, row.ended) == (0, 0, "hung_up")
    reported = {"usage": Usage(60, 3), "request_id": "r2"}
    asked = attempts(200)
    asked["attempts"][0].problem = "upstream_error"
    await billing.ask(billing.app(Scripted(asked, reported, LEFT), budget))
    assert await billing.settled(budget) == 60 * IN + 3 * OUT


async def test_an_answer_of_a_model_without_a_price_is_free(billing: Billing) -> None:
    """Although what was set aside was for a dearer one."""
    budget = five_hours(NANO)
    asked = {**ASKED, "tariff": None, "fallback_from": "dear"}
    await billing.ask(billing.app(Scripted(asked, COUNTED), budget))
    row = await billing.row()
    assert (row.cost, row.input, row.fallback_from) == (0, 90, "dear")
    assert await billing.settled(budget) == 0


@pytest.mark.parametrize("raised", [False, True])
async def test_a_refusal_inside_settles_nothing(billing: Billing, raised: bool) -> None:
    budget = five_hours(NANO)

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        if raised:
            raise Problem("model_not_found")
        await Problem("model_not_found")(scope, receive, send)

    assert (await billing.ask(billing.app(inner, budget))).status == 404
    assert await billing.rows() == []
    assert await billing.settled(budget) == 0


async def test_one_who_left_before_anything_was_asked_pays_nothing(billing: Billing) -> None:
    """QuantumNous/new-api#4168: 0 tokens, billed all the same."""
    budget = five_hours(NANO)
    await billing.ask(billing.app(Scripted({"outcome": "hung_up"}), budget))
    assert await billing.rows() == []
    assert await billing.settled(budget) == 0


LEFT = {"outcome": "hung_up"}
CUT = {"outcome": "cut"}
COMPLETED = {"outcome": "completed"}


@pytest.mark.parametrize(
    ("steps", "tokens", "ended"),
    [
        # QuantumNous/new-api#5287 to #5290: what of an answer has passed is output, and no more.
        ([{"output_estimate": 7}, LEFT], (100, 7), "hung_up"),
        # QuantumNous/new-api#5235: all of it was given back when a stream broke.
        ([{"output_estimate": 7}, CUT], (100, 7), "cut"),
        ([LEFT], (100, 0), "hung_up"),
        ([{"usage": Usage(60, 3), "output_estimate": 7}, LEFT], (60, 7), "hung_up"),
        ([{"usage": Usage(60, 9), "output_estimate": 7}, LEFT], (60, 9), "hung_up"),
        ([{"usage": Usage(0, 9), "output_estimate": 7}, CUT], (100, 9), "cut"),
        ([{"output_estimate": 7}, COMPLETED], (100, 7), "completed"),
        # QuantumNous/new-api#7062: a full answer for nothing, as no usage came with it.
        ([COMPLETED], (100, 1), "completed"),
        ([{"usage": Usage(60, 9), "output_estimate": 7}, COMPLETED], (60, 9), "completed"),
    ],
)
async def test_what_was_not_counted_is_estimated_and_says_so(
    billing: Billing, steps: Steps, tokens: tuple[int, int], ended: str
) -> None:
    budget = five_hours(NANO)
    await billing.ask(billing.app(Scripted(ASKED, *steps), budget))
    row = await billing.row()
    assert (row.input, row.output) == tokens
    assert (row.ended, row.measured) == (ended, False)
    assert await billing.settled(budget) == row.cost == tokens[0] * IN + tokens[1] * OUT


@pytest.mark.parametrize(
    ("on_hangup", "outcome", "ended"),
    [("drain", "hung_up", "drained"), ("cancel", "hung_up", "hung_up"), ("drain", "cut", "cut")],
)
async def test_what_was_heard_out_costs_what_was_counted(
    billing: Billing, on_hangup: Any, outcome: str, ended: str
) -> None:
    """QuantumNous/new-api#7062: the client had left, and the full answer was billed as nothing."""
    budget = five_hours(NANO, on_hangup=on_hangup)
    inner = Scripted(ASKED, {"output_estimate": 7}, COUNTED, {"outcome": outcome})
    await billing.ask(billing.app(inner, budget))
    row = await billing.row()
    assert (row.cost, row.measured, row.ended) == (COUNTED_COST, True, ended)
    assert row.on_hangup == on_hangup
    assert await billing.settled(budget) == COUNTED_COST


async def test_a_drain_that_was_not_heard_to_its_end_is_an_estimate(billing: Billing) -> None:
    budget = five_hours(NANO, on_hangup="drain")
    await billing.ask(billing.app(Scripted(ASKED, {"output_estimate": 7}, LEFT), budget))
    row = await billing.row()
    assert (row.ended, row.measured, row.on_hangup) == ("hung_up", False, "drain")
    assert row.cost == 100 * IN + 7 * OUT


@pytest.mark.parametrize("reported", [None, Usage(40)])
@pytest.mark.parametrize("answered", [False, True])
async def test_a_failure_costs_only_what_the_upstream_reported(
    billing: Billing, reported: Usage | None, answered: bool
) -> None:
    budget = five_hours(NANO)
    problem = Problem("upstream_error")
    ending: Any = problem if answered else lambda *_: _raise(problem)
    inner = Scripted(attempts(500, 500), {"usage": reported}, ending)
    assert (await billing.ask(billing.app(inner, budget))).status == 502
    row = await billing.row()
    assert (row.ended, row.status) == ("failed", 0 if answered else 502)
    assert len(row.attempts) == 2
    assert row.cost == (40 * IN if reported else 0)
    assert await billing.settled(budget) == row.cost


async def _raise(problem: Problem) -> None:
    raise problem


async def test_a_stream_that_breaks_is_paid_as_far_as_it_came(billing: Billing) -> None:
    budget = five_hours(NANO)
    inner = Scripted(
        ASKED, {"first_content": 1.0}, b"data: 1\n\n", {"output_estimate": 3}, RuntimeError
    )
    answer = await billing.ask(billing.app(inner, budget))
    assert b"error" in answer.body
    row = await billing.row()
    assert (row.ended, row.cost) == ("cut", 100 * IN + 3 * OUT)
    assert await billing.settled(budget) == row.cost


@pytest.mark.parametrize(
    ("steps", "ended", "cost"),
    [
        ([], None, 0),
        ([ASKED], "hung_up", 100 * IN),
        ([ASKED, {"first_content": 1.0, "output_estimate": 3}, b"data: 1\n\n"], "cut", 106 * IN),
        ([ASKED, {"first_content": 1.0}, b"data: 1\n\n", COUNTED], "completed", COUNTED_COST),
    ],
)
async def test_nothing_is_settled_twice_when_cancelled(
    billing: Billing, steps: Steps, ended: str | None, cost: int
) -> None:
    """In any phase; a server may cancel when the client leaves, or when it stops."""
    budget = five_hours(NANO)
    inside = asyncio.Event()

    async def here(scope: Scope, receive: Receive, send: Send) -> None:
        inside.set()
        await asyncio.Event().wait()

    async with Call(billing.app(Scripted(*steps, here), budget), billing.scope()) as call:
        await inside.wait()
        assert (await billing.used(budget))[1] == BOUND
        await call.cancel()
        assert isinstance(call.record.raised, asyncio.CancelledError)
    rows = await billing.rows()
    assert [row.ended for row in rows] == ([ended] if ended else [])
    assert await billing.settled(budget) == cost


async def test_cancelled_while_it_waits_for_the_counters(billing: Billing) -> None:
    """The answer may have been given, and the client did not take it."""
    budget = five_hours(NANO)
    asked = asyncio.Event()

    class Slow(MemoryCounters):
        in_process = False

        async def reserve(self, *args: Any, **rest: Any) -> Any:
            answer = await super().reserve(*args, **rest)
            if not isinstance(answer, Unknown):
                asked.set()
                await asyncio.Event().wait()
            return answer

    async with opened(Billing(Slow)) as slow:
        inner = Scripted(ASKED, COUNTED)
        async with Call(slow.app(inner, budget), slow.scope()) as call:
            await asked.wait()
            await call.cancel()
        assert inner.calls == 0
        assert await slow.rows() == []
        assert await slow.settled(budget) == 0


async def test_the_open_row_is_what_is_paid_if_the_process_dies() -> None:
    opening: list[Entry] = []

    class Recording(LedgerWriter):
        def open(self, entry: Entry) -> None:
            opening.append(entry)
            super().open(entry)

    async with opened(Billing(MemoryCounters, Recording)) as billing:
        await billing.ask(billing.app(Scripted(ASKED, COUNTED), five_hours(NANO)))
        await billing.ask(billing.app(Scripted(ASKED, COUNTED), Budget()))
        await billing.grant(NANO)
        await billing.ask(billing.app(Scripted(ASKED, COUNTED), Budget(credits=True)))
    windows, free, credits_ = opening
    for entry in opening:
        assert (entry.ended, entry.measured, entry.input, entry.output) == ("lost", False, 100, 0)
        assert entry.cost == 100 * IN
    assert (windows.starts, windows.from_credits, windows.reserved) == ({"5h": NOON}, 0, BOUND)
    assert (free.starts, free.from_credits, free.reserved) == ({}, 0, 0)
    assert (credits_.starts, credits_.from_credits, credits_.reserved) == ({}, 100 * IN, BOUND)


# Who may spend


async def test_what_costs_nothing_by_its_nature_passes_untouched(billing: Billing) -> None:
    inner = Scripted(COUNTED)
    app = BudgetMiddleware(
        inner,
        accounts=billing.accounts,
        ledger_writer=billing.ledger_writer,
        quote=lambda exchange: None,
    )
    assert (await billing.ask(app)).status == 200
    assert await billing.rows() == []


async def test_account_without_a_limit_is_never_refused(billing: Billing) -> None:
    bill = Quote(Budget(on_hangup="drain"), "", 100, 200, PRICE)
    app = BudgetMiddleware(
        Scripted(ASKED, COUNTED),
        accounts=None,
        ledger_writer=billing.ledger_writer,
        quote=lambda exchange: bill,
    )
    scope = billing.scope()
    async with Call(app, scope) as call:
        assert (await call.done()).status == 200
    assert Exchange.of(scope).on_hangup == "drain"
    row = await billing.row()
    assert (row.cost, row.starts, row.reserved) == (COUNTED_COST, {}, 0)


IMAGES = Price(image=NANO // 10, character=NANO // 1000)


async def test_units_are_reserved_before_the_request(billing: Billing) -> None:
    inner = Scripted({**ASKED, "tariff": IMAGES}, {**COUNTED, "usage": Usage(images=4)})
    budget = five_hours(NANO)
    app = billing.app(inner, budget, tokens=(0, 0), price=IMAGES, units=Usage(images=4))
    for _ in range(2):
        assert (await billing.ask(app)).status == 200
    answer = await billing.ask(app)
    assert (answer.status, answer.json()["error"]["code"]) == (429, "budget_exceeded")
    assert inner.calls == 2
    assert [(row.images, row.cost) for row in await billing.rows()] == [(4, 4 * NANO // 10)] * 2
    assert await billing.settled(budget) == 8 * NANO // 10


async def test_the_open_row_has_the_units_of_its_cost_and_the_closed_row_what_came() -> None:
    opening: list[Entry] = []

    class Recording(LedgerWriter):
        def open(self, entry: Entry) -> None:
            opening.append(entry)
            super().open(entry)

    async with opened(Billing(MemoryCounters, Recording)) as billing:
        inner = Scripted({**attempts(503), "tariff": IMAGES, "outcome": "failed"})
        units = Usage(images=4)
        app = billing.app(inner, five_hours(NANO), tokens=(0, 0), price=IMAGES, units=units)
        await billing.ask(app)
        (row,) = await billing.rows()
    assert (opening[0].images, opening[0].cost) == (4, IMAGES.cost(units))
    assert (row.images, row.cost) == (0, 0)


async def test_units_that_no_answer_counted_are_charged_as_quoted(billing: Billing) -> None:
    inner = Scripted({**ASKED, "tariff": IMAGES, "first_content": 1.0, "outcome": "hung_up"})
    budget = five_hours(NANO)
    app = billing.app(inner, budget, tokens=(0, 0), price=IMAGES, units=Usage(characters=300))
    await billing.ask(app)
    row = await billing.row()
    assert (row.characters, row.cost, row.measured) == (300, 300 * NANO // 1000, False)


async def test_units_of_a_refused_request_cost_nothing(billing: Billing) -> None:
    inner = Scripted({**attempts(503), "tariff": IMAGES, "outcome": "failed"})
    app = billing.app(
        inner, five_hours(NANO), tokens=(0, 0), price=IMAGES, units=Usage(images=3, jobs=1)
    )
    await billing.ask(app)
    row = await billing.row()
    assert (row.images, row.jobs, row.cost) == (0, 0, 0)


async def test_removing_a_layer_opens_no_door(billing: Billing) -> None:
    inner = Scripted(ASKED, COUNTED)
    answer = await billing.ask(billing.app(inner, five_hours(NANO)), principal=None)
    assert (answer.status, answer.json()["error"]["code"]) == (401, "missing_key")
    bill = Quote(five_hours(NANO), "", 100, 200, PRICE)
    app = BudgetMiddleware(
        inner, accounts=None, ledger_writer=billing.ledger_writer, quote=lambda exchange: bill
    )
    assert (await billing.ask(app)).status == 503
    assert inner.calls == 0


async def test_without_request_ids_each_has_one_of_its_own(billing: Billing) -> None:
    budget = five_hours(NANO)
    app = billing.app(Scripted(ASKED, COUNTED), budget)
    for _ in range(2):
        await billing.ask(app, request_id="")
    assert len({row.id for row in await billing.rows()}) == 2
    assert await billing.settled(budget) == 2 * COUNTED_COST


async def test_a_cap_holds_however_many_ask_at_once(billing: Billing) -> None:
    """BerriAI/litellm#34732, #40095, #11083: budgets passed by requests that ran together."""
    budget = five_hours(5 * BOUND)
    go = asyncio.Event()
    inner = Scripted(ASKED, go, {**COUNTED, "usage": Usage(100, 200)})
    app = billing.app(inner, budget)
    calls = [asyncio.create_task(billing.ask(app)) for _ in range(50)]
    async with asyncio.timeout(10):
        while inner.calls < 5:
            await asyncio.sleep(0)
    go.set()
    statuses = [answer.status for answer in await asyncio.gather(*calls)]
    assert statuses.count(200) == 5
    assert statuses.count(429) == 45
    assert await billing.settled(budget) == 5 * BOUND
    assert (await billing.ask(app)).status == 429


async def test_free_models_pass_when_all_is_spent(billing: Billing) -> None:
    budget = five_hours(BOUND)
    inner = Scripted(ASKED, {**COUNTED, "usage": Usage(100, 200)})
    assert (await billing.ask(billing.app(inner, budget))).status == 200
    assert (await billing.ask(billing.app(inner, budget))).status == 429
    free = Scripted({**ASKED, "tariff": Price()}, COUNTED)
    assert (await billing.ask(billing.app(free, budget, price=Price()))).status == 200
    *_, row = await billing.rows()
    assert (row.cost, row.output) == (0, 50)
    assert await billing.settled(budget) == BOUND


async def test_input_that_is_written_to_a_cache_is_reserved_at_its_price(billing: Billing) -> None:
    price = Price(input=NANO, output=2 * NANO, cache_write=5 * NANO // 4)
    written = Usage(output=200, cache_write=100)
    inner = Scripted({**ASKED, "tariff": price}, {**COUNTED, "usage": written})
    await billing.ask(billing.app(inner, five_hours(NANO), price=price))
    row = await billing.row()
    assert row.cost == row.reserved == 100 * 1250 + 200 * OUT


async def test_spending_counts_in_the_period_it_was_admitted_in(billing: Billing) -> None:
    """BerriAI/litellm#34733: who wrote last, after a window was over, set what was spent in it."""
    budget = five_hours(NANO)
    inside, go = asyncio.Event(), asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        inside.set()
        await go.wait()
        await Scripted(COUNTED)(scope, receive, send)

    async with Call(billing.app(Scripted(ASKED, wait), budget), billing.scope()) as late:
        await inside.wait()
        await billing.later(5 * HOUR)
        await billing.ask(billing.app(Scripted(ASKED, COUNTED), budget))
        go.set()
        await late.done()
    first, second = await billing.rows()
    assert (first.starts, second.starts) == ({"5h": NOON}, {"5h": NOON + 5 * HOUR})
    assert await billing.used(budget) == (COUNTED_COST, 0)
    await billing.counters.invalidate("key-1")
    assert await billing.used(budget) == (COUNTED_COST, 0)


async def test_a_calendar_month_is_over_when_it_is(billing: Billing) -> None:
    budget = Budget(windows=(Window("calendar month", None, BOUND, aligned=True),))
    app = billing.app(Scripted(ASKED, {**COUNTED, "usage": Usage(100, 200)}), budget)
    assert (await billing.ask(app)).status == 200
    answer = await billing.ask(app)
    assert answer.status == 429
    assert answer.json()["error"]["reset_at"] == "2026-09-01T00:00:00Z"
    await billing.later(datetime(2026, 8, 31, 23, 59, 59, tzinfo=UTC).timestamp() - NOON)
    assert (await billing.ask(app)).status == 429
    await billing.later(1)
    assert (await billing.ask(app)).status == 200


async def test_every_window_holds(billing: Billing) -> None:
    budget = Budget(
        windows=(Window("5h", 5 * HOUR, 10 * BOUND), Window("7d", 7 * 24 * HOUR, BOUND)),
    )
    app = billing.app(Scripted(ASKED, {**COUNTED, "usage": Usage(100, 200)}), budget)
    assert (await billing.ask(app)).status == 200
    await billing.later(6 * HOUR)
    answer = await billing.ask(app)
    assert (answer.status, answer.json()["error"]["window"]) == (429, "7d")


async def test_credits_are_spent_where_the_windows_are(billing: Billing) -> None:
    budget = five_hours(BOUND, credits=True)
    await billing.grant(BOUND)
    full = {**COUNTED, "usage": Usage(100, 200)}
    app = billing.app(Scripted(ASKED, full), budget)
    assert [(await billing.ask(app)).status for _ in range(3)] == [200, 200, 429]
    first, second = await billing.rows()
    assert (first.from_credits, first.starts) == (0, {"5h": NOON})
    assert (second.from_credits, second.starts) == (BOUND, {})
    await billing.later(5 * HOUR)
    assert (await billing.ask(app)).status == 200


async def test_credits_alone(billing: Billing) -> None:
    budget = Budget(credits=True)
    app = billing.app(Scripted(ASKED, COUNTED), budget)
    refused = await billing.ask(app)
    assert (refused.status, refused.header("x-should-retry")) == (429, "false")
    error = refused.json()["error"]
    assert error == {
        "message": "The credits are used up: 0.00 remaining.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_credits",
        "remaining": "0.00",
        "reset_at": None,
    }
    await billing.grant(NANO)
    assert (await billing.ask(app)).status == 200
    row = await billing.row()
    assert row.from_credits == row.cost == COUNTED_COST
    assert await billing.used(budget) == (COUNTED_COST - NANO, 0)


async def test_the_last_of_it_is_lent_to_one_at_a_time(billing: Billing) -> None:
    """A tight hold: less than the request may cost, enough for a beginning."""
    cap = 100 * IN + 30 * OUT + 1
    budget = five_hours(cap, cut_off=True)
    inside, go = asyncio.Event(), asyncio.Event()
    cut_off: list[int] = []

    async def see(scope: Scope, receive: Receive, send: Send) -> None:
        cut_off.append(Exchange.of(scope).cut_off)
        inside.set()
        await go.wait()
        await Scripted({**COUNTED, "usage": Usage(90, 31)})(scope, receive, send)

    app = billing.app(Scripted(ASKED, see), budget)
    first = asyncio.create_task(billing.ask(app))
    await inside.wait()
    assert (await billing.ask(app)).status == 429
    go.set()
    assert (await first).status == 200
    assert cut_off == [30]
    row = await billing.row()
    assert (row.reserved, row.cost) == (cap, 90 * IN + 31 * OUT)
    assert await billing.settled(budget) == row.cost


@pytest.mark.parametrize(("on", "cut_off"), [(True, 200), (False, 0)])
async def test_cut_off_is_reported_when_it_is_wanted(
    billing: Billing, on: bool, cut_off: int
) -> None:
    scope = billing.scope()
    app = billing.app(Scripted(ASKED, COUNTED), five_hours(NANO, cut_off=on))
    async with Call(app, scope) as call:
        await call.done()
    assert Exchange.of(scope).cut_off == cut_off


# What those read who are refused


async def spent_up(billing: Billing, budget: Budget, **fields: Any) -> Recorded:
    """The refusal after a request that has left 0.12 credits of the cap."""
    cap = budget.windows[0].cap
    tokens = (cap - nano_of("0.12")) // IN
    await billing.ask(billing.app(Scripted(ASKED, {**COUNTED, "usage": Usage(tokens)}), budget))
    await billing.later(60)
    return await billing.ask(billing.app(Scripted(), budget, tokens=(300_000, 0)), **fields)


def nano_of(credits_: str) -> int:
    return int(float(credits_) * NANO)


MESSAGE = (
    "The 5h spend limit of 5.00 credits is reached: 0.12 remaining, resets 2026-08-08 17:00 UTC. "
    "This request may cost 0.30."
)


async def test_a_refusal_names_window_rest_and_reset(billing: Billing) -> None:
    answer = await spent_up(billing, five_hours(5 * NANO))
    assert answer.status == 429
    assert answer.header("retry-after") == str(5 * 3600 - 60)
    assert answer.header("x-should-retry") == "false"
    assert answer.json() == {
        "error": {
            "message": MESSAGE,
            "type": "insufficient_quota",
            "param": None,
            "code": "budget_exceeded",
            "remaining": "0.12",
            "reset_at": "2026-08-08T17:00:00Z",
            "window": "5h",
        }
    }


async def test_a_refusal_for_anthropic_callers(billing: Billing) -> None:
    answer = await spent_up(billing, five_hours(5 * NANO), dialect="anthropic", request_id="r-77")
    assert (answer.status, answer.header("x-should-retry")) == (429, "false")
    body = answer.json()
    assert (body["type"], body["request_id"]) == ("error", "r-77")
    assert body["error"]["type"] == "rate_limit_error"
    assert body["error"]["message"] == MESSAGE


async def test_a_reset_is_never_shown_too_early(billing: Billing) -> None:
    await billing.later(0.25)
    answer = await spent_up(billing, five_hours(5 * NANO))
    assert "resets 2026-08-08 17:01 UTC" in answer.json()["error"]["message"]
    assert answer.json()["error"]["reset_at"] == "2026-08-08T17:00:01Z"
    assert answer.header("retry-after") == str(5 * 3600 - 60)


async def test_refusal_by_own_reservations_says_so(billing: Billing) -> None:
    budget = five_hours(BOUND)
    inside, go = asyncio.Event(), asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        inside.set()
        await go.wait()

    first = asyncio.create_task(billing.ask(billing.app(Scripted(wait), budget)))
    await inside.wait()
    answer = await billing.ask(billing.app(Scripted(ASKED, COUNTED), budget))
    assert answer.header("retry-after") == "1"
    assert "0.00 remaining beside what requests in flight may cost, resets" in answer.text
    go.set()
    await first


# When the back office is not there


async def test_no_request_is_served_that_cannot_be_written_down() -> None:
    class FullDisk(LedgerWriter):
        def open(self, entry: Entry) -> None:
            raise StoreUnavailable("No space left on device")

    async with opened(Billing(MemoryCounters, FullDisk)) as billing:
        inner = Scripted(ASKED, COUNTED)
        scope = billing.scope()
        async with Call(billing.app(inner, five_hours(NANO)), scope) as call:
            answer = await call.done()
        assert (answer.status, inner.calls) == (503, 0)
        assert "No space left" in Exchange.of(scope).reason
        assert "No space left" not in answer.text
        assert await billing.settled(five_hours(NANO)) == 0


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_unavailable_counters_stop_all_spending(dialect: str) -> None:
    class Gone(MemoryCounters):
        in_process = False

        async def reserve(self, *args: Any, **rest: Any) -> Any:
            raise CountersUnavailable("no route to 10.0.0.9")

    async with opened(Billing(Gone)) as billing:
        inner = Scripted(ASKED, COUNTED)
        answer = await billing.ask(billing.app(inner, five_hours(NANO)), dialect=dialect)
        assert (answer.status, inner.calls) == (529 if dialect == "anthropic" else 503, 0)
        assert answer.header("retry-after") == "1"
        assert "10.0.0.9" not in answer.text
        assert await billing.rows() == []


async def test_unavailable_ledger_stops_all_spending(
    billing: Billing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*args: Any) -> Any:
        raise StoreUnavailable("no answer in time")

    monkeypatch.setattr(billing.ledger, "spent", gone)
    inner = Scripted(ASKED, COUNTED)
    assert (await billing.ask(billing.app(inner, five_hours(NANO)))).status == 503
    monkeypatch.undo()
    assert (await billing.ask(billing.app(inner, five_hours(NANO)))).status == 200
    assert inner.calls == 1


async def test_a_journal_on_disk(tmp_path: Path) -> None:
    """The same with the book that servers have."""
    billing = Billing()
    billing.ledger_writer = LedgerWriter(
        billing.ledger, tmp_path, committed=billing.accounts.committed
    )
    budget = five_hours(NANO)
    async with opened(billing):
        await billing.ask(billing.app(Scripted(ASKED, COUNTED), budget))
        await billing.ask(billing.app(Scripted(), budget))
        assert await billing.settled(budget) == COUNTED_COST
        assert len(await billing.rows()) == 1


# The stamp


def test_credits_used() -> None:
    exchange = Exchange(tariff=PRICE)
    assert credits_used(exchange) is None
    exchange.usage = Usage(90, 50, cache_read=20)
    assert credits_used(exchange) is None
    exchange.usage_reported = True
    assert credits_used(exchange) == "0.000192"
    exchange.tariff = None
    assert credits_used(exchange) is None
    failed = attempts(500)["attempts"]
    failed[0].cost = 2_000
    exchange.attempts = [*failed, *ASKED["attempts"]]
    assert credits_used(exchange) == "0.000002"
    exchange.tariff = PRICE
    assert credits_used(exchange) == "0.000194"


# Of a key and its team

TEAM = Team("team-1", name="Research")
MEMBER = Principal("key-1", owner="ann", name="laptop", team=TEAM)


async def test_row_of_a_key_of_a_team_charges_both(billing: Billing) -> None:
    key, team = five_hours(NANO), Budget(windows=(Window("7d", 168 * HOUR, NANO),))
    app = billing.app(Scripted(ASKED, COUNTED), key, team=team)
    await billing.ask(app, principal=MEMBER)
    await billing.later(60)
    await billing.ask(app, principal=MEMBER)  # without waiting, as both are known now
    first, second = await billing.rows()
    for row in (first, second):
        assert (row.account, row.team, row.key_name) == ("key-1", "team-1", "laptop")
        assert (row.starts, row.team_starts) == ({"5h": NOON}, {"7d": NOON})
        assert (row.from_credits, row.from_team_credits) == (0, 0)
    assert await billing.settled(key) == 2 * COUNTED_COST
    assert await billing.used(team, "team-1") == (2 * COUNTED_COST, 0)


async def test_row_without_a_team_has_the_name_of_the_key(billing: Billing) -> None:
    principal = Principal("key-1", name="laptop")
    await billing.ask(billing.app(Scripted(ASKED, COUNTED), Budget()), principal=principal)
    row = await billing.row()
    assert (row.key_name, row.team, row.team_starts) == ("laptop", "", {})


async def test_team_without_limits_is_in_the_row_and_charged_nothing(billing: Billing) -> None:
    key = five_hours(NANO)
    await billing.ask(billing.app(Scripted(ASKED, COUNTED), key), principal=MEMBER)
    row = await billing.row()
    assert (row.team, row.team_starts, row.starts) == ("team-1", {}, {"5h": NOON})
    assert await billing.settled(key) == COUNTED_COST


async def test_limited_team_of_a_key_without_limits_is_charged(billing: Billing) -> None:
    team = five_hours(NANO)
    app = billing.app(Scripted(ASKED, COUNTED), Budget(), team=team)
    for _ in range(2):
        await billing.ask(app, principal=MEMBER)
    for row in await billing.rows():
        assert (row.starts, row.team_starts, row.reserved) == ({}, {"5h": NOON}, BOUND)
    assert await billing.used(team, "team-1") == (2 * COUNTED_COST, 0)
    assert billing.accounts.holds == 0


async def test_refusal_by_the_team_says_so(billing: Billing) -> None:
    key, team = five_hours(NANO), Budget(windows=(Window("7d", 168 * HOUR, 1000),))
    inner = Scripted(ASKED, COUNTED)
    app = billing.app(inner, key, team=team)
    answer = await billing.ask(app, principal=MEMBER)
    error = answer.json()["error"]
    assert (answer.status, error["code"], inner.calls) == (429, "budget_exceeded", 0)
    assert error["message"].startswith("Your team's 7d spend limit of 0.000001 credits is reached")
    assert (error["window"], error["remaining"]) == ("7d", "0.000001")
    assert error["reset_at"] == "2026-08-15T12:00:00Z"
    assert await billing.used(key) == (0, 0)
    # Credits of the team are named as its, too.
    app = billing.app(inner, key, team=Budget(credits=True))
    error = (await billing.ask(app, principal=MEMBER)).json()["error"]
    assert error["code"] == "insufficient_credits"
    assert error["message"].startswith("Your team's credits are used up: 0.00 remaining.")
    # And where it is the key's own window, it is "the" limit as for any key.
    app = billing.app(inner, five_hours(1000), team=five_hours(NANO))
    error = (await billing.ask(app, principal=MEMBER)).json()["error"]
    assert error["message"].startswith("The 5h spend limit")
    assert await billing.rows() == []


async def test_credits_of_the_team_pay_where_the_key_allows_credits(billing: Billing) -> None:
    key, team = five_hours(1000, credits=True), Budget(credits=True)
    await billing.grant(NANO, "team-1")
    app = billing.app(Scripted(ASKED, COUNTED), key, team=team)
    await billing.ask(app, principal=MEMBER)
    row = await billing.row()
    assert (row.from_credits, row.from_team_credits) == (0, COUNTED_COST)
    assert (row.starts, row.team_starts) == ({}, {})
    assert await billing.used(team, "team-1") == (COUNTED_COST - NANO, 0)
    # Once the key has credits of its own, these go first.
    await billing.grant(NANO)
    await billing.ask(app, principal=MEMBER)
    row = (await billing.rows())[-1]
    assert (row.from_credits, row.from_team_credits) == (COUNTED_COST, 0)
    status = await billing.accounts.status("key-1", key)
    assert (status.credits, status.windows[0].used) == (NANO - COUNTED_COST, 0)
    assert await billing.used(team, "team-1") == (COUNTED_COST - NANO, 0)


@pytest.mark.parametrize(
    ("key", "team", "cut_off"),
    [
        (five_hours(BOUND - 50 * OUT, cut_off=True), five_hours(NANO), 150),
        (five_hours(NANO), five_hours(BOUND - 50 * OUT, cut_off=True), 150),
        (
            five_hours(BOUND - 50 * OUT, cut_off=True),
            five_hours(BOUND - 80 * OUT, cut_off=True),
            120,
        ),
        (five_hours(BOUND - 50 * OUT), five_hours(NANO, cut_off=True), 200),
    ],
)
async def test_stream_is_cut_off_by_the_smaller_reservation(
    billing: Billing, key: Budget, team: Budget, cut_off: int
) -> None:
    scope = billing.scope(principal=MEMBER)
    async with Call(billing.app(Scripted(ASKED, COUNTED), key, team=team), scope) as call:
        await call.done()
    assert Exchange.of(scope).cut_off == cut_off


async def test_hangup_is_decided_by_the_plan_of_the_key(billing: Billing) -> None:
    key, team = five_hours(NANO), five_hours(NANO, on_hangup="drain")
    scope = billing.scope(principal=MEMBER)
    async with Call(billing.app(Scripted(ASKED, COUNTED), key, team=team), scope) as call:
        await call.done()
    assert Exchange.of(scope).on_hangup == "cancel"


async def test_refused_request_of_a_team_gives_back_both(billing: Billing) -> None:
    key, team = five_hours(NANO), five_hours(NANO)
    app = billing.app(Scripted(Problem("model_not_found")), key, team=team)
    assert (await billing.ask(app, principal=MEMBER)).status == 404
    assert await billing.used(key) == (0, 0)
    assert await billing.used(team, "team-1") == (0, 0)
    assert await billing.rows() == []
