"""Prices are sums of whole numbers, rounded up once; decimals go both ways without loss."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares import Usage
from middlewares.money import NANO, Price, decimal, nano

MILLION = 10**6
PRICES = st.builds(Price, *[st.integers(0, 10**12)] * 7)
USAGES = st.builds(Usage, *[st.integers(0, 10**7)] * 8)


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


@pytest.mark.parametrize(("text", "amount"), [("5", 5 * NANO), (" 0.5 ", NANO // 2), ("1e-9", 1)])
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
    ],
)
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected credits such as \"5\.00\""):
        nano(text)
