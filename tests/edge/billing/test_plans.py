"""Terms of principals: the plan's, with what the key has of its own."""

from typing import Any

import pytest

from edge.billing.plans import Plans
from edge.config.load import SettingsError, parse, read_key_limits
from middlewares import Exchange, Principal, Problem
from middlewares.exchange import Team
from middlewares.limits import Budget, Limits, PlanLimits, Rate, Window
from middlewares.pricing import NANO

PLANS: list[dict[str, Any]] = [
    {
        "id": "pro",
        "requests": "120/min",
        "burst": 20,
        "tokens": "200k/min",
        "concurrency": 8,
        "on_excess": "throttle",
        "windows": [
            {"length": "5h", "credits": "5.00"},
            {"length": "calendar month", "credits": "40"},
            {"length": "7d", "credits": "10", "aligned": True},
        ],
        "overflow": "credits",
        "on_hangup": "drain",
        "cut_off": True,
    },
    {"id": "free", "requests": "30/min"},
]


def plans(**auth: Any) -> Plans:
    return Plans(parse({"plans": PLANS, "auth": auth}, env={}))


def holder(plan: str | None = None, **own: Any) -> Principal:
    return Principal(id="key_1", plan=plan, limits=own or None)


def test_a_plan_in_full() -> None:
    assert plans().limits(holder("pro")) == PlanLimits(
        Limits(Rate(120, 60.0, 20), Rate(200_000, 60.0), 8, "throttle"),
        Budget(
            (
                Window("5h", 18000.0, 5 * NANO),
                Window("calendar month", None, 40 * NANO),
                Window("7d", 604800.0, 10 * NANO, aligned=True),
            ),
            credits=True,
            on_hangup="drain",
            cut_off=True,
        ),
    )


def test_no_plan_is_no_limit_unless_one_is_for_all() -> None:
    assert plans().limits(holder()) == PlanLimits()
    assert plans(default_plan="free").limits(holder()).limits.requests == Rate(30, 60.0)
    assert plans(default_plan="free").limits(holder("pro")).limits.concurrency == 8


def test_without_keys_an_address_has_its_rate() -> None:
    assert plans(mode="none").limits(holder()).limits.requests == Rate(60, 60.0, 10)
    assert plans(mode="none", default_plan="free").limits(holder()).limits.requests == Rate(
        30, 60.0
    )


def test_what_a_key_has_of_its_own_takes_the_place_of_the_plans() -> None:
    own = plans().limits(holder("pro", requests="400/min", windows=[]))
    assert own.limits == Limits(Rate(400, 60.0, 0), Rate(200_000, 60.0), 8, "throttle")
    assert own.budget == Budget((), credits=True, on_hangup="drain", cut_off=True)
    alone = plans().limits(holder(None, concurrency=2))
    assert alone == PlanLimits(Limits(concurrency=2))


def test_terms_are_made_once_for_each_principal() -> None:
    known = plans()
    one, other = holder("pro", concurrency=2), holder("pro", concurrency=3)
    assert known.limits(one) is known.limits(one)
    assert known.limits(other).limits.concurrency == 3


def test_limits_of_a_team_are_its_plans_overridden_by_its_own() -> None:
    known = plans(default_plan="free")
    assert known.team_limits(Team("t1", plan="pro")) == known.limits(holder("pro"))
    own = known.team_limits(Team("t2", plan="pro", limits={"windows": [], "overflow": "none"}))
    assert own.budget == Budget(on_hangup="drain", cut_off=True)
    assert own.limits == known.limits(holder("pro")).limits


def test_team_without_plan_and_limits_is_unlimited_whatever_the_default_plan() -> None:
    assert plans(default_plan="free").team_limits(Team("t")) == PlanLimits()
    assert plans(mode="none").team_limits(Team("t")) == PlanLimits()
    own = {"windows": [{"length": "5h", "credits": "2"}]}
    assert plans(default_plan="free").team_limits(Team("t", limits=own)) == PlanLimits(
        budget=Budget((Window("5h", 18000.0, 2 * NANO),))
    )


def test_limits_of_a_team_are_one_object_for_all_its_principals() -> None:
    known = plans()
    first = known.team_limits(Team("t", plan="pro", limits={"concurrency": 2}))
    assert known.team_limits(Team("t", plan="pro", limits={"concurrency": 2})) is first
    changed = known.team_limits(Team("t", plan="pro", limits={"concurrency": 3}))
    assert changed.limits.concurrency == 3


