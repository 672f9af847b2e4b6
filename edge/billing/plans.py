"""Limits of each principal and team: those of its plan, overridden by its own.

The limits of a key or a team have the same names as those of a plan.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from edge.config import units
from edge.config.load import Settings, SettingsError, read_key_limits
from edge.config.model import AllowanceConfig, PlanConfig
from middlewares.exchange import Exchange, Principal, Team
from middlewares.limits import Budget, Limits, PlanLimits, Rate, TeamLimits, Window
from middlewares.problem import Problem

_NOTHING: Mapping[str, str] = {}
_MAX_REMEMBERED = 100_000
"""Principals and teams whose limits are cached; a changed key is a new principal."""


class Plans:
    """Limits per principal and per team.

    `auth.default_plan` applies to keys without a plan and, with mode "none", to all addresses.
    These get the rate `limits.address` if that plan has none.
    """

    def __init__(self, settings: Settings) -> None:
        self._plans: dict[str | None, AllowanceConfig] = {plan.id: plan for plan in settings.plans}
        self._plans[None] = self._plans.get(settings.auth.default_plan, AllowanceConfig())
        if settings.auth.mode == "none" and self._plans[None].requests is None:
            self._plans[None] = msgspec.structs.replace(
                self._plans[None],
                requests=settings.limits.address,
                burst=settings.limits.address_burst,
            )
        self._downgrades = {plan.id: _downgrades(plan) for plan in settings.plans}
        self._downgrades = {id_: choices for id_, choices in self._downgrades.items() if choices}
        self._any_with_body = any(
            plan.tokens is not None or "rate_limited" in self._downgrades.get(name or "", ())
            for name, plan in self._plans.items()
        )
        self._default_plan = settings.auth.default_plan or ""
        self._storage = int(settings.files.storage)
        self._by_plan = {
            name: _divided(limits_of(plan), self._downgrades.get(name or self._default_plan))
            for name, plan in self._plans.items()
        }
        self._own: dict[int, tuple[Principal, _Divided]] = {}
        self._by_team: dict[str, tuple[Team, PlanLimits]] = {}
        self._divided_teams: dict[tuple[str, bool], _TeamDivided] = {}

    def limits(self, principal: Principal | None) -> PlanLimits:
        """The limits of `principal`.

        Raises Problem for a key whose plan is not configured, or whose own limits are invalid: a
        mistake must not remove the limits.
        """
        return self._divided(principal).whole

    def team_limits(self, team: Team) -> PlanLimits:
        """The limits over all keys of `team`. `auth.default_plan` does not apply to teams.

        They are the same object for all principals of the team. Raises Problem, as `limits`.
        """
        known = self._by_team.get(team.id)
        if known is not None:
            before, limits = known
            if before is team:
                return limits
            if before == team:  # of another principal
                self._by_team[team.id] = (team, limits)
                return limits
        limits = self._limits_of_team(team)
        if len(self._by_team) >= _MAX_REMEMBERED:
            self._by_team.clear()
        self._by_team[team.id] = (team, limits)
        return limits

    def team_budget(self, principal: Principal | None) -> Budget | None:
        """The budget of the team of `principal`; None where that has no limit. Raises Problem."""
        if principal is None or principal.team is None:
            return None
        budget = self.team_limits(principal.team).budget
        return budget if budget.limited else None

    def storage(self, principal: Principal | None) -> int:
        """Bytes of all files of `principal`. Raises Problem, as `limits`."""
        own = self.limits(principal).storage
        return self._storage if own is None else own

    def _divided(self, principal: Principal | None) -> "_Divided":
        if principal is None:
            return self._by_plan[None]
        if principal.limits is None:
            divided = self._by_plan.get(principal.plan)
            if divided is None:
                raise _misconfigured(principal, f"plan {principal.plan} is not configured")
            return divided
        known = self._own.get(id(principal))
        if known is not None and known[0] is principal:
            return known[1]
        whole = self._merged(principal, principal.limits)
        divided = _divided(whole, self.downgrades(principal))
        if len(self._own) >= _MAX_REMEMBERED:
            self._own.clear()
        self._own[id(principal)] = (principal, divided)
        return divided

    def before_body(self, exchange: Exchange) -> Limits | None:
        """The limits that apply before the body is read, or None.

        They are the concurrency and the request rate. The rate waits for the body if another model
        may serve instead, which depends on the body.
        """
        return self._divided(exchange.principal).before_body

    def team_before_body(self, exchange: Exchange) -> TeamLimits | None:
        """Subject and limits of the caller's team before the body is read, or None.

        They are divided as those of the key, so that both are decided at once.
        """
        principal = exchange.principal
        if principal is None or principal.team is None:
            return None
        return self._divided_for_team(principal, principal.team).before_body

    def team_with_body(self, exchange: Exchange) -> TeamLimits | None:
        """Subject and limits of the caller's team once the body is read, or None."""
        principal = exchange.principal
        if principal is None or principal.team is None or exchange.downgrade_to:
            return None
        return self._divided_for_team(principal, principal.team).with_body

    def _divided_for_team(self, principal: Principal, team: Team) -> "_TeamDivided":
        whole = self.team_limits(team)
        later = "rate_limited" in self.downgrades(principal)
        known = self._divided_teams.get((team.id, later))
        if known is not None and known.whole is whole:
            return known
        parts = _divided(whole, self.downgrades(principal))
        subject = f"team:{team.id}"
        divided = _TeamDivided(
            whole,
            None if parts.before_body is None else (subject, parts.before_body),
            None if parts.with_body is None else (subject, parts.with_body),
        )
        if len(self._divided_teams) >= _MAX_REMEMBERED:
            self._divided_teams.clear()
        self._divided_teams[team.id, later] = divided
        return divided

    def with_body(self, exchange: Exchange) -> Limits | None:
        """The limits that apply once the body is read, or None.

        A downgraded request is not counted again: its rates are exhausted, or it was counted.
        """
        if exchange.downgrade_to:
            return None
        principal = exchange.principal
        if not self._any_with_body and (principal is None or principal.limits is None):
            return None
        return self._divided(principal).with_body

    @property
    def downgrade(self) -> bool:
        """Whether any plan has a model for refused requests."""
        return bool(self._downgrades)

    def downgrades(self, principal: Principal | None) -> Mapping[str, str]:
        """The model that serves instead, by kind of refusal."""
        plan = principal.plan if principal is not None else None
        return self._downgrades.get(plan or self._default_plan, _NOTHING)

    def _merged(self, principal: Principal, own: Mapping[str, Any]) -> PlanLimits:
        plan = self._plans.get(principal.plan)
        if plan is None:
            raise _misconfigured(principal, f"plan {principal.plan} is not configured")
        try:
            return limits_of(merged(plan, own))
        except SettingsError as error:
            raise _misconfigured(principal, str(error)) from None

    def _limits_of_team(self, team: Team) -> PlanLimits:
        plan = AllowanceConfig() if team.plan is None else self._plans.get(team.plan)
        if plan is None:
            raise _misconfigured(team, f"plan {team.plan} is not configured")
        try:
            return limits_of(plan if team.limits is None else merged(plan, team.limits))
        except SettingsError as error:
            raise _misconfigured(team, str(error)) from None


