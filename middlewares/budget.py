"""Budgets: reserve the highest cost of a request before it runs, settle its cost at the end.

Theory of operation. `quote` returns the highest cost of a request. That much is reserved, the
ledger row is opened as it would be if the process died now, and the app runs. At the end one
`finally` reads the result from the exchange; it never waits, so no cancellation can come between
its parts:

    no upstream asked         nothing: the row is voided, the reservation released
    counted to its end        the upstream's count, also after a disconnect
    broken, or disconnected   the input that the upstream reported, else the estimate; the output it
                              reported or what was streamed until then, whichever is more, the
                              latter up to the requested maximum
    answered, not counted     the same
    failed                    what the upstream reported, else nothing; the row is written, at no
                              cost

The usage that upstreams reported for earlier attempts is added to each.

A principal of a team is charged beside it: one reservation on both accounts, one row for both. Each
account pays the cost from what it was reserved from (`stores.counters.decision`).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from math import ceil
from time import perf_counter, time
from typing import Any, Literal
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.base import Hold, InsufficientFunds, TeamAccount
from middlewares.stores.errors import CountersUnavailable, StoreUnavailable
from middlewares.stores.ledger.base import MAX_COST, AttemptRecord, Ended, Entry
from middlewares.stores.ledger.writer import LedgerWriter

from .asgi import ASGIApp, Receive, Scope, Send, refuse_scope
from .exchange import MAX_RUNS, Exchange, Principal, Team, Usage, cost_of, exchange_of
from .limits import Budget
from .pricing import UNITS, Price, decimal, has_units
from .problem import Problem

_Exit = Literal["returned", "raised", "cancelled"]


class Quote(msgspec.Struct, frozen=True, gc=False):
    """The highest cost of a request, and the budgets that pay it.

    budget: the principal's; plan: its id, for the row. team_budget: of the team of the principal,
        None where that has no limit.
    input: estimated tokens, rather too many; output: highest number of tokens.
    price: of the requested model; the highest one if another may serve the request.
    max_input: tokens to reserve where the upstream may read more than was sent; 0: `input`.
    hosted: highest number of calls of tools that the vendor runs. runs: see `Exchange.runs`.
    units: the most of what is priced beside tokens (`pricing.UNITS`); None if there is none.
    """

    budget: Budget
    plan: str
    input: int
    output: int
    price: Price
    max_input: int = 0
    hosted: int = 0
    runs: int = MAX_RUNS
    units: Usage | None = None
    team_budget: Budget | None = None


MakeQuote = Callable[[Exchange], Quote | Awaitable[Quote | None] | None]
"""Returns the quote of a request; None for a free one, which has no ledger row."""


class BudgetMiddleware:
    """Reserve money for a request, settle its cost, and write its ledger row.

    accounts: None where no budget has a limit; a limited one is then refused.
    quote: see `MakeQuote`. clock: Unix seconds.

    Reads:   principal, request_id, endpoint, model, stream, started, served, attempts, \
