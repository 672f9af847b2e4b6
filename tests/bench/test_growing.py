"""Conversations of the bench grow as those of agents do, in the bytes they promise."""

import json
from itertools import count, pairwise
from typing import Any

import pytest

from bench.growing import MARK, SIZES, Conversation, Dialect, Size

SMALL = ("10 kB", "100 kB")


def requests(dialect: Dialect, size: Size, number: int = 1) -> list[tuple[bytes, int]]:
    words = (f"word-{each}-drow" for each in count())
    return list(Conversation(dialect, "m", size, number).requests(words))


def unmarked(value: Any) -> Any:
    """Without the marks for the cache."""
    if isinstance(value, dict):
        return {name: unmarked(one) for name, one in value.items() if name != "cache_control"}
    return [unmarked(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("dialect", ["chat", "messages"])
@pytest.mark.parametrize("name", SMALL)
def test_requests_have_exactly_the_bytes_of_their_size(dialect: Dialect, name: str) -> None:
    size = SIZES[name]
    found = [len(body) for body, _ in requests(dialect, size)]
    assert found == [size.first + turn * size.step for turn in range(size.turns + 1)]
    assert size.middle in found


@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_large_conversation_has_hundreds_of_turns_that_call_tools(dialect: Dialect) -> None:
    words = (f"word-{each}-drow" for each in count())
    body, _ = next(Conversation(dialect, "m", SIZES["1 MB"], 3).requests(words))
    said = json.loads(body)
    assert len(said["messages"]) > 400
    results = body.count(b'"tool_call_id"' if dialect == "chat" else b'"tool_result"')
    assert results > 200
    assert len(said["tools"]) == 20


@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_each_request_repeats_the_one_before_and_adds_a_turn(dialect: Dialect) -> None:
    bodies = [json.loads(body) for body, _ in requests(dialect, SIZES["100 kB"])]
    for before, after in pairwise(bodies):
        assert unmarked(after["messages"])[:-2] == unmarked(before["messages"])
        assert unmarked({**after, "messages": 0}) == unmarked({**before, "messages": 0})


def test_mark_of_the_cache_is_on_the_last_block_alone() -> None:
    for body, _ in requests("messages", SIZES["10 kB"]):
        assert body.count(b"cache_control") == 2  # the system text has the other
        assert "cache_control" in json.loads(body)["messages"][-1]["content"][0]


@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_marks_and_the_last_word_are_in_the_body(dialect: Dialect) -> None:
    for number, (body, marks) in enumerate(requests(dialect, SIZES["10 kB"])):
        assert body.count(MARK) == marks
        assert body.rfind(b"word-") == body.rfind(f"word-{number}-drow".encode())


def test_same_number_makes_the_same_conversation_and_another_shares_no_block() -> None:
    assert requests("chat", SIZES["10 kB"]) == requests("chat", SIZES["10 kB"])
    one, other = (json.loads(requests("chat", SIZES["10 kB"], n)[0][0]) for n in (1, 2))
    texts = [{m["content"] for m in body["messages"]} for body in (one, other)]
    assert not texts[0] & texts[1]
    described = [{t["function"]["description"] for t in body["tools"]} for body in (one, other)]
    assert not described[0] & described[1]