class _TeamDivided(msgspec.Struct, frozen=True):
    """What a team may use, and its rates in the two parts in which they are decided."""

    whole: PlanLimits
    before_body: TeamLimits | None
    with_body: TeamLimits | None


class _Divided(msgspec.Struct, frozen=True):
    """What a principal may use, and its limits in the two parts in which they are decided."""

    whole: PlanLimits
    before_body: Limits | None
    with_body: Limits | None


def _divided(whole: PlanLimits, downgrades: Mapping[str, str] | None) -> _Divided:
    """The parts have the very rates of the whole, as counters go by them."""
    limits = whole.limits
    later = limits.requests if downgrades and "rate_limited" in downgrades else None
    before, rest = limits, None
    if later is not None or limits.tokens is not None:
        now = limits.requests if later is None else None
        before = msgspec.structs.replace(limits, requests=now, tokens=None)
        rest = msgspec.structs.replace(limits, requests=later, concurrency=None)
    anything = before.requests is not None or before.concurrency is not None
    return _Divided(whole, before if anything else None, rest)


def merged(plan: AllowanceConfig, own: Mapping[str, Any]) -> AllowanceConfig:
    """`plan` with the members of `own` replaced. Raises SettingsError."""
    given = read_key_limits(own)
    fields = {name: getattr(plan, name) for name in AllowanceConfig.__struct_fields__}
    fields |= {name: getattr(given, name) for name in own}
    if "requests" in own and "burst" not in own:
        fields["burst"] = 0  # the plan's burst belongs to its own rate
    return AllowanceConfig(**fields)


def limits_of(allowance: AllowanceConfig) -> PlanLimits:
    """`allowance` as `PlanLimits` for the middlewares."""
    requests = allowance.requests
    return PlanLimits(
        limits=Limits(
            requests=None if requests is None else _rate(requests, allowance.burst),
            tokens=None if allowance.tokens is None else _rate(allowance.tokens, 0),
            concurrency=allowance.concurrency,
            on_excess=allowance.on_excess,
        ),
        budget=Budget(
            windows=tuple(
                Window(
                    name=str(window.length),
                    seconds=window.length.seconds,
                    cap=int(window.credits),
                    aligned=window.aligned,
                )
                for window in allowance.windows
            ),
            credits=allowance.overflow == "credits",
            on_hangup=allowance.on_hangup,
            cut_off=allowance.cut_off,
        ),
        storage=None if allowance.storage is None else int(allowance.storage),
    )


def _downgrades(plan: PlanConfig) -> Mapping[str, str]:
    choices: dict[str, str] = {}
    if plan.on_budget is not None:
        choices |= dict.fromkeys(("budget_exceeded", "insufficient_credits"), plan.on_budget)
    if plan.on_rate_limit is not None:
        choices["rate_limited"] = plan.on_rate_limit
    return choices


def _rate(rate: units.RateSetting, burst: int) -> Rate:
    return Rate(rate.count, rate.seconds, burst)


def _misconfigured(whose: Principal | Team, reason: str) -> Problem:
    kind = "team" if isinstance(whose, Team) else "key"
    return Problem("key_misconfigured", reason=f"{kind} {whose.id}: {reason}")