fallback_from, first_content, upstream_seconds, usage, usage_reported, output_estimate, tariff, \
outcome, status, on_hangup
    Writes:  on_hangup, cut_off, cut_off_extra, runs, max_output, cost
    Rejects: missing_key, budget_exceeded, insufficient_credits, upstream_unavailable
    Order:   inside rate limits and idempotency, outside retries: one reservation for all attempts
    Cost:    one call of the counters, two writes to the ledger journal; 8 us more
    """

    __slots__ = ("_accounts", "_clock", "_ledger_writer", "_quote", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        accounts: Accounts | None,
        ledger_writer: LedgerWriter,
        quote: MakeQuote,
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
        quote = self._quote(exchange)
        if quote is not None and not isinstance(quote, Quote):
            quote = await quote
        if quote is None:
            return await self.app(scope, receive, send)
        principal = exchange.principal
        if principal is None:
            problem = Problem(
                "missing_key", reason="no principal to charge: no authentication outside the budget"
            )
            return await problem(scope, receive, send)

        budget, team_budget = quote.budget, quote.team_budget
        entry_id = exchange.request_id or uuid4().hex
        hold = None
        limited = budget.windows or budget.credits  # `Budget.limited`, without its call
        if (limited or team_budget is not None) and (amount := _max_cost(quote)):
            team = None if team_budget is None else team_account(principal, team_budget)
            if self._accounts is not None:
                hold = self._accounts.reserve_now(principal.id, entry_id, amount, budget, team)
            if hold is None:
                answer = await self._reserve(principal.id, entry_id, amount, quote, team)
                if isinstance(answer, Problem):
                    return await answer(scope, receive, send)
                hold = answer
            if budget.cut_off:
                exchange.cut_off = _affordable_output(quote, hold)
                exchange.cut_off_extra = _cut_off_extra(budget, hold)
            if team_budget is not None and team_budget.cut_off and hold.team is not None:
                most = _affordable_output(quote, hold.team)
                if not exchange.cut_off or most < exchange.cut_off:
                    exchange.cut_off = most
                    exchange.cut_off_extra = _cut_off_extra(team_budget, hold.team)
        exchange.on_hangup = budget.on_hangup
        exchange.runs = quote.runs
        exchange.max_output = quote.output

        opened = _open_entry(exchange, principal, quote, hold, entry_id, self._clock())
        if principal.team is not None:
            opened = _with_team(opened, principal.team, hold)
        if exchange.parent:
            opened = replace(opened, parent=exchange.parent, purpose=exchange.purpose)
        if exchange.tags:
            opened = replace(opened, tags=tags_text(exchange.tags))
        if quote.units is not None:
            opened = _with_quoted_units(opened, quote.units)
        unopened = self._open(opened, hold)
        if unopened is not None:
            return await unopened(scope, receive, send)
        app_exit: _Exit = "returned"
        status = 0
        try:
            await self.app(scope, receive, send)
        except Problem as raised:
            app_exit = "raised"
            status = raised.status(exchange)
            raise
        except Exception:
            app_exit = "raised"
            status = 500
            raise
        except BaseException:
            app_exit = "cancelled"
            raise
        finally:
            self._settle(exchange, quote, hold, opened, app_exit, status)

    async def _reserve(
        self, account: str, hold_id: str, amount: int, quote: Quote, team: TeamAccount | None
    ) -> Hold | Problem:
        accounts, budget = self._accounts, quote.budget
        if accounts is None:
            return Problem(
                "upstream_unavailable", reason="the budget has a limit, and there are no accounts"
            )
        least = quote.price.tokens(quote.input, 1 if quote.output else 0, quote.units)
        try:
            answer = await accounts.reserve(account, hold_id, amount, least, budget, team)
        except (CountersUnavailable, StoreUnavailable) as raised:
            return Problem("upstream_unavailable", reason=f"budget: {raised}")
        if isinstance(answer, Hold):
            return answer
        return refusal_of(answer, budget, team, amount, self._clock())

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
        quote: Quote,
        hold: Hold | None,
        opened: Entry,
        app_exit: _Exit,
        status: int,
    ) -> None:
        """Write what it was, and take that from the account. Awaits nothing, see above."""
        if exchange.usage is None and not exchange.attempts:
            self._ledger_writer.void(opened.id)
            self._drop(hold)
            return
        entry = _closed_entry(exchange, quote, hold, opened, app_exit, status, self._clock())
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
    """Cost of the answer in decimal credits; None while it is an estimate."""
    usage = exchange.usage
    if usage is None or not exchange.usage_reported:
        return None
    cost = cost_of(exchange, usage)
    return None if cost is None else decimal(cost)


def _max_cost(quote: Quote) -> int:
    """What a request may cost at most, in nano-credits."""
    most = quote.max_input or quote.input
    return quote.price.max_cost(most, quote.output, quote.hosted, quote.units)


def _affordable_output(quote: Quote, hold: Hold) -> int:
    """Output tokens that a reservation pays for beyond the input estimate; at least 1."""
    if not hold.tight:
        return max(1, quote.output)
    enough, too_many = 1, max(2, quote.output)
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        if quote.price.tokens(quote.input, middle, quote.units) <= hold.amount:
            enough = middle
        else:
            too_many = middle
    return enough


def _cut_off_extra(budget: Budget, hold: Hold) -> Mapping[str, Any] | None:
    """Members of the error that ends a stream whose reservation, all that was left, is used up.
    The window and its reset are known where there is one."""
    if not hold.tight:
        return None
    extra: dict[str, Any] = {"remaining": decimal(0), "reset_at": None}
    if hold.source == "windows" and len(budget.windows) == 1:
        (window,) = budget.windows
        start = hold.starts.get(window.name)
        if start is not None:
            extra |= {"window": window.name, "reset_at": _moment(window.end(start))}
    return extra


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(ceil(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"


def _open_entry(
    exchange: Exchange,
    principal: Principal,
    quote: Quote,
    hold: Hold | None,
    entry_id: str,
    now: float,
) -> Entry:
    """The row as it is if the process dies now: the estimated input counts as used, and what is
    priced beside tokens."""
    cost = quote.price.tokens(quote.input, 0, quote.units)
    prepaid = hold is not None and hold.source == "credits"
    # Some by their place: see `STACK_USE_GUIDELINE` below.
    return Entry(
        entry_id,
        principal.id,
        now if hold is None else hold.at,
        now,
        principal.owner,
        quote.plan,
        exchange.endpoint,
        asked=exchange.model,
        ended="lost",
        on_hangup=quote.budget.on_hangup,
        input=quote.input,
        cost=cost,
        from_credits=cost if prepaid else 0,
        reserved=0 if hold is None else hold.amount,
        stream=exchange.stream,
        measured=False,
        starts={} if hold is None or prepaid else hold.starts,
        key_name=principal.name,
    )


def _with_team(entry: Entry, team: Team, hold: Hold | None) -> Entry:
    """`entry` of a key of a team, at whose cost `hold` was made."""
    held = None if hold is None else hold.team
    if held is None:
        return replace(entry, team=team.id)
    return replace(
        entry,
        team=team.id,
        team_starts=held.starts,
        from_team_credits=entry.cost if held.source == "credits" else 0,
    )


def tags_text(tags: Iterable[str]) -> str:
    """Tags as a row of the ledger has them."""
    return ",".join(sorted(tags))


def charged_to(principal: Principal, hold: Hold | None, entry: Entry) -> Entry:
    """`entry` with who pays its cost: the principal and its team, from what `hold` is of."""
    if hold is not None:
        prepaid = entry.cost if hold.source == "credits" else 0
        entry = replace(entry, starts=hold.starts, from_credits=prepaid)
    entry = replace(entry, key_name=principal.name)
    return entry if principal.team is None else _with_team(entry, principal.team, hold)


def team_account(principal: Principal, budget: Budget | None) -> TeamAccount | None:
    """The account of the team of `principal` under `budget`; None where nothing limits it."""
    if principal.team is None or budget is None:
        return None
    return TeamAccount(principal.team.id, budget)


def _with_quoted_units(opened: Entry, units: Usage) -> Entry:
    """`opened` with the units that its cost is of; they are settled at the end."""
    return replace(
        opened,
        images=units.images,
        audio_ms=units.audio_ms,
        jobs=units.jobs,
        characters=units.characters,
        video_ms=units.video_ms,
    )


def _closed_entry(
    exchange: Exchange,
    quote: Quote,
    hold: Hold | None,
    opened: Entry,
    app_exit: _Exit,
    status: int,
    now: float,
) -> Entry:
    ended = _ended(exchange, app_exit)
    usage = _charged(exchange, quote, ended)
    tariff = exchange.tariff
    if tariff is None and not exchange.attempts:  # the app did not say which model answered
        tariff = quote.price
    cost = 0 if tariff is None else tariff.cost(usage)
    started, first = exchange.started, exchange.first_content
    moment = perf_counter()
    attempts = []
    for attempt in exchange.attempts:
        cost += attempt.cost
        if attempt.usage is not None:
            usage = usage.plus(attempt.usage)
        target = attempt.target
        attempts.append(
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
    cost = min(cost, MAX_COST)
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
        attempts=attempts,
    )
    if _has_more(usage) or exchange.fallback_from or quote.units is not None:
        row = replace(
            row,
            cache_write=usage.cache_write,
            reasoning=usage.reasoning,
            images=usage.images,
            audio_ms=usage.audio_ms,
            jobs=usage.jobs,
            fallback_from=exchange.fallback_from,
            characters=usage.characters,
            video_ms=usage.video_ms,
        )
    if opened.team and hold is not None and hold.team is not None:
        row = replace(row, from_team_credits=cost if hold.team.source == "credits" else 0)
    return row


def _has_more(usage: Usage) -> bool:
    """Whether it counts what few answers have."""
    return bool(usage.cache_write or usage.reasoning or has_units(usage))


def _ended(exchange: Exchange, app_exit: _Exit) -> Ended:
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
    # No layer of the gateway inside has answered: an outer one will, or the app is another's.
    if app_exit == "returned":
        return "completed"
    if exchange.first_content:
        return "cut"
    return "failed" if app_exit == "raised" else "hung_up"


def _charged(exchange: Exchange, quote: Quote, ended: Ended) -> Usage:
    """The usage to charge: the upstream's count, else the best estimate."""
    reported = exchange.usage
    if reported is not None and (exchange.usage_reported or ended == "failed"):
        return reported
    if ended == "failed" or (reported is None and _refused(exchange)):
        return Usage()
    made = exchange.output_estimate
    if reported is None:
        output = made or int(ended == "completed" and quote.output > 0)
        return _with_units(Usage(quote.input, output), quote)
    estimated = _with_units(reported.with_estimates(quote.input, made), quote)
    if made > estimated.output and ended != "completed":  # reported before the end
        return replace(estimated, output=made)
    return estimated


