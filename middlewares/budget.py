"""Money: set aside before an upstream is asked, settled once when all is over.

Theory of operation. `quote` says what a request may cost at most. That much is reserved, the
row is opened as it would be if the process died now, and the app runs. What has become of it is
then read from the exchange, in one `finally` that never waits, so that no cancellation can come
between its parts:

    no upstream asked      nothing: the row is voided, the money given back
    counted to its end     what the upstream counted, also where the client has left
    broken, or left        the input the upstream told, else the estimate; the output it told, or
                           what was produced until then, whichever is more, the latter up to what
                           was asked for
    answered, uncounted    the same
    failed                 what the upstream told, else nothing; the row is written, at no cost

What upstreams told of attempts before the last is added to each.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from math import ceil
from time import perf_counter, time
from typing import Any, Literal
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.base import Hold, InsufficientFunds
from middlewares.stores.errors import CountersUnavailable, StoreUnavailable
from middlewares.stores.ledger.base import MOST_COST, AttemptRecord, Ended, Entry
from middlewares.stores.ledger.writer import LedgerWriter

from .asgi import ASGIApp, Receive, Scope, Send, refuse_scope
from .exchange import MOST_RUNS, Exchange, Principal, Usage, cost_of, exchange_of
from .limits import Budget
from .pricing import Price, decimal
from .problem import Problem

_Way = Literal["returned", "raised", "cancelled"]


class Quote(msgspec.Struct, frozen=True, gc=False):
    """What a request may cost at most, and who says so.

    budget: of the principal; plan: its id, for the row.
    input: tokens, estimated, rather too many; output: the most tokens that may be made.
    price: of the model asked for, the dearest where it may be served by another.
    most_input: tokens to set aside where the upstream may read more than was sent; 0: `input`.
    hosted: calls of tools that the vendor runs, at most. runs: see `Exchange.runs`.
    """

    budget: Budget
    plan: str
    input: int
    output: int
    price: Price
    most_input: int = 0
    hosted: int = 0
    runs: int = MOST_RUNS


Appraise = Callable[[Exchange], Quote | Awaitable[Quote | None] | None]
"""The bill of a request; None for what costs nothing by its nature, and leaves no row."""


class BudgetMiddleware:
    """Let through who can pay, and write down what it was.

    accounts: None where no budget is limited; one that is, is then refused.

    Reads:   principal, request_id, endpoint, model, stream, started, served, attempts, \