@pytest.mark.parametrize(
    ("team", "reason"),
    [
        (Team("t", plan="gone"), "team t: plan gone is not configured"),
        (Team("t", plan="gone", limits={}), "team t: plan gone is not configured"),
        (Team("t", plan="pro", limits={"requests": "many"}), "team t: limits.requests: expected"),
        (Team("t", limits={"speed": 1}), "team t: limits.speed: unknown key"),
    ],
)
def test_team_with_a_mistake_is_refused_and_named(team: Team, reason: str) -> None:
    with pytest.raises(Problem) as raised:
        plans().team_limits(team)
    assert raised.value.kind == "key_misconfigured"
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("principal", "reason"),
    [
        (holder("gone"), "key key_1: plan gone is not configured"),
        (holder("gone", concurrency=2), "key key_1: plan gone is not configured"),
        (holder("pro", requests="many"), "key key_1: limits.requests: expected a rate"),
        (holder("pro", speed=1), "key key_1: limits.speed: unknown key"),
    ],
)
def test_a_mistake_limits_no_one_less(principal: Principal, reason: str) -> None:
    with pytest.raises(Problem) as raised:
        plans().limits(principal)
    assert raised.value.kind == "key_misconfigured"
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("own", "fault"),
    [
        (
            {"burst": 5},
            "limits.burst: is not used without limits.requests; set a rate or remove it",
        ),
        (
            {"on_excess": "throttle"},
            "limits.on_excess: is not used without a limit; set limits.requests, tokens or "
            "concurrency, or remove it",
        ),
        (
            {"windows": [{"length": "5h", "credits": "1"}, {"length": "5h", "credits": "2"}]},
            "limits.windows[1].length: another window has the length 5h; expected one window of "
            "each length",
        ),
        ({"windows": [{"length": "5h"}]}, "limits.windows[0].credits: is missing"),
        ({"id": "x"}, "limits.id: unknown key; did you mean windows?"),
    ],
)
def test_what_a_key_cannot_have(own: dict[str, Any], fault: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_key_limits(own)
    assert raised.value.faults[0].startswith(fault.partition(";")[0])


def test_a_plan_for_all_has_to_be_there() -> None:
    with pytest.raises(
        SettingsError, match=r"auth\.default_plan: unknown plan nope; known: free, pro"
    ):
        plans(default_plan="nope")


def test_limits_without_tokens_are_all_decided_at_the_door() -> None:
    some = plans()
    free = holder("free")
    assert some.before_body(Exchange(principal=free)) is some.limits(free).limits
    assert some.with_body(Exchange(principal=free)) is None


def test_limits_of_tokens_are_decided_with_the_body() -> None:
    some = plans()
    for principal in (holder("pro"), holder("pro", tokens="5/min")):
        limits = some.limits(principal).limits
        exchange = Exchange(principal=principal)
        door, body = some.before_body(exchange), some.with_body(exchange)
        assert body is not None
        assert door == Limits(limits.requests, None, 8, "throttle")
        assert body == Limits(None, limits.tokens, None, "throttle")
        assert some.before_body(exchange) is door  # counters go by the identity of a rate
        assert door.requests is limits.requests and body.tokens is limits.tokens


def test_requests_for_which_another_model_serves_are_decided_with_the_body() -> None:
    plan = {"id": "kind", "requests": "9/min", "concurrency": 2, "on_rate_limit": "spare"}
    near = {"name": "near", "dialect": "simulator"}
    document = {
        "plans": [plan, *PLANS],
        "upstreams": [near],
        "models": [{"id": "spare", "targets": ["near/x"]}],
    }
    some = Plans(parse(document, env={}))
    exchange = Exchange(principal=holder("kind"))
    assert some.before_body(exchange) == Limits(concurrency=2)
    assert some.with_body(exchange) == Limits(requests=Rate(9, 60.0))
    exchange.downgrade_to = "spare"
    assert some.with_body(exchange) is None
    assert some.with_body(Exchange(principal=holder("free"))) is None


def member(plan: str | None, team: Team) -> Exchange:
    return Exchange(principal=Principal(id="key_1", plan=plan, team=team))


def test_rates_of_a_team_are_divided_as_those_of_the_key() -> None:
    some, team = plans(), Team("team_1", plan="pro")
    for plan in ("free", None):
        exchange = member(plan, team)
        door, body = some.team_before_body(exchange), some.team_with_body(exchange)
        assert door == ("team:team_1", Limits(Rate(120, 60.0, 20), None, 8, "throttle"))
        assert body == ("team:team_1", Limits(None, Rate(200_000, 60.0), None, "throttle"))
        assert some.team_before_body(member(plan, team)) is door
        exchange.downgrade_to = "spare"
        assert some.team_with_body(exchange) is None


def test_requests_of_a_team_are_decided_with_the_body_where_those_of_the_key_are() -> None:
    plan = {"id": "kind", "requests": "9/min", "on_rate_limit": "spare"}
    near = {"name": "near", "dialect": "simulator"}
    document = {
        "plans": [plan, *PLANS],
        "upstreams": [near],
        "models": [{"id": "spare", "targets": ["near/x"]}],
    }
    some, team = Plans(parse(document, env={})), Team("t", plan="free")
    assert some.team_before_body(member("kind", team)) is None
    assert some.team_with_body(member("kind", team)) == ("team:t", Limits(Rate(30, 60.0)))
    assert some.team_before_body(member("free", team)) == ("team:t", Limits(Rate(30, 60.0)))
    assert some.team_with_body(member("free", team)) is None


def test_rates_of_no_team_and_of_an_unlimited_one_are_none() -> None:
    some = plans(default_plan="free")
    for exchange in (member("pro", Team("t")), Exchange(principal=holder("pro")), Exchange()):
        assert some.team_before_body(exchange) is None
        assert some.team_with_body(exchange) is None


def test_rates_of_a_team_that_was_edited_are_the_new_ones() -> None:
    some = plans()
    for count in (5, 7):
        exchange = member("free", Team("t", limits={"requests": f"{count}/min"}))
        assert some.team_before_body(exchange) == ("team:t", Limits(Rate(count, 60.0)))
