"""Prices are sums of whole numbers, rounded up once; decimals go both ways without loss."""

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from middlewares import Usage
from middlewares.pricing import NANO, UNITS, Price, decimal, has_units, nano

MILLION = 10**6
PRICES = st.builds(
    Price,
    *[st.integers(0, 10**12)] * 7,
    character=st.integers(0, 10**12),
    second=st.integers(0, 10**12),
)
USAGES = st.builds(
    Usage,
    *[st.integers(0, 10**7)] * 8,
    characters=st.integers(0, 10**7),
    video_ms=st.integers(0, 10**7),
)


@given(PRICES, USAGES)
def test_a_cost_is_the_exact_sum_rounded_up_to_a_nano_credit(price: Price, usage: Usage) -> None:
    exact = (
        Fraction(
            usage.input * price.input
            + usage.output * price.output
            + usage.cache_read * price.cache_read
            + usage.cache_write * price.cache_write,
            MILLION,
        )
        + usage.images * price.image
        + usage.jobs * price.job
        + Fraction(usage.audio_ms * price.audio_minute, 60_000)
        + usage.characters * price.character
        + Fraction(usage.video_ms * price.second, 1_000)
    )
    assert price.cost(usage) == ceil(exact)


@given(PRICES, USAGES, USAGES)
def test_what_is_used_at_once_never_costs_more_than_in_parts(
    price: Price, one: Usage, other: Usage
) -> None:
    both = Usage(
        *[
            getattr(one, name) + getattr(other, name)
            for name in Usage.__struct_fields__  # disjoint figures, `reasoning` costs nothing more
        ]
    )
    apart = price.cost(one) + price.cost(other)
    assert apart - 1 <= price.cost(both) <= apart


def test_cached_tokens_have_prices_of_their_own() -> None:
    price = Price(
        input=3 * NANO, output=15 * NANO, cache_read=NANO * 3 // 10, cache_write=3_750_000_000
    )
    usage = Usage(input=1000, output=100, cache_read=10_000, cache_write=2_000, reasoning=90)
    assert decimal(price.cost(usage)) == "0.015"
    # By hand: 0.003 + 0.0015 + 0.003 + 0.0075


def test_images_jobs_and_minutes() -> None:
    price = Price(image=nano("0.04"), job=nano("0.50"), audio_minute=nano("0.006"))
    assert price.cost(Usage(images=2, jobs=1, audio_ms=90_000)) == nano("0.589")
    assert price.cost(Usage(audio_ms=1)) == 100
    assert Price(audio_minute=1).cost(Usage(audio_ms=1)) == 1


@given(PRICES, USAGES)
def test_what_a_request_may_cost_covers_its_units(price: Price, usage: Usage) -> None:
    units = Usage(**{name: getattr(usage, name) for name in UNITS})
    assert price.max_cost(usage.input, usage.output, 0, units) >= price.cost(
        replace(units, input=usage.input, output=usage.output)
    )
    assert price.tokens(0, 0, units) == price.cost(units)
    assert has_units(units) == any(getattr(usage, name) for name in UNITS)


@given(st.integers(-(10**18), 10**18))
def test_decimals_go_both_ways(amount: int) -> None:
    assert nano(decimal(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0.00"),
        (1, "0.000000001"),
        (-1, "-0.000000001"),
        (1_230_000, "0.00123"),
        (5 * NANO, "5.00"),
        (-1_500_000_000, "-1.50"),
        (1_000_000_000_000_000_001, "1000000000.000000001"),
    ],
)
def test_decimal(amount: int, shown: str) -> None:
    assert decimal(amount) == shown


@pytest.mark.parametrize(
    ("text", "amount"), [("5", 5 * NANO), (" 0.5 ", NANO // 2), ("+0.000000001", 1)]
)
def test_nano(text: str, amount: int) -> None:
    assert nano(text) == amount
    assert nano(text.strip() + "0" * 40 if "." in text else text) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "five",
        "NaN",
        "Infinity",
        "0.0000000001",
        "1,5",
        "1e30",
        "1e999999999",
        "-1e10",
        "1e-999999999",
        "sNaN",
        "1." + "0" * 30 + "1",
        "1e-9",
        "1e1",
        "1_000",
        "0x10",
        ".5",
        "5.",
        "5,00",
        "\u0663",
        "\uff15.00",
        "1\u0660",
        "1 0",
        "--5",
        "9" * 5000,
    ],
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected credits such as \"5\.00\""):
        nano(text)


APART = Price(
    input=3 * NANO,
    output=15 * NANO,
    cache_write=4 * NANO,
    cache_write_1h=6 * NANO,
    hosted_call=NANO // 100,
    factors={"priority": 2 * NANO, "flex": NANO // 2, "us": 11 * NANO // 10},
)
"""3, 15, 4 and 6 credits per million tokens, a hundredth for a call."""
USED = Usage(input=1000, output=100)
COSTS = 1000 * 3000 + 100 * 15_000


def test_cost_what_is_written_for_an_hour_has_its_own_price() -> None:
    used = Usage(cache_write=300, cache_write_1h=200)
    assert APART.cost(used) == 100 * 4000 + 200 * 6000
    assert APART.cost(replace(used, cache_write_1h=900)) == 300 * 6000  # a part of the whole


def test_cost_calls_of_hosted_tools_are_added() -> None:
    assert APART.cost(replace(USED, hosted=3)) == COSTS + 3 * NANO // 100
    assert APART.cost(Usage(hosted=1, images=0)) == NANO // 100


@pytest.mark.parametrize(
    ("asked", "reported", "factor"),
    [
        ((), (), "1"),
        (("priority", "", ""), (), "2"),
        (("priority", "", ""), ("priority", "", ""), "2"),
        (("priority", "", ""), ("default", "", ""), "1"),
        (("priority", "", ""), ("flex", "", ""), "0.5"),
        (("flex", "", ""), (), "1"),  # nothing says that it was flex
        (("flex", "", ""), ("flex", "", ""), "0.5"),
        (("auto", "", ""), ("priority", "", ""), "1"),
        ((), ("priority", "fast", "us"), "1"),
        (("", "", "us"), ("standard", "", "us"), "1.1"),
        (("priority", "", "us"), ("priority", "", "us"), "2.2"),
    ],
)
def test_cost_tiers_no_answer_costs_more_than_was_asked_for(
    asked: tuple[str, ...], reported: tuple[str, ...], factor: str
) -> None:
    cost = APART.cost(replace(USED, tiers=reported), asked)
    assert cost == int(COSTS * Decimal(factor))
    assert cost <= APART.max_price(asked).max_cost(1000, 100)


def test_most_with_an_hour_sets_aside_the_price_of_the_hour() -> None:
    assert APART.max_price(hour=True).max_cost(1000, 0) == 1000 * 6000
    assert APART.max_cost(1000, 0) == 1000 * 4000
    assert APART.max_price(("priority", "", ""), hour=True).max_cost(1000, 0) == 1000 * 12_000
    assert APART.max_cost(0, 0, hosted=2) == 2 * NANO // 100


def test_dearest_is_dearer_than_each_in_every_part() -> None:
    other = Price(input=9 * NANO, factors={"priority": NANO, "fast": 6 * NANO})
    both = Price.most_expensive([APART, other])
    assert (both.input, both.output, both.hosted_call) == (9 * NANO, 15 * NANO, NANO // 100)
    assert both.factors == {**APART.factors, "fast": 6 * NANO}
    assert Price.most_expensive([]) == Price()