fallback_from, first_content, upstream_seconds, usage, usage_reported, output_estimate, tariff, \
outcome, status, on_hangup
    Writes:  on_hangup, cut_off, runs, most_output, cost
    Rejects: missing_key, budget_exceeded, insufficient_credits, upstream_unavailable
    Order:   inside rate limits and idempotency, outside retries: one reservation for all attempts
    Cost:    one decision of the counters, two writes of the book; 8 us beyond
    """

    __slots__ = ("_accounts", "_clock", "_ledger_writer", "_quote", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        accounts: Accounts | None,
        ledger_writer: LedgerWriter,
        quote: Appraise,
        clock: Callable[[], float] = time,
    ) -> None:
        self.app = app
        self._accounts = accounts
        self._ledger_writer = ledger_writer
        self._quote = quote
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind != "http":
            if kind == "lifespan":
                return await self.app(scope, receive, send)
            return await refuse_scope(scope, receive, send)
        exchange = exchange_of(scope)
        bill = self._quote(exchange)
        if bill is not None and not isinstance(bill, Quote):
            bill = await bill
        if bill is None:
            return await self.app(scope, receive, send)
        principal = exchange.principal
        if principal is None:
            problem = Problem("missing_key", reason="nobody is there to pay: no authentication")
            return await problem(scope, receive, send)

        budget = bill.budget
        entry_id = exchange.request_id or uuid4().hex
        hold = None
        if budget.limited and (amount := _most(bill)):
            if self._accounts is not None:
                hold = self._accounts.reserve_now(principal.id, entry_id, amount, budget)
            if hold is None:
                answer = await self._reserve(principal.id, entry_id, amount, bill)
                if isinstance(answer, Problem):
                    return await answer(scope, receive, send)
                hold = answer
            if budget.cut_off:
                exchange.cut_off = _affords(bill, hold)
        exchange.on_hangup = budget.on_hangup
        exchange.runs = bill.runs
        exchange.most_output = bill.output

        opened = _opened(exchange, principal, bill, hold, entry_id, self._clock())
        unopened = self._open(opened, hold)
        if unopened is not None:
            return await unopened(scope, receive, send)
        way: _Way = "returned"
        status = 0
        try:
            await self.app(scope, receive, send)
        except Problem as raised:
            way = "raised"
            status = raised.status(exchange)
            raise
        except Exception:
            way = "raised"
            status = 500
            raise
        except BaseException:
            way = "cancelled"
            raise
        finally:
            self._settle(exchange, bill, hold, opened, way, status)

    async def _reserve(
        self, account: str, hold_id: str, amount: int, bill: Quote
    ) -> Hold | Problem:
        accounts, budget = self._accounts, bill.budget
        if accounts is None:
            return Problem("upstream_unavailable", reason="a limited budget, and no accounts")
        least = bill.price.tokens(bill.input, 1 if bill.output else 0)
        try:
            answer = await accounts.reserve(account, hold_id, amount, least, budget)
        except (CountersUnavailable, StoreUnavailable) as raised:
            return Problem("upstream_unavailable", reason=f"budget: {raised}")
        if isinstance(answer, Hold):
            return answer
        return _refusal(answer, bill.budget, amount, self._clock())

    def _open(self, opened: Entry, hold: Hold | None) -> Problem | None:
        """Open the row; what was reserved is given back where that fails."""
        try:
            self._ledger_writer.open(opened)
        except StoreUnavailable as raised:
            self._drop(hold)
            return Problem("upstream_unavailable", reason=f"ledger: {raised}")
        except Exception:
            self._drop(hold)
            raise
        return None

    def _settle(
        self,
        exchange: Exchange,
        bill: Quote,
        hold: Hold | None,
        opened: Entry,
        way: _Way,
        status: int,
    ) -> None:
        """Write what it was, and take that from the account. Awaits nothing, see above."""
        if exchange.usage is None and not exchange.attempts:
            self._ledger_writer.void(opened.id)
            self._drop(hold)
            return
        entry = _closed(exchange, bill, hold, opened, way, status, self._clock())
        self._ledger_writer.close(entry)
        exchange.cost = entry.cost
        if hold is not None and self._accounts is not None:
            if entry.cost:
                self._accounts.resize(hold, entry.cost)
            else:
                self._accounts.drop(hold)

    def _drop(self, hold: Hold | None) -> None:
        if hold is not None and self._accounts is not None:
            self._accounts.drop(hold)


def credits_used(exchange: Exchange) -> str | None:
    """What the answer cost, in decimal credits; None as long as that is not known for certain."""
    usage = exchange.usage
    if usage is None or not exchange.usage_reported:
        return None
    cost = cost_of(exchange, usage)
    return None if cost is None else decimal(cost)


def _most(bill: Quote) -> int:
    """What a request may cost at most, in nano-credits."""
    return bill.price.most(bill.most_input or bill.input, bill.output, bill.hosted)


def _affords(bill: Quote, hold: Hold) -> int:
    """Output tokens that a hold pays for beyond the input estimate; at least 1."""
    if not hold.tight:
        return max(1, bill.output)
    enough, too_many = 1, max(2, bill.output)
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        if bill.price.tokens(bill.input, middle) <= hold.amount:
            enough = middle
        else:
            too_many = middle
    return enough


def _opened(
    exchange: Exchange,
    principal: Principal,
    bill: Quote,
    hold: Hold | None,
    entry_id: str,
    now: float,
) -> Entry:
    """The row as it is if the process dies now: as long as nothing is known, the input was used."""
    cost = bill.price.tokens(bill.input, 0)
    prepaid = hold is not None and hold.source == "credits"
    return Entry(
        entry_id,
        principal.id,
        now if hold is None else hold.at,
        now,
        owner=principal.owner,
        plan=bill.plan,
        endpoint=exchange.endpoint,
        asked=exchange.model,
        ended="lost",
        on_hangup=bill.budget.on_hangup,
        input=bill.input,
        cost=cost,
        from_credits=cost if prepaid else 0,
        reserved=0 if hold is None else hold.amount,
        stream=exchange.stream,
        measured=False,
        starts={} if hold is None or prepaid else hold.starts,
    )


def _closed(
    exchange: Exchange,
    bill: Quote,
    hold: Hold | None,
    opened: Entry,
    way: _Way,
    status: int,
    now: float,
) -> Entry:
    ended = _ended(exchange, way)
    usage = _charged(exchange, bill, ended)
    tariff = exchange.tariff
    if tariff is None and not exchange.attempts:  # nobody has said by whom it was answered
        tariff = bill.price
    cost = 0 if tariff is None else tariff.cost(usage)
    started, first = exchange.started, exchange.first_content
    moment = perf_counter()
    tries = []
    for attempt in exchange.attempts:
        cost += attempt.cost
        if attempt.usage is not None:
            usage = usage.plus(attempt.usage)
        target = attempt.target
        tries.append(
            AttemptRecord(
                target.upstream,
                target.model,
                attempt.status,
                attempt.served,
                attempt.problem,
                # Whole microseconds; `round` would take three times as long.
                ((attempt.ended or moment) - attempt.started) * 1e6 // 1.0 / 1e3,
                attempt.error,
            )
        )
    cost = min(cost, MOST_COST)
    # For more names in one call CPython makes a dictionary: `STACK_USE_GUIDELINE` in its compile.c.
    row = replace(
        opened,
        ended_at=now,
        model=exchange.served,
        status=exchange.status or status,
        ended=ended,
        input=usage.input,
        output=usage.output,
        cache_read=usage.cache_read,
        cost=cost,
        from_credits=cost if hold is not None and hold.source == "credits" else 0,
        first_content_ms=(first - started) * 1e6 // 1.0 / 1e3 if first else None,
        upstream_ms=exchange.upstream_seconds * 1e6 // 1.0 / 1e3,
        duration_ms=(moment - started) * 1e6 // 1.0 / 1e3,
        measured=exchange.usage_reported,
        attempts=tries,
    )
    if _has_more(usage) or exchange.fallback_from:
        row = replace(
            row,
            cache_write=usage.cache_write,
            reasoning=usage.reasoning,
            images=usage.images,
            audio_ms=usage.audio_ms,
            jobs=usage.jobs,
            fallback_from=exchange.fallback_from,
        )
    return row


def _has_more(usage: Usage) -> bool:
    """Whether it counts what few answers have."""
    return bool(
        usage.cache_write or usage.reasoning or usage.images or usage.audio_ms or usage.jobs
    )


def _ended(exchange: Exchange, way: _Way) -> Ended:
    outcome = exchange.outcome
    if outcome == "completed":
        return "completed"
    if outcome == "hung_up":
        heard = exchange.usage_reported and exchange.on_hangup == "drain"
        return "drained" if heard else "hung_up"
    if outcome == "cut":
        return "cut"
    if outcome:
        return "failed"
    # Nobody inside has answered: who does is further out, or this is a stranger's app.
    if way == "returned":
        return "completed"
    if exchange.first_content:
        return "cut"
    return "failed" if way == "raised" else "hung_up"


def _charged(exchange: Exchange, bill: Quote, ended: Ended) -> Usage:
    """The usage that is paid for: the upstream's count, or what comes nearest to it."""
    told = exchange.usage
    if told is not None and (exchange.usage_reported or ended == "failed"):
        return told
    if ended == "failed" or (told is None and _refused(exchange)):
        return Usage()
    made = exchange.output_estimate
    if told is None:
        return Usage(bill.input, made or int(ended == "completed" and bill.output > 0))
    believed = told.believed(bill.input, made)
    if made > believed.output and ended != "completed":  # told before it ended
        return replace(believed, output=made)
    return believed


