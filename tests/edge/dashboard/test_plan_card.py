"""Plans in words."""

from typing import Any

from edge.config.load import parse
from edge.config.units import RateSetting
from edge.dashboard.plan_card import plan_card, rate_text


def texts(currency: str = "", **plan: Any) -> tuple[str, ...]:
    document = {"upstreams": [{"name": "s", "dialect": "simulator"}]}
    settings = parse({**document, "plans": [{"id": "pro", **plan}]})
    card = plan_card(settings.plans[0], currency)
    assert card.name == "pro"
    return card.texts


def test_plan_says_each_of_its_limits() -> None:
    windows = [{"length": "5h", "credits": "5.00"}, {"length": "calendar month", "credits": "40"}]
    assert texts(
        windows=windows,
        overflow="credits",
        requests="120/min",
        burst=60,
        tokens="2M/min",
        on_excess="throttle",
        concurrency=16,
        storage="5GiB",
    ) == (
        "5.00 credits per 5h",
        "40.00 credits per calendar month",
        "then from credits",
        "120 requests per minute, and 60 more at once",
        "2,000,000 tokens per minute",
        "beyond that requests wait for their turn",
        "16 requests at the same time",
        "5GiB of files",
    )


def test_plan_without_limits_says_nothing() -> None:
    assert texts() == ()


def test_plan_has_the_currency() -> None:
    assert texts("$", windows=[{"length": "7d", "credits": "40"}]) == ("$40.00 per 7d",)


def test_rate_over_several_minutes_names_them() -> None:
    assert rate_text(RateSetting(5000, 600), "requests") == "5,000 requests per 10m"
