"""Limits, usage and finished requests of a principal and its team, as JSON-ready data.

Money is in decimal strings of credits, times are RFC 3339 in UTC. Names and messages of upstreams
are never included. What is said of a team does not tell which keys it has.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from edge.config.units import Duration
from middlewares.exchange import Principal, Team
from middlewares.limits import Budget, Limits, PlanLimits
from middlewares.pricing import decimal
from middlewares.stores.counters.base import AccountStatus, Check, RateCounters
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.ledger.base import Entry, LedgerStore, Sum, daily_sum
from middlewares.stores.ledger.spend import Filters

from .period import Period, moment, reset_moment

Data = dict[str, Any]


class AccountStatuses(Protocol):
    """Status of accounts; see `middlewares.stores.accounts`."""

    async def status(self, account: str, budget: Budget) -> AccountStatus:
        """Raises CountersUnavailable, StoreUnavailable."""
        ...


async def _no_jobs(account: str) -> Sequence[Entry]:
    return ()


class _Held(NamedTuple):
    """What a running job holds of one account: by window the period it counts in, nano-credits in
    these windows, and of prepaid credits."""

    starts: Mapping[str, float]
    cost: int
    credits: int


def _held_of_key(row: Entry) -> _Held:
    return _Held(row.starts, row.cost, row.from_credits)


def _held_of_team(row: Entry) -> _Held:
    return _Held(row.team_starts, row.cost, row.from_team_credits)


def _unlimited(team: Team) -> PlanLimits:
    return PlanLimits()


def rate_key_of_team(team: Team) -> str:
    """Name of a team's rates in the counters."""
    return f"team:{team.id}"