def _refused(exchange: Exchange) -> bool:
    """Whether the upstream had refused or failed when the client left: then nothing was worked on,
    or it has told what was."""
    if not exchange.attempts or exchange.first_content:
        return False
    last = exchange.attempts[-1]
    return last.status >= 400 or bool(last.problem)


def _refusal(short: InsufficientFunds, budget: Budget, amount: int, now: float) -> Problem:
    """429 that names the window, what remains of it and when it is over."""
    remaining = decimal(max(0, short.remaining))
    rest = f" This request may cost {decimal(amount)}." if short.remaining > 0 else ""
    extra: dict[str, Any] = {"remaining": remaining, "reset_at": None}
    if not short.window:
        return Problem(
            "insufficient_credits",
            message=f"The credits are used up: {remaining} remaining.{rest}",
            reason=f"may cost {amount}, {short.remaining} remain",
            extra=extra,
        )
    cap = next((window.cap for window in budget.windows if window.name == short.window), 0)
    until = ""
    retry_after = None
    if short.reset is not None:
        reset = datetime.fromtimestamp(ceil(short.reset), UTC)
        # To the minute, and none too early.
        shown = datetime.fromtimestamp(ceil(short.reset / 60) * 60, UTC)
        until = f", resets {shown:%Y-%m-%d %H:%M} UTC"
        extra["reset_at"] = f"{reset:%Y-%m-%dT%H:%M:%SZ}"
        if not short.held:
            retry_after = ceil(short.reset - now)
    if short.held:
        until = f" beside what requests in flight may cost{until}"
    extra["window"] = short.window
    return Problem(
        "budget_exceeded",
        message=f"The {short.window} spend limit of {decimal(cap)} credits is reached: "
        f"{remaining} remaining{until}.{rest}",
        reason=f"window {short.window}: may cost {amount}, {short.remaining} remain",
        retry_after=retry_after,
        extra=extra,
    )
