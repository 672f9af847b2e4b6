"""Units: the written forms that they read, and that they read their own text back."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.secrets import Location
from edge.config.units import Credits, Duration, RateSetting, Size, Span, network


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2s", 2), ("10m", 600), ("1h30m", 5400), ("7d", 604800), (1.5, 1.5), (0, 0)],
)
def test_duration_parse_returns_seconds(text: object, seconds: float) -> None:
    assert Duration.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("32MiB", 33554432),
        ("1GB", 10**9),
        ("65536", 65536),
        (7, 7),
        ("1.5 KiB", 1536),
        ("2kb", 2000),
    ],
)
def test_size_parse_returns_bytes(text: object, count: int) -> None:
    assert Size.parse(text) == count


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [("60/min", 60, 60), ("5000/10min", 5000, 600), ("200k/min", 200_000, 60), ("2/s", 2, 1)],
)
def test_rate_parse_returns_count_and_seconds(text: str, count: int, seconds: float) -> None:
    assert RateSetting.parse(text) == RateSetting(count, seconds)


@pytest.mark.parametrize(
    ("text", "nano"),
    [("3.00", 3 * 10**9), ("0.000000001", 1), (5, 5 * 10**9), ("999999999.999999999", 10**18 - 1)],
)
def test_credits_parse_returns_nano_credits(text: object, nano: int) -> None:
    assert Credits.parse(text) == nano


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((Duration, text) for text in ("", "2", "s", "-1s", "2 weeks", -1, True, None, [1])),
        *((Duration, number) for number in (float("inf"), float("nan"))),
        *((Size, text) for text in ("", "MiB", "-1", "3q", 1.5, True, -1)),
        *(
            (RateSetting, text)
            for text in (
                *("", "60", "60/", "60/fortnight", "0/min", "1/0min", "0.5/s", 60),
                *("9999999m/s", f"{'9' * 400}/s", "1/3654d", f"1/{'9' * 400}d"),
            )
        ),
        *((Credits, text) for text in (3.0, "", "-1", "1e3", "0.0000000001", "1,00", True, "NaN")),
        *((Span, text) for text in ("", "month", "30s", "x", "3654d")),
        *((Location, text) for text in ("", "a b", "redis://h\r\n", 3)),
    ],
)
def test_parse_other_form_raises(kind: Any, text: object) -> None:
    with pytest.raises(ValueError, match="expected "):
        kind.parse(text)


@given(st.integers(0, 10**18 - 1))
def test_credits_str_is_parsed_back(nano: int) -> None:
    assert Credits.parse(str(Credits(nano))) == nano


@given(st.integers(0, 10**9).map(lambda ms: ms / 1000))
def test_duration_str_is_parsed_back(seconds: float) -> None:
    written = str(Duration(seconds))
    assert Duration.parse(written) == pytest.approx(seconds)


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_rate_and_size_str_are_parsed_back(count: int, seconds: int) -> None:
    assert Size.parse(str(Size(count))) == count
    rate = RateSetting(count, seconds * 60)
    assert RateSetting.parse(str(rate)).count == count
    assert RateSetting.parse(str(rate)).seconds == rate.seconds


def test_span_parse_takes_length_or_calendar_month() -> None:
    assert Span.parse("5h").seconds == 18000
    assert Span.parse("calendar month").seconds is None
    assert str(Span.parse("calendar month")) == "calendar month"


def test_network_with_host_bits_names_the_network() -> None:
    with pytest.raises(ValueError, match=re.escape('did you mean "10.0.0.0/8"?')):
        network("10.0.0.1/8")
    assert str(network("10.1.2.3")) == "10.1.2.3/32"
