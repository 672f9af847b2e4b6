"""A stream of Responses with a single fault is refused."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.schemas import check_stream

from . import summary
from .faults import Change, added, dropped, having, renumbered, set_at, stream_of, twice
from .samples import (
    RESPONSE,
    custom_item,
    failed_events,
    numbered,
    part,
    refusal_item,
    responses_events,
    text_item,
)


def check_responses(events: list[Any], **how: Any) -> Any:
    return check_stream("responses", stream_of(events, named=True), **how)


def test_a_stream_of_responses_says_what_its_twin_says() -> None:
    events = responses_events()
    found = check_responses(events)
    assert found == summary("responses", events[-1]["response"])
    assert (found.text, found.thinking, found.stop) == ("Hello", "First.\n\nThen.", "tools")
    assert found.calls == (("call_1", "weather", '{"a":"ä","b":1}'), ("call_2", "weather", "{}"))
    assert found.usage == {
        "input": 5,
        "cache_read": 4,
        "cache_write": 0,
        "output": 5,
        "reasoning": 2,
    }


def test_other_streams_of_responses_pass() -> None:
    found = check_responses(numbered(custom_item("*** patch"), refusal_item("No.")))
    assert found.calls == (("call_c", "patch", '{"input":"*** patch"}'),)
    assert found.refusal == "No."
    cut = numbered(text_item("Hel", status="incomplete"), status="incomplete")
    assert check_responses(cut).stop == "length"
    assert check_responses(numbered()).text == ""
    failed = failed_events()
    assert check_responses(failed, error=True).stop == "error"
    with pytest.raises(AssertionError, match="an error: Overloaded"):
        check_responses(failed)


def with_source() -> list[dict[str, Any]]:
    """A text with an annotation."""
    source = {
        "type": "url_citation",
        "url": "https://example.org",
        "title": "Example",
        "start_index": 0,
        "end_index": 2,
    }
    events = list(text_item("Hi"))
    place = having(events, "output_text.done")
    at = {"item_id": "msg_1", "content_index": 0, "annotation_index": 0}
    name = "response.output_text.annotation.added"
    events.insert(place, {"type": name, **at, "annotation": source})
    cited = {**part("Hi"), "annotations": [source]}
    events[-2]["part"] = cited
    events[-1]["item"]["content"] = [cited]
    return numbered(iter(events))


def with_raw_thinking(name: str = "response.reasoning_text") -> list[dict[str, Any]]:
    """Reasoning whose text is no summary."""
    item: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
    thought = {"type": "reasoning_text", "text": "Hm."}
    at = {"item_id": "rs_1", "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "item": item},
        {"type": "response.content_part.added", **at, "part": {**thought, "text": ""}},
        {"type": f"{name}.delta", **at, "delta": "Hm."},
        {"type": f"{name}.done", **at, "text": "Hm."},
        {"type": "response.content_part.done", **at, "part": thought},
        {"type": "response.output_item.done", "item": {**item, "content": [thought]}},
    ]
    return numbered(iter(events))


def with_search() -> list[dict[str, Any]]:
    """A call of a tool that the vendor runs itself."""
    item = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "in_progress",
        "action": {"type": "search", "query": "q", "queries": ["q"]},
    }
    events: list[dict[str, Any]] = [
        {"type": "response.output_item.added", "item": item},
        {"type": "response.web_search_call.searching", "item_id": "ws_1"},
        {"type": "response.output_item.done", "item": {**item, "status": "completed"}},
    ]
    return numbered(iter(events), text_item("Found."))


def test_rarer_items_pass() -> None:
    assert check_responses(with_source()).text == "Hi"
    assert check_responses(with_raw_thinking()).thinking == "Hm."
    assert check_responses(with_raw_thinking("response.reasoning")).thinking == "Hm."
    assert check_responses(with_search()).text == "Found."


SOURCE = ('"response.output_text.annotation.added"',)


@pytest.mark.parametrize(
    ("good", "change", "complaint"),
    [
        (with_source, set_at(SOURCE, "annotation_index", 1), "annotation_index is not 0"),
        (with_source, renumbered(dropped(SOURCE)), "annotations"),
        (with_source, dropped(SOURCE, "annotation.title"), "'title'"),
        (with_source, renumbered(twice(SOURCE, -3)), "no part is open"),
        (
            with_raw_thinking,
            set_at(3, "part", {"type": "output_text", "text": "", "annotations": []}),
            "'logprobs'",
        ),
        (with_raw_thinking, set_at(3, "part", part("")), "output_text in a reasoning"),
        (with_search, set_at(3, "type", "response.file_search_call.searching"), "inside a web"),
        (with_search, set_at(3, "item_id", "ws_2"), "open item is ws_1"),
    ],
)
def test_rarer_items_with_one_fault_are_refused(
    good: Callable[[], list[dict[str, Any]]], change: Change, complaint: str
) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_responses(change(good()))


R = "response."


ADDED = ('"response.output_item.added"', '"message"')


ITEM_DONE = ('"response.output_item.done"', '"message"')


R_DELTA = ('"response.output_text.delta"',)


ARGUMENTS_DONE = ('"response.function_call_arguments.done"',)


SUMMARY_PART = ('"response.reasoning_summary_part.added"',)


R_ERROR = failed_events()[10]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda events: events[:-1], "no terminal event"),
        (dropped(5), "sequence_number 6, not 5"),
        (set_at(0, "sequence_number", 1), "sequence_number 1, not 0"),
        (dropped(4, "sequence_number"), "'sequence_number'"),
        (renumbered(dropped(0)), "response.created comes here"),
        (renumbered(dropped(1)), "response.in_progress comes here"),
        (renumbered(twice(1)), "at the beginning only"),
        (renumbered(twice(-1)), "comes after response.completed"),
        (set_at(0, "response.usage", RESPONSE["usage"]), "usage"),
        (set_at(0, "response.status", "completed"), "response.usage"),
        (set_at(-1, "response.id", "resp_2"), "resp_1"),
        (set_at(-1, "response.model", "other"), "other"),
        (set_at(-1, "response.output", RESPONSE["output"][:2]), "not what the items were"),
        (set_at(-1, "response.output.1.content.0.text", "x"), "not what the items were"),
        (set_at(-1, "type", R + "incomplete"), "status"),
        (set_at(-1, "error", {"message": "x"}), "set in a good event"),
        (renumbered(dropped(ADDED)), "no item is open"),
        (renumbered(dropped(ITEM_DONE)), "another is open"),
        (renumbered(twice(ADDED)), "another is open"),
        (set_at(ADDED, "output_index", 0), "output_index 0"),
        (set_at(ADDED, "item.status", "completed"), "is completed"),
        (set_at(ADDED, "item.content", [part("x")]), "not empty"),
        (set_at(ADDED, "item.id", "msg_9"), "open item is msg_9"),
        (set_at(R_DELTA, "item_id", "msg_9"), "open item is msg_1"),
        (set_at(R_DELTA, "output_index", 7), "output_index 7"),
        (set_at(R_DELTA, "content_index", 1), "content_index 0"),
        (set_at(R_DELTA, "delta", "Help"), "the deltas say"),
        (dropped(R_DELTA, "logprobs"), "'logprobs'"),
        (renumbered(dropped(R_DELTA)), "the deltas say"),
        (renumbered(dropped(('"response.content_part.added"',))), "no part is open"),
        (renumbered(twice(('"response.content_part.added"',))), "another is open"),
        (set_at(('"response.content_part.added"',), "content_index", 1), "index 1"),
        (set_at(('"response.content_part.added"',), "part.text", "x"), "text at the start"),
        (renumbered(dropped(('"response.output_text.done"',))), "never done"),
        (renumbered(twice(('"response.output_text.done"',))), "was done"),
        (set_at(('"response.output_text.done"',), "text", "Help"), "the deltas say"),
        (renumbered(dropped(('"response.content_part.done"',))), "part is still open"),
        (set_at(('"response.content_part.done"',), "part.text", "Help"), "the deltas say"),
        (set_at(('"response.content_part.done"',), "part.type", "refusal"), "'refusal'"),
        (set_at(ITEM_DONE, "item.id", "msg_9"), "'msg_1'"),
        (set_at(ITEM_DONE, "item.status", "in_progress"), "in progress"),
        (set_at(ITEM_DONE, "item.content.0.text", "Help"), "'Help'"),
        (renumbered(dropped(ARGUMENTS_DONE)), "never done"),
        (renumbered(twice(ARGUMENTS_DONE)), "done again"),
        (dropped(ARGUMENTS_DONE, "name"), "'name'"),
        (set_at(ARGUMENTS_DONE, "name", "other"), "'weather'"),
        (set_at(ARGUMENTS_DONE, "arguments", "{}"), "'{}'"),
        (
            set_at(('"response.output_item.done"', '"fc_1"'), "item.arguments", "{}"),
            "'{}'",
        ),
        (set_at(('"response.output_item.done"', '"fc_1"'), "item.call_id", "x"), "'x'"),
        (set_at(SUMMARY_PART, "summary_index", 1), "index 1"),
        (dropped(SUMMARY_PART, "part"), "'part'"),
        (set_at(('"response.reasoning_summary_text.done"',), "text", "x"), "the deltas say"),
        (
            set_at(('"response.output_item.done"', '"rs_1"'), "item.summary", []),
            "[]",
        ),
        (set_at(R_DELTA, "type", R + "refusal.delta"), "inside output_text"),
        (set_at(R_DELTA, "type", R + "words.delta"), "none of"),
        (renumbered(added(R_ERROR, 5)), "an error"),
        (renumbered(lambda events: [*events[:-1], failed_events()[-1]]), "no error event"),
    ],
)
def test_a_responses_stream_with_one_fault_is_refused(change: Change, complaint: str) -> None:
    good = responses_events()
    check_responses(good)
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_responses(change(good))


def test_done_is_no_end_of_a_responses_stream() -> None:
    good = stream_of(responses_events(), named=True)
    with pytest.raises(AssertionError, match="lines"):
        check_stream("responses", good + b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda events: events[:-1], "does not end with its failure"),
        (renumbered(dropped(-2)), "no error event"),
        (dropped(-2, "error"), "'error'"),
        (dropped(-2, "code"), "'code'"),
        (dropped(-2, "error.param"), "'param'"),
        (dropped(-1, "response.error"), "'error'"),
        (set_at(-1, "response.error", None), "None"),
        (renumbered(twice(-3, -2)), "only the failure"),
        (renumbered(twice(-1)), "comes after"),
        (set_at(-1, "response.output", []), "not what the items were"),
    ],
)
def test_a_failing_responses_stream_with_one_fault_is_refused(
    change: Change, complaint: str
) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_responses(change(failed_events()), error=True)
