"""Passed streams whose items have odd marks: clients find each item, and find it once."""

import json
from typing import Any

import pytest

from edge.dialects.openai_responses.passthrough import ResponsesRelay
from middlewares import sse
from tests.edge.dialects.items import MARKS, REPORTED, STORIES, Json, finished, stream_of

LATE = "nothing but the end"
DELTAS_ARE_REPORTED = ("all", "no text is done", LATE)
"""Where texts come in deltas; that of a thought, late, only with the whole item."""
WITHOUT_BOUNDS = ("items never done", "only texts", "only deltas")
WITHOUT_MARKS = ("one id for all, all at place 0",)
"""Cases in which an item is ambiguous: only the finished answer decides."""


def passed(events: list[Json]) -> list[Json]:
    """What the client gets of `events`."""
    relay = ResponsesRelay({}, "ours")
    out = b""
    for event in events:
        out += relay.relay(sse.encode(json.dumps(event).encode(), event["type"]))
    out += relay.relay_end()
    assert relay.complete
    assert json.loads(relay.answer) == _data(out)[-1]["response"]
    return _data(out)


def _data(stream: bytes) -> list[Json]:
    found = [sse.parse(each) for each in sse.split(stream)]
    return [json.loads(event.data) for event in found if event is not None]


def text_of(item: Json) -> str:
    if item["type"] == "function_call":
        return str(item["arguments"])
    return "".join(part["text"] for part in item["content"])


class Client:
    """Puts an answer together by the places of its items, as the vendor's clients do."""

    def __init__(self) -> None:
        self.items: dict[int, Json] = {}
        self.texts: dict[int, str] = {}
        self.done: dict[int, Json] = {}

    def read(self, event: Json) -> None:
        kind, place = event["type"], event.get("output_index", -1)
        if kind == "response.output_item.added":
            assert place not in self.items
            self.items[place] = event["item"]
        elif kind == "response.output_item.done":
            assert place not in self.done
            self.done[place] = event["item"]
        elif kind.endswith(".delta"):
            if place in self.items:
                assert self.items[place]["id"] == event["item_id"]
            self.texts[place] = self.texts.get(place, "") + event["delta"]


def client_of(events: list[Json]) -> Client:
    client = Client()
    for event in events:
        client.read(event)
    return client


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("reported", REPORTED)
def test_items_however_marked_are_found_once(story: str, reported: str) -> None:
    for marks in MARKS:
        found_once(story, marks, reported)


def found_once(story: str, marks: str, reported: str) -> None:
    items = STORIES[story]
    expected = [(kind, "".join(pieces)) for kind, *pieces in items]
    events = passed(stream_of(story, marks, reported))
    output = events[-1]["response"]["output"]
    assert [(item["type"], text_of(item)) for item in output] == expected
    if reported in WITHOUT_BOUNDS or (marks in WITHOUT_MARKS and reported != "all"):
        return
    client = client_of(events)
    found = [client.done[place] for place in sorted(client.done)]
    assert sorted((item["type"], text_of(item)) for item in found) == sorted(expected)
    if reported in DELTAS_ARE_REPORTED:
        texts = [text for kind, text in expected if kind != "reasoning" or reported != LATE]
        assert sorted(client.texts.values()) == sorted(texts)
        assert [client.items[place]["type"] for place in sorted(client.items)] == [
            client.done[place]["type"] for place in sorted(client.done)
        ]


@pytest.mark.parametrize("story", STORIES)
def test_items_that_are_marked_well_pass_as_they_came(story: str) -> None:
    events = stream_of(story, "as they should be", "all")
    assert passed(events) == events


def test_an_end_without_items_gets_those_that_were_reported() -> None:
    events = stream_of("all", "as they should be", "all")
    whole = events[-1]["response"]["output"]
    outputs: tuple[Any, ...] = ([], None)
    for output in outputs:
        end: dict[str, Any] = {**events[-1]["response"], "output": output}
        reported = passed([*events[:-1], {"type": "response.completed", "response": end}])
        assert reported[-1]["response"]["output"] == whole


def test_numbers_of_events_go_on_behind_what_is_added() -> None:
    events = stream_of("text and call", "as they should be", "only finished items")
    numbered = [{**event, "sequence_number": at} for at, event in enumerate(events)]
    del numbered[1]
    numbered[-1]["sequence_number"] = 1
    reported = passed(numbered)
    assert [event["sequence_number"] for event in reported] == list(range(len(reported)))
    assert reported[-2]["item"] == finished(1, *STORIES["text and call"][1])
