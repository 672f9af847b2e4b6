"""Characters cut in two over two events."""

import json
from typing import Any

import pytest

from edge.dialects.split_characters import CharacterJoiner
from middlewares import sse


def event(text: str, **more: Any) -> bytes:
    """An event whose text stands in ASCII, halves as escapes."""
    return b"event: x\ndata: " + json.dumps({"delta": {"text": text}, **more}).encode() + b"\n\n"


def texts(block: bytes) -> list[str]:
    found = [sse.parse(each) for each in sse.split(block)]
    return [json.loads(each.data)["delta"]["text"] for each in found if each is not None]


def fed(*blocks: bytes) -> bytes:
    halves = CharacterJoiner()
    return b"".join(map(halves.join, blocks)) + halves.rest()


def test_join_ordinary_events_pass_as_they_are() -> None:
    block = event("whole \U0001f600") + event("next") + b": comment\n\n"
    halves = CharacterJoiner()
    assert halves.join(block) == block
    assert not halves.held


@pytest.mark.parametrize("together", [True, False])
def test_join_halves_in_two_events_are_joined(together: bool) -> None:
    blocks = [event("a"), event("hi \ud83d"), event("\ude00 there"), event("b")]
    if together:
        blocks = [b"".join(blocks)]
    assert texts(fed(*blocks)) == ["a", "hi \U0001f600", " there", "b"]


def test_join_an_event_waits_only_while_its_half_is_open() -> None:
    halves = CharacterJoiner()
    assert halves.join(event("hi \ud83d")) == b""
    waiting = halves.held
    assert texts(halves.join(event("\ude00 there"))) == ["hi \U0001f600", " there"]
    assert (waiting, halves.held, halves.rest()) == (True, False, b"")


def test_join_a_heartbeat_between_halves_passes_at_once() -> None:
    halves = CharacterJoiner()
    halves.join(event("\ud83d"))
    assert halves.join(b": ping\n\n") == b": ping\n\n"
    assert halves.join(b"event: ping\ndata: {}\n\n") == b"event: ping\ndata: {}\n\n"
    assert texts(halves.join(event("\ude00"))) == ["\U0001f600", ""]


def test_join_each_half_of_a_row_finds_its_own() -> None:
    blocks = (event("\ud83d"), event("\ude00\ud83d"), event("\ude01"))
    assert texts(fed(*blocks)) == ["\U0001f600", "\U0001f601", ""]


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((event("hi \ud83d"), event("there")), ["hi \ufffd", "there"]),
        ((event("hi \ud83d"),), ["hi \ufffd"]),
        ((event("\ude00 there"),), ["\ufffd there"]),
        ((event("a \ud83d b"), event("c")), ["a \ufffd b", "c"]),
    ],
)
def test_join_a_half_that_stays_alone_is_replaced(
    blocks: tuple[bytes, ...], expected: list[str]
) -> None:
    assert texts(fed(*blocks)) == expected


def test_join_an_escaped_backslash_is_no_half() -> None:
    block = event("\\ud83d", code="\\ud83d")
    assert fed(block) == block


def test_join_what_is_no_json_passes() -> None:
    block = b"data: \\ud83d\n\n"
    assert fed(event("hi \ud83d"), block).endswith(block)


def test_join_a_bare_value_passes() -> None:
    assert fed(b'data: "\\ude00"\n\n') == b'data: "\\ude00"\n\n'