def _with_units(usage: Usage, quote: Quote) -> Usage:
    """`usage` with the units of the quote if it counts none: the upstream made or read them."""
    units = quote.units
    if units is None or has_units(usage):
        return usage
    return replace(usage, **{name: getattr(units, name) for name in UNITS})


def _refused(exchange: Exchange) -> bool:
    """Whether the upstream had refused or failed before the client disconnected.

    Then it did no work, or it reported the usage.
    """
    if not exchange.attempts or exchange.first_content:
        return False
    last = exchange.attempts[-1]
    return last.status >= 400 or bool(last.problem)


def refusal_of(
    lacking: InsufficientFunds,
    budget: Budget,
    team: TeamAccount | None,
    amount: int,
    now: float,
) -> Problem:
    """A 429 with the window, whose it is, what remains of it, and its reset."""
    whose, beginning = "", "The"
    if lacking.whose == "team" and team is not None:
        budget, whose, beginning = team.budget, f"team {team.account}, ", "Your team's"
    remaining = decimal(max(0, lacking.remaining))
    rest = f" This request may cost {decimal(amount)}." if lacking.remaining > 0 else ""
    extra: dict[str, Any] = {"remaining": remaining, "reset_at": None}
    if not lacking.window:
        return Problem(
            "insufficient_credits",
            message=f"{beginning} credits are used up: {remaining} remaining.{rest}",
            reason=f"{whose}may cost {decimal(amount)}, {decimal(lacking.remaining)} remain",
            extra=extra,
        )
    cap = next((window.cap for window in budget.windows if window.name == lacking.window), 0)
    until = ""
    retry_after = None
    if lacking.reset is not None:
        # Rounded up to the minute.
        shown = datetime.fromtimestamp(ceil(lacking.reset / 60) * 60, UTC)
        until = f", resets {shown:%Y-%m-%d %H:%M} UTC"
        extra["reset_at"] = _moment(lacking.reset)
        if not lacking.held:
            retry_after = ceil(lacking.reset - now)
    if lacking.held:
        until = f" beside what requests in flight may cost{until}"
    extra["window"] = lacking.window
    return Problem(
        "budget_exceeded",
        message=f"{beginning} {lacking.window} spend limit of {decimal(cap)} credits is reached: "
        f"{remaining} remaining{until}.{rest}",
        reason=f"{whose}window {lacking.window}: may cost {decimal(amount)}, "
        f"{decimal(lacking.remaining)} remain",
        retry_after=retry_after,
        extra=extra,
    )
