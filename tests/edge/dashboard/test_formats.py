"""Amounts, counts and limits as text."""

import pytest

from edge.dashboard.formats import (
    column,
    count,
    countdown,
    credits_text,
    limit,
    milliseconds,
    money,
    per,
    share,
    size,
)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0.00"),
        ("0", "0.00"),
        (1, "<0.0001"),
        (-1, ">-0.0001"),
        (100_000, "0.0001"),
        (3_740_500, "0.0037"),
        ("0.30", "0.30"),
        ("0.5", "0.50"),
        (999_999_999, "1.00"),
        ("11.71705645", "11.72"),
        (1_234_567_891_000_000_000, "1,234,567,891.00"),
        (-2_500_000_000, "-2.50"),
    ],
)
def test_money_is_rounded_and_never_nothing_for_something(amount: int | str, text: str) -> None:
    assert money(amount) == text


def test_column_of_amounts_has_four_digits_each() -> None:
    amounts = (0, 5, 1_500_000_000, 2_000_123_000_000)
    assert [column(one) for one in amounts] == ["0.0000", "<0.0001", "1.5000", "2,000.1230"]


def test_credits_are_exact() -> None:
    assert credits_text(1) == "0.000000001"
    assert credits_text(2_500_000_000) == "2.50"
    assert credits_text("-1234.5") == "-1,234.50"


def test_nothing_unset_and_unlimited_are_three_texts() -> None:
    assert len({limit(0), limit(None), count(None), count(0), credits_text(None)}) == 3


@pytest.mark.parametrize(("used", "cap", "percent"), [("0", "0", 100), ("5", "10", 50), (2, 3, 66)])
def test_share_of_a_cap_is_in_percent(used: int | str, cap: int | str, percent: int) -> None:
    assert share(used, cap) == percent


def test_lengths_sizes_and_times_are_words() -> None:
    assert [per("1m"), per("10m")] == ["minute", "10m"]
    assert [size(5), size(1536), size(None)] == ["5 B", "1.5 KiB", "not set"]
    assert [milliseconds(None), milliseconds(3.4), milliseconds(65_000)] == [
        "not set",
        "3 ms",
        "1 min 5 s",
    ]
    assert [countdown(100, 100), countdown(3700, 0)] == ["now", "in 1 h 1 min"]
