"""A stream of chat chunks or of completions with a single fault is refused."""

import re
from typing import Any

import pytest

from tests.schemas import check_stream

from . import summary
from .faults import Change, added, blocks, dropped, set_at, stream_of, twice
from .samples import TEXT, with_usage

CALL = ('"tool_calls"', '"id": "call_', '"name": "weather"')


FINISH = ('"finish_reason": "tool_calls"',)


OPENAI_ERROR = {"error": {"message": "m", "type": "t", "param": None, "code": None}}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda events: events[:-1], "without [DONE]"),
        (lambda events: [], "cut off"),
        (lambda events: events[-1:], "no choice"),
        (twice(-1), "not the last"),
        (twice(0, -1), "without [DONE]"),
        (dropped(0), "no role"),
        (twice(0), "role again"),
        (set_at(3, "id", "chatcmpl-other"), "before"),
        (set_at(3, "created", 5), "before"),
        (set_at(3, "model", "other"), "before"),
        (dropped(3, "model"), "'model'"),
        (dropped(3, "usage"), "some chunks only"),
        (set_at(3, "choices.0.delta.content", 5), "5"),
        (set_at(3, "choices", []), "without choices"),
        (dropped(3, "choices.0.finish_reason"), "'finish_reason'"),
        (set_at(FINISH, "choices.0.finish_reason", "end_turn"), "end_turn"),
        (set_at(FINISH, "choices.0.finish_reason", None), "before every choice"),
        (set_at(FINISH, "choices.0.finish_reason", "stop"), "says stop"),
        (set_at(FINISH, "choices.0.delta", {"content": "x"}), "beside the finish"),
        (set_at(FINISH, "choices.0.index", 1), "no role"),
        (twice(FINISH), "has finished"),
        (twice(3, -2), "after the usage"),
        (twice(3, -3), "has finished"),
        (twice(-2), "after the usage"),
        (set_at(-2, "usage.total_tokens", 1), "total_tokens"),
        (dropped(-2), "usage asked"),
        (set_at(CALL, "choices.0.delta.tool_calls.0.index", 1), "after 0 calls"),
        (dropped(CALL, "choices.0.delta.tool_calls.0.id"), "no id"),
        (dropped(CALL, "choices.0.delta.tool_calls.0.type"), "no type"),
        (dropped(CALL, "choices.0.delta.tool_calls.0.function.name"), "no name"),
        (dropped(CALL, "choices.0.delta.tool_calls.0.function.arguments"), "without arguments"),
        (set_at(CALL, "choices.0.delta.tool_calls", []), "tool_calls"),
        (dropped(CALL), "no id"),
        (twice(CALL), "a later fragment"),
        (dropped(("arguments", '{\\"')), "not JSON"),
        (added(OPENAI_ERROR, 3), "an error"),
        (added(b"data: ", 3), "not JSON"),
        (added(b"data: [1]", 3), "no object"),
        (added(b"event: x\ndata: {}", 3), "lines"),
        (added(b"data: {}\ndata: {}", 3), "lines"),
        (added(b"id: 1", 3), "without data"),
        (added(b": ping", 3), "without data"),
        (added(b"id: 1\ndata: {}", 3), "lines"),
    ],
)
def test_a_chat_stream_with_one_fault_is_refused(change: Change, complaint: str) -> None:
    good = blocks(with_usage())
    check_stream("chat", stream_of(good, named=False))
    bad = stream_of(change(good), named=False)
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_stream("chat", bad, include_usage=True)


def test_comments_pass_and_carriage_returns_and_half_events_do_not() -> None:
    good = with_usage()
    assert check_stream("chat", b": ping\n: ping\n" + good).stop == "tools"
    for bad in (good.replace(b"\n", b"\r\n"), good[:-1], good + b"data: "):
        with pytest.raises(AssertionError, match=r"carriage return|cut off"):
            check_stream("chat", bad)


def test_two_choices_and_the_old_kind_of_call() -> None:
    envelope = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
    }

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**envelope, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}

    role = {"role": "assistant", "content": ""}
    events = [
        chunk(0, role),
        chunk(1, role),
        chunk(1, {"function_call": {"name": "w", "arguments": ""}}),
        chunk(0, {"content": "Hi"}),
        chunk(1, {"function_call": {"arguments": '{"a":1}'}}),
        chunk(0, {}, "stop"),
        chunk(1, {}, "function_call"),
        b"data: [DONE]",
    ]
    found = check_stream("chat", stream_of(events, named=False))
    assert (found.text, found.stop, len(found.others)) == ("Hi", "end", 1)
    assert found.others[0].calls == (("", "w", '{"a":1}'),)
    assert found.others[0].stop == "tools"
    for change, complaint in (
        (dropped(6), "not finished"),
        (dropped(2, "choices.0.delta.function_call.name"), "no name"),
        (set_at(4, "choices.0.delta.function_call.name", "w"), "has a name"),
        (set_at(6, "choices.0.finish_reason", "stop"), "says stop"),
        (set_at(0, "choices.0.index", 2), "no role"),
    ):
        bad = stream_of(change(list(events)), named=False)
        with pytest.raises(AssertionError, match=complaint):
            check_stream("chat", bad)


def text_chunk(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    envelope = {key: TEXT[key] for key in ("id", "object", "created", "model")}
    return {**envelope, "choices": [choice]}


def test_a_stream_of_completions_says_what_its_twin_says() -> None:
    events = [text_chunk("H"), text_chunk("i"), text_chunk("", "stop"), b"data: [DONE]"]
    found = check_stream("completions", stream_of(events, named=False))
    twin = summary("completions", TEXT)
    assert (found.text, found.stop) == (twin.text, twin.stop) == ("Hi", "end")
    assert twin.usage is not None
    assert twin.usage["output"] == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda events: events[:-1], "without [DONE]"),
        (dropped(2), "not finished"),
        (twice(2), "has finished"),
        (dropped(1, "choices.0.logprobs"), "'logprobs'"),
        (set_at(1, "choices.0.index", 2), "not finished"),
        (set_at(1, "object", "chat.completion.chunk"), "text_completion"),
    ],
)
def test_a_stream_of_completions_with_one_fault_is_refused(change: Change, complaint: str) -> None:
    good = [text_chunk("H"), text_chunk("i"), text_chunk("", "stop"), b"data: [DONE]"]
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_stream("completions", stream_of(change(good), named=False))
