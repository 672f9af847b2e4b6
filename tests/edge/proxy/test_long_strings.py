"""Long JSON strings kept aside: what comes back is what came, however it was cut."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.passthrough import UpstreamError
from edge.proxy import long_strings
from edge.proxy.long_strings import LONGEST, HeldBytes, LongStrings, restoring
from middlewares.asgi import Message
from middlewares.problem import Problem

LONG = "x" * (LONGEST + 1)


@pytest.fixture(autouse=True)
def nothing_is_held() -> Iterator[None]:
    yield
    assert long_strings.HELD_BYTES.held == 0


def cut(data: bytes, marks: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(mark % (len(data) + 1) for mark in marks)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def through(pieces: list[bytes], *, lines: bool = False) -> tuple[bytes, bytes, int]:
    """The short text, the restored text, and its announced size."""
    strings = LongStrings(lines=lines)
    try:
        short = b"".join(map(strings.shorten, pieces)) + strings.rest()
        size = strings.size_of(short)
        return short, b"".join(strings.pieces(short)), size
    finally:
        strings.close()


VALUES = st.recursive(
    st.none()
    | st.integers()
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from([LONG, LONG + '"', "\\" * LONGEST, '\\"' * LONGEST, "é" * LONGEST]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(VALUES, st.booleans(), st.lists(st.integers(0, 1 << 20), max_size=8))
def test_restored_text_is_the_text_that_came(value: Any, ascii_: bool, marks: list[int]) -> None:
    data = json.dumps(value, ensure_ascii=ascii_).encode()
    short, restored, size = through(cut(data, marks))
    assert restored == data
    assert size == len(data)
    json.loads(short)


@given(st.lists(st.integers(0, 100_000), max_size=6))
def test_short_text_has_no_long_string(marks: list[int]) -> None:
    data = json.dumps({"a": [LONG, LONG], LONG: "b"}).encode()
    short, restored, _ = through(cut(data, marks))
    assert restored == data
    assert len(short) < 200


@pytest.mark.parametrize("size", [1, 2, 7])
def test_bytes_one_by_one_give_the_same(size: int) -> None:
    data = json.dumps({"a": LONG + '\\"\\', "b": 'c"'}).encode()
    assert through([data[at : at + size] for at in range(0, len(data), size)])[1] == data


@given(st.lists(st.integers(0, 100_000), max_size=6))
def test_comment_with_a_quotation_mark_ends_with_its_line(marks: list[int]) -> None:
    data = b': it is "so\r\ndata: {"a":"%b"}\n\n: "\ndata: {}\n\n' % LONG.encode()
    short, restored, _ = through(cut(data, marks), lines=True)
    assert restored == data
    assert len(short) < 200


def test_line_that_ends_within_a_long_string_fails() -> None:
    strings = LongStrings(lines=True)
    with pytest.raises(UpstreamError, match="within a string"):
        strings.shorten(b'data: {"a":"%b\n' % LONG.encode())
    strings.close()


def test_text_that_ends_within_a_long_string_fails() -> None:
    strings = LongStrings()
    strings.shorten(b'"' + LONG.encode())
    with pytest.raises(UpstreamError, match="within a string"):
        strings.rest()
    strings.close()


def test_short_string_without_an_end_is_given_back() -> None:
    strings = LongStrings()
    assert strings.shorten(b'{"a":"b') + strings.rest() == b'{"a":"b'


def test_mark_of_the_upstream_stands_for_nothing() -> None:
    """Marks have a secret number, so a text cannot name a string of this answer."""
    data = json.dumps({"a": LONG, "b": "@0123456789abcdef:1@"}).encode()
    assert through([data])[1] == data


def test_bounds_of_number_and_size() -> None:
    strings = LongStrings(limit=3 * LONGEST)
    with pytest.raises(UpstreamError, match="larger than"):
        strings.shorten(json.dumps([LONG] * 4).encode())
    strings.close()
    strings = LongStrings()
    with pytest.raises(UpstreamError, match="more than 64"):
        strings.shorten(json.dumps([LONG] * 65).encode())
    strings.close()


def test_room_of_all_is_bounded() -> None:
    held = HeldBytes(100)
    held.add(60)
    with pytest.raises(Problem, match="upstream_unavailable"):
        held.add(41)
    held.add(-60)
    held.add(100)


async def test_content_of_a_string_is_read_without_its_quotes() -> None:
    strings = LongStrings()
    short = strings.shorten(json.dumps([LONG, "ab"]).encode())
    first, second = json.loads(short)
    assert b"".join(strings.read(json.dumps(first).encode())) == LONG.encode()
    assert b"".join(strings.read(json.dumps(second).encode())) == b"ab"
    strings.drop(short)
    assert strings.held == 0


async def test_message_is_restored_in_pieces() -> None:
    strings = LongStrings()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    text = json.dumps({"a": "y" * (1 << 20)}).encode()
    body = strings.shorten(text)
    await restoring(send, strings)({"type": "http.response.body", "body": body, "more_body": True})
    assert b"".join(message["body"] for message in sent) == text
    assert max(len(message["body"]) for message in sent) <= 256 << 10
    assert all(message["more_body"] for message in sent)
