"""How long an upstream asks to be left alone."""

import json
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.vendors.errors.retry_after import retry_after
from tests.edge.refusing import GOOGLE, NOW, refuse, said


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("7.4", 7),
        ("0", 1),
        ("0.2", 1),
        ("-5", 1),
        ("99999999", 3600),
        ("nan", 1),
        ("inf", 1),
        (formatdate(NOW + 30, usegmt=True), 30),
        (formatdate(NOW - 30, usegmt=True), 1),
        (formatdate(NOW + 10**6, usegmt=True), 3600),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: int | None) -> None:
    assert retry_after([(b"x", b"1"), (b"retry-after", value.encode())], NOW) == seconds


@given(st.binary(max_size=40))
def test_retry_after_of_any_garbage_is_harmless(value: bytes) -> None:
    seconds = retry_after([(b"retry-after", value)], NOW)
    assert seconds is None or 1 <= seconds <= 3600


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limited"), (503, "upstream_unavailable")])
def test_the_wait_is_reported_and_is_there_even_when_the_upstream_gave_none(
    status: int, kind: str
) -> None:
    actual = refuse(status, "x", headers=[(b"retry-after", b"17")])
    assert (actual.kind, actual.retry_after) == (kind, 17)
    assert refuse(status, "x").retry_after == 1
    if status == 429:
        assert "try again in 17s" in said(actual, "openai")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 2),
        ({"retry-after-ms": "20"}, 1),
        ({"retry-after-ms": "2500", "retry-after": "60"}, 3),
        ({"retry-after-ms": "soon", "retry-after": "60"}, 60),
        ({"retry-after-ms": "-1"}, 1),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 1),
        ({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(NOW + 42)}, 42),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW + 42) * 1000)}, 42),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "7"}, 7),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "Tomorrow"}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:50Z",
                "anthropic-ratelimit-tokens-remaining": "100",
                "anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:50Z",
            },
            30,
        ),
    ],
)
def test_wait_in_other_headers(headers: dict[str, str], seconds: int | None) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert retry_after(pairs, NOW) == seconds


def test_wait_until_a_date_that_no_clock_has_is_none() -> None:
    headers = [
        (b"x-ratelimit-remaining-requests", b"0"),
        (b"x-ratelimit-reset-requests", b"0001-01-01T00:00:00"),
    ]
    assert refuse(429, "slow down", headers=headers).retry_after == 1


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        ({"details": [{"@type": f"{GOOGLE}RetryInfo", "retryDelay": "21s"}]}, 21),
        ({"details": [{"@type": f"{GOOGLE}RetryInfo", "retryDelay": "21.337s"}]}, 22),
        ({"details": [{"retryDelay": {"seconds": 5}}]}, 5),
        ({"message": "Rate limit reached. Please try again in 1.5s. Visit"}, 2),
        ({"message": "Please try again in 6m0.5s."}, 361),
        ({"message": "Please try again in 850ms."}, 1),
        ({"message": "Please retry in 12.8s."}, 13),
        ({"message": "retry after 30 seconds"}, 30),
        ({"message": "Please wait 2 minutes and 5 seconds before"}, 125),
        ({"message": "x", "retry_after": 9}, 9),
        ({"message": "x", "retry_after_ms": 9500}, 10),
        ({"message": "x", "metadata": {"raw": "try again in 4s"}}, 4),
        ({"message": "try again in 3 days"}, 3600),
        ({"message": "x", "retry_after": 10**400}, 3600),
        ({"message": "x", "retry_after": -(10**400)}, 1),
        ({"message": "x", "retry_after_ms": 10**400}, 3600),
        ({"message": "x", "retry_after": True}, None),
        ({"message": "try again later, code 12"}, None),
    ],
)
def test_wait_in_the_body(error: dict[str, Any], seconds: int | None) -> None:
    for body in ({"error": error}, [{"error": error}]):
        for status, kind in ((429, "rate_limited"), (503, "upstream_unavailable")):
            problem = refuse(status, raw=json.dumps(body).encode())
            assert problem.kind == kind
            assert (problem.retry_after, problem.retry_after_given) == (
                seconds or 1,
                seconds is not None,
            )
    header = [(b"retry-after", b"17")]
    assert refuse(429, raw=json.dumps({"error": error}).encode(), headers=header).retry_after == 17