class UsageReport:
    """Reports limits from plans and counters, and usage from the ledger.

    limits: of a principal. team_limits: of a team. running, team_running: reservations of the jobs
    of a key, and of a team, that have not ended, as the rows that they would be. accounts: None
    without budgets. rates: None if no rates are counted. rate_key: name of a principal's rates in
    the counters, as `RateLimitMiddleware` has it.
    clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        limits: Callable[[Principal], PlanLimits],
        team_limits: Callable[[Team], PlanLimits] = _unlimited,
        accounts: AccountStatuses | None,
        rates: RateCounters | None,
        ledger: LedgerStore,
        running: Callable[[str], Awaitable[Sequence[Entry]]] = _no_jobs,
        team_running: Callable[[str], Awaitable[Sequence[Entry]]] = _no_jobs,
        rate_key: Callable[[Principal], str] = lambda principal: f"key:{principal.id}",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limits = limits
        self._team_limits = team_limits
        self._accounts = accounts
        self._rates = rates
        self._running = running
        self._team_running = team_running
        self._rate_key = rate_key
        self.ledger = ledger
        self.clock = clock

    async def limits(self, principal: Principal) -> Data:
        """Limits of `principal` and of its team, and what remains of them.

        Raises CountersUnavailable, StoreUnavailable, and what `limits` raises.
        """
        plan_limits = self._limits(principal)
        rates, concurrency = await self._levels(self._rate_key(principal), plan_limits.limits)
        windows, prepaid = await self._money(principal.id, plan_limits.budget)
        team = principal.team
        return {
            "object": "limits",
            "plan": principal.plan,
            "windows": windows,
            "credits": prepaid,
            "rates": rates,
            "concurrency": concurrency,
            "on_excess": plan_limits.limits.on_excess,
            "team": None if team is None else await self.team_limits(team),
        }

    async def team_limits(self, team: Team) -> Data:
        """Limits of `team` over all its keys, and what remains of them. Raises as `limits`."""
        plan_limits = self._team_limits(team)
        rates, concurrency = await self._levels(rate_key_of_team(team), plan_limits.limits)
        windows, prepaid = await self._money(team.id, plan_limits.budget, of_team=True)
        return {
            "id": team.id,
            "name": team.name,
            "plan": team.plan,
            "windows": windows,
            "credits": prepaid,
            "rates": rates,
            "concurrency": concurrency,
            "on_excess": plan_limits.limits.on_excess,
        }

    async def _levels(self, rate_key: str, limits: Limits) -> tuple[list[Data], Data | None]:
        both = (("requests", limits.requests), ("tokens", limits.tokens))
        checks = [Check(name, rate, 0) for name, rate in both if rate is not None]
        if self._rates is None or not (checks or limits.concurrency):
            return [], None
        now = self.clock()
        levels, slots = await self._rates.levels(rate_key, checks, now=now)
        levels_by_name = {level.name: level for level in levels}
        rates = [
            {
                "name": check.name,
                "limit": check.rate.count,
                "per": str(Duration(check.rate.seconds)),
                "burst": check.rate.burst,
                "remaining": levels_by_name[check.name].remaining,
                "resets_at": moment(max(now, levels_by_name[check.name].reset)),
            }
            for check in checks
        ]
        if limits.concurrency is None:
            return rates, None
        return rates, {"limit": limits.concurrency, "in_use": slots}

    async def _money(
        self, account: str, budget: Budget, *, of_team: bool = False
    ) -> tuple[list[Data], Data | None]:
        if self._accounts is None or not budget.limited:
            return [], None
        status = await self._accounts.status(account, budget)
        # Jobs that run: the counters have what they reserve among what is spent, and it is shown so
        # while the store is away.
        running: list[_Held] = []
        with suppress(StoreUnavailable):
            if of_team:
                running = [_held_of_team(row) for row in await self._team_running(account)]
            else:
                running = [_held_of_key(row) for row in await self._running(account)]
        held = status.held.get("windows", 0)
        windows = []
        for level in status.windows:
            jobs = sum(job.cost for job in running if job.starts.get(level.name) == level.start)
            jobs = min(jobs, level.used)
            windows.append(
                {
                    "length": level.name,
                    "cap": decimal(level.cap),
                    "used": decimal(level.used - jobs),
                    "reserved": decimal(held + jobs),
                    "remaining": decimal(max(0, level.cap - level.used - held)),
                    "resets_at": reset_moment(level.reset),
                }
            )
        if not budget.credits:
            return windows, None
        jobs = sum(job.credits for job in running)
        return windows, {
            "balance": decimal(status.credits + jobs),
            "reserved": decimal(status.held.get("credits", 0) + jobs),
        }

    async def usage(self, account: str | None, period: Period) -> Data:
        """Usage by day and model; of all accounts for None. Raises StoreUnavailable."""
        return usage(await self.ledger.sums(account, period.since, period.until), period)

    async def usage_of(self, principal: Principal, period: Period) -> Data:
        """Usage of `principal`, and of its team, by day and model. Raises StoreUnavailable."""
        found = await self.usage(principal.id, period)
        team = principal.team
        return {**found, "team": None if team is None else await self.team_usage(team, period)}

    async def team_usage(self, team: Team, period: Period) -> Data:
        """Usage of all keys of `team` by day and model. Raises StoreUnavailable."""
        sums: list[Sum] = []
        after = None
        while True:
            found = await self.ledger.grouped(
                ("day", "model"),
                Filters(team=team.id),
                since=period.since,
                until=period.until,
                after=after,
            )
            sums += map(daily_sum, found.groups)
            after = found.next
            if after is None:
                return {"id": team.id, "name": team.name, **_summed(sums)}


def usage(sums: Iterable[Sum], period: Period) -> Data:
    """Sums by day and model, and their total."""
    return {
        "object": "list",
        "start": moment(period.since),
        "end": moment(period.until),
        **_summed(sums),
    }


def _summed(sums: Iterable[Sum]) -> Data:
    data = list(sums)
    total = Sum(
        day="",
        model="",
        requests=sum(one.requests for one in data),
        input=sum(one.input for one in data),
        output=sum(one.output for one in data),
        cache_read=sum(one.cache_read for one in data),
        cache_write=sum(one.cache_write for one in data),
        cost=sum(one.cost for one in data),
    )
    return {
        "data": [{"day": one.day, "model": one.model, **_used(one)} for one in data],
        "total": _used(total),
    }


def _used(one: Sum) -> Data:
    return {
        "requests": one.requests,
        "input_tokens": one.input,
        "output_tokens": one.output,
        "cache_read_tokens": one.cache_read,
        "cache_write_tokens": one.cache_write,
        "credits": decimal(one.cost),
    }


def request(entry: Entry, children: Iterable[Entry] = ()) -> Data:
    """A finished request as its caller may see it.

    children: requests that were made to serve it; its credits include theirs.
    """
    children = list(children)
    cost = entry.cost + sum(child.cost for child in children)
    purposes = Counter(child.purpose for child in children)
    return {
        "id": entry.id,
        "object": "request",
        "endpoint": entry.endpoint,
        "model": entry.model,
        "asked": entry.asked,
        "fallback_from": entry.fallback_from or None,
        "attempts": len(entry.attempts),
        "path": [
            {"model": tried.served, "problem": tried.problem or None, "ms": tried.ms}
            for tried in entry.attempts
        ],
        "stream": entry.stream,
        "status": entry.status,
        "ended": entry.ended,
        "usage": {
            "input_tokens": entry.input,
            "output_tokens": entry.output,
            "cache_read_tokens": entry.cache_read,
            "cache_write_tokens": entry.cache_write,
            "reasoning_tokens": entry.reasoning,
            "images": entry.images,
            "audio_ms": entry.audio_ms,
            "jobs": entry.jobs,
            "characters": entry.characters,
            "video_ms": entry.video_ms,
        },
        "measured": entry.measured,
        "credits": decimal(cost),
        "included": dict(sorted(purposes.items())),
        "timings": {
            "first_content_ms": entry.first_content_ms,
            "upstream_ms": entry.upstream_ms,
            "duration_ms": entry.duration_ms,
        },
        "started_at": moment(entry.at),
        "ended_at": moment(entry.ended_at),
    }
