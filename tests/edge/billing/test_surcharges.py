"""What a request may ask for beside its tokens."""

from typing import Any

import msgspec
import pytest

from edge.billing.surcharges import (
    caches_for_an_hour,
    check_tiers,
    compacts,
    hosted_calls,
    requested_tiers,
    tariff_of,
)
from edge.endpoints import BY_NAME
from middlewares import Problem
from middlewares.exchange import Usage
from middlewares.pricing import NANO, Price

PRICE = Price(input=NANO, output=NANO, factors={"priority": 2 * NANO})
SEARCH = {"type": "web_search_20260209", "name": "web_search"}
FUNCTION = {"type": "function", "name": "f"}


def fields(**members: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


@pytest.mark.parametrize(
    ("members", "asked"),
    [
        ({"model": "m"}, ()),
        ({"service_tier": "priority"}, ("priority", "", "")),
        ({"speed": "fast", "inference_geo": "us"}, ("", "fast", "us")),
        ({"service_tier": None}, ("", "", "")),
        ({"service_tier": 5, "speed": ["fast"]}, ("", "", "")),
    ],
)
def test_tiers_asked(members: dict[str, Any], asked: tuple[str, ...]) -> None:
    assert requested_tiers(fields(**members)) == asked


@pytest.mark.parametrize(
    "members",
    [
        {"service_tier": "auto"},
        {"service_tier": "default"},
        {"service_tier": "standard_only"},
        {"service_tier": "flex"},
        {"service_tier": "priority"},
        {"speed": "standard", "inference_geo": "global"},
    ],
)
def test_check_tiers_what_is_priced_or_costs_no_more_passes(members: dict[str, Any]) -> None:
    check_tiers(requested_tiers(fields(**members)), PRICE)


@pytest.mark.parametrize(
    "members", [{"service_tier": "scale"}, {"speed": "fast"}, {"inference_geo": "us"}]
)
def test_check_tiers_refuses_what_has_no_price_by_its_name(members: dict[str, Any]) -> None:
    with pytest.raises(Problem) as refused:
        check_tiers(requested_tiers(fields(**members)), PRICE)
    ((name, value),) = members.items()
    assert refused.value.kind == "invalid_request"
    assert refused.value.param == name
    assert f"`{name}`: {value!r}" in (refused.value.message or "")


def test_tariff_of_binds_what_is_asked_for() -> None:
    used = Usage(input=10)
    tariff = tariff_of(PRICE, fields(service_tier="priority"))
    assert tariff is not None
    assert tariff.cost(used) == 20_000
    usual = tariff_of(PRICE, fields(model="m"))
    assert usual is not None
    assert usual.cost(used) == 10_000
    assert tariff_of(None, {}) is None


@pytest.mark.parametrize(
    ("sent", "cost"),
    [(b'{"service_tier":"default"}', 20_000), (b'{"speed":"x"}', 10_000), (b"{}", 10_000)],
)
def test_tariff_of_a_tier_that_is_not_sent_is_the_usual(sent: bytes, cost: int) -> None:
    tariff = tariff_of(PRICE, fields(service_tier="priority"), sent)
    assert tariff is not None
    assert tariff.cost(Usage(input=10)) == cost


@pytest.mark.parametrize(
    ("content", "hour"),
    [
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, True),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, False),
        ({"cache_control": {"type": "ephemeral"}}, False),
        ({"text": 'said "1h" once'}, False),
    ],
)
def test_keeps_for_an_hour(content: dict[str, Any], hour: bool) -> None:
    assert caches_for_an_hour(fields(model="m", messages=[{"content": [content]}])) is hour


def test_keeps_for_an_hour_in_other_letters() -> None:
    media_bytes = msgspec.Raw(b'{"type":"ephemeral","ttl":"\\u0031\\u0068"}')
    assert caches_for_an_hour({"cache_control": media_bytes})


def test_compacts() -> None:
    edits = {"edits": [{"type": "compact_20260112"}]}
    assert compacts(fields(context_management=edits))
    assert not compacts(fields(context_management={"edits": [{"type": "clear_tool_uses"}]}))
    assert not compacts(fields(model="m"))


@pytest.mark.parametrize(
    ("endpoint", "members", "calls"),
    [
        ("messages", {}, 0),
        ("messages", {"tools": None}, 0),
        ("messages", {"tools": [FUNCTION]}, 0),
        ("messages", {"tools": [FUNCTION, SEARCH]}, 10),
        ("messages", {"tools": [{**SEARCH, "max_uses": 3}, FUNCTION]}, 3),
        ("messages", {"tools": [{**SEARCH, "max_uses": 3}, {**SEARCH, "max_uses": 40}]}, 43),
        ("messages", {"tools": [{**SEARCH, "max_uses": 3}, SEARCH]}, 10),
        ("messages", {"tools": [{**SEARCH, "max_uses": 9}, {**SEARCH, "max_uses": -9}]}, 10),
        ("messages", {"tools": [{**SEARCH, "max_uses": 0}]}, 10),
        ("messages", {"tools": ["odd"]}, 10),
        ("messages", {"tools": [SEARCH], "max_tool_calls": 1}, 10),
        ("responses", {"tools": [SEARCH]}, 10),
        ("responses", {"tools": [SEARCH], "max_tool_calls": 25}, 25),
        ("responses", {"tools": [SEARCH], "max_tool_calls": 0}, 10),
        ("responses", {"tools": [SEARCH], "max_tool_calls": -1}, 10),
        ("responses", {"tools": [SEARCH], "max_tool_calls": "many"}, 10),
        ("responses", {"tools": [{**SEARCH, "max_uses": 1}]}, 10),
        ("chat.completions", {"web_search_options": {}}, 10),
        ("chat.completions", {"web_search_options": {}, "tools": [FUNCTION]}, 10),
        ("chat.completions", {"tools": [{**SEARCH, "max_uses": 1}], "max_tool_calls": 1}, 10),
    ],
)
def test_hosted_calls(endpoint: str, members: dict[str, Any], calls: int) -> None:
    assert hosted_calls(BY_NAME[endpoint].codec, fields(**members)) == calls
