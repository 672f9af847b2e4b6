"""The caller's trace context: what is taken over, and what is sent on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares import Exchange
from middlewares.tracing.traceparent import (
    Parent,
    context_headers,
    parent_of,
    parse,
    state_of,
)
from tests.asgi import http_scope

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"
PARENT = Parent(int(TRACE, 16), int(SPAN, 16), True)
UNSAMPLED = Parent(int(TRACE, 16), int(SPAN, 16), False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VALID, PARENT),
        (f" {VALID}\t", PARENT),
        (f"00-{TRACE}-{SPAN}-00", UNSAMPLED),
        (f"00-{TRACE}-{SPAN}-02", UNSAMPLED),
        (f"00-{TRACE}-{SPAN}-ff", PARENT),
        (f"01-{TRACE}-{SPAN}-01", PARENT),
        (f"cc-{TRACE}-{SPAN}-01-what-a-later-version-adds", PARENT),
        (f"00-{TRACE}-{SPAN}-01-", None),
        (f"00-{TRACE}-{SPAN}-01-x", None),
        (f"cc-{TRACE}-{SPAN}-01.x", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"0-{TRACE}-{SPAN}-01", None),
        (f"00_{TRACE}-{SPAN}-01", None),
        ("", None),
    ],
)
def test_parse_follows_the_rules_of_versions(text: str, expected: Parent | None) -> None:
    assert parse(text.encode()) == expected


@given(st.binary(max_size=80))
def test_parse_any_bytes_gives_a_parent_or_none(value: bytes) -> None:
    parent = parse(value)
    assert parent is None or (parent.trace_id and parent.span_id)


def test_parent_of_two_headers_is_none() -> None:
    once = http_scope("GET", "/", headers=[("traceparent", VALID)])
    twice = http_scope("GET", "/", headers=[("traceparent", VALID), ("traceparent", VALID)])
    assert parent_of(once) == PARENT
    assert parent_of(twice) is None
    assert parent_of(http_scope("GET", "/")) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], b""),
        (["a=1"], b"a=1"),
        (["a=1", "b=2,c=3"], b"a=1,b=2,c=3"),
        (["x" * 512], b"x" * 512),
        (["x" * 513], b""),
        (["x" * 300, "y" * 300], b""),
        ([",".join(f"k{n}=1" for n in range(32))], None),
        ([",".join(f"k{n}=1" for n in range(33))], b""),
        (["a=\x01"], b""),
    ],
)
def test_state_of_is_kept_within_its_bounds(values: list[str], expected: bytes | None) -> None:
    scope = http_scope("GET", "/", headers=[("tracestate", value) for value in values])
    wanted = values[0].encode() if expected is None else expected
    assert state_of(scope) == wanted


def test_context_headers_have_the_span_of_the_attempt_and_the_decision() -> None:
    exchange = Exchange(trace_id=1, span_id=2, sampled=True, trace_state=b"a=1")
    assert context_headers(exchange, 3) == (
        (b"traceparent", b"00-" + b"0" * 31 + b"1-" + b"0" * 15 + b"3-01"),
        (b"tracestate", b"a=1"),
    )
    exchange = Exchange(trace_id=1, span_id=2)
    ((_, value),) = context_headers(exchange, 3)
    assert value.endswith(b"-00")


def test_context_headers_without_a_trace_are_none() -> None:
    assert context_headers(Exchange(), 3) == ()
