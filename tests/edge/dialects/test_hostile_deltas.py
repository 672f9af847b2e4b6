"""Answers in very many pieces: what a piece costs does not grow with those before it.

Work is counted, not time: characters looked at, items compared, texts measured.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from edge.dialects import events
from edge.dialects.conversation import Citation, Text, ToolCall
from edge.dialects.events import fold
from edge.dialects.filters import Fence
from edge.dialects.openai_chat import read_answer as chat
from edge.dialects.openai_chat import tool_calls
from edge.dialects.openai_responses import UPSTREAM, item_matching, output_items, wire
from edge.dialects.openai_responses.item_numbering import ItemNumbering

from .items import Json

MANY = 500


class Counter:
    """Stands in for a function, and counts its calls. size: what a call counts."""

    def __init__(self, function: Callable[..., Any], size: Callable[..., int] = lambda *_: 1):
        self.function = function
        self.size = size
        self.count = 0

    def __call__(self, *given: Any) -> Any:
        self.count += self.size(*given)
        return self.function(*given)


def chunk(index: int, arguments: str, **first: Any) -> bytes:
    call = {"index": index, "function": {"arguments": arguments, **first}}
    if first:
        call["id"] = f"call_{index}"
    choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize("tail", ['"}', '\\"}"}', '\\\\"}'])
def test_call_in_closing_brackets_is_looked_at_once(
    tail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Counter(tool_calls._decode, len)
    scan = Counter(tool_calls._Brackets.scan, lambda _, text: len(text))
    monkeypatch.setattr(tool_calls, "_decode", decode)
    monkeypatch.setattr(tool_calls._Brackets, "scan", lambda self, text: scan(self, text))
    pieces = ['{"a":"', *"}" * MANY, *tail]
    reader = chat.ChatReader()
    events = reader.decode(chunk(0, pieces[0], name="f"))
    events += reader.decode(chunk(1, "{}", name="g"))
    for piece in pieces[1:]:
        events += reader.decode(chunk(0, piece))
    events += reader.decode(b'data: {"choices":[{"index":0,"finish_reason":"tool_calls"}]}\n\n')
    reported = ["".join(pieces), "{}"]
    blocks = fold(events + reader.decode_end()).blocks
    assert [block.arguments for block in blocks if isinstance(block, ToolCall)] == reported
    assert scan.count <= len("".join(reported))
    assert decode.count <= len("".join(reported))


@pytest.mark.parametrize(
    "text",
    [
        '{"a":"}"}',
        '{"a":"\\"}"}',
        '{"a":"\\\\"}',
        '{"a":[{"b":{}}]}',
        '{"a":1}}',
        '{"a":1}{"b":2}',
        '{"a":1} ',
        '[{"a":1}]',
        '"{}"',
        "}{}",
        '{"a":[}]}',
        "x{}",
        " {}",
        '{"a":"{","b":"}',
    ],
)
def test_call_in_letters_is_whole_where_it_is_an_object(text: str) -> None:
    call = tool_calls.PendingCall("c", custom=False)
    for end, letter in enumerate(text, 1):
        call.add("f", letter)
        try:
            expected = isinstance(json.loads(text[:end]), dict) and letter == "}"
        except ValueError:
            expected = False
        assert call.whole() is expected
        assert call.whole() is expected


def test_name_in_endless_pieces_stops_growing() -> None:
    call = tool_calls.PendingCall("c", custom=False)
    for _ in range(2):
        for letter in "ab" * tool_calls.LONGEST_NAME:
            call.add(letter, "")
    assert len(call.name) == tool_calls.LONGEST_NAME


def test_fenced_text_in_letters_is_not_copied_for_each() -> None:
    fence = Fence()
    assert not any(map(fence.filter, "\n" * MANY + "```json\n" + "x" * MANY))
    kept = [getattr(fence, name) for name in fence.__slots__]
    assert max(len(each) for each in kept if isinstance(each, str)) <= len("```")
    assert not any(map(fence.filter, "\n```"))
    assert fence.filter_end() == "x" * MANY


def test_citations_among_letters_measure_each_letter_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Counter(len, lambda value: isinstance(value, str))
    message = output_items.MessageItem("msg_1", 0)
    list(message.part("text"))
    monkeypatch.setattr(output_items, "len", measure, raising=False)
    ends = []
    for _ in range(MANY):
        message.say("x")
        [(_, members)] = message.cite(Citation("http://a", "", ""), 0)
        message.block_end()
        ends.append(json.loads(b"{%b}" % members)["annotation"]["end_index"])
    assert ends == list(range(1, MANY + 1))
    assert measure.count <= MANY


class Counted(Text):
    """A text that counts the citations it is given."""

    given = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "citations":
            Counted.given += len(value)
        super().__setattr__(name, value)


def test_citations_of_a_whole_answer_are_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "Text", Counted)
    Counted.given = 0
    cited = [events.Cited(Citation(f"http://a/{at}", "", "")) for at in range(MANY)]
    [block] = fold([events.TextDelta("x"), *cited, events.Closed()]).blocks
    assert isinstance(block, Counted)
    assert block.citations == tuple(each.citation for each in cited)
    assert Counted.given == MANY


def story(count: int, marks: str) -> list[Json]:
    """Calls that are all open at once, each in pieces that come in turns."""

    def event(kind: str, at: int, **more: Any) -> Json:
        place = {} if marks == "ids" else {"output_index": at if marks != "one place" else 0}
        name = {} if "item" in more or marks == "places" else {"item_id": f"fc_{at}"}
        return {"type": f"response.{kind}", **place, **name, **more}

    def item(at: int, arguments: str) -> Json:
        call = {"type": "function_call", "call_id": f"call_{at}", "name": "f"}
        return {**call, "id": f"fc_{at}", "arguments": arguments}

    arguments = "function_call_arguments"
    places = range(count)
    events = [event("output_item.added", at, item=item(at, "")) for at in places]
    for piece in ('{"a":', f"{count}", "}"):
        events += [event(f"{arguments}.delta", at, delta=piece) for at in places]
    whole = f'{{"a":{count}}}'
    for at in places:
        events.append(event(f"{arguments}.done", at, arguments=whole))
        events.append(event("output_item.done", at, item=item(at, whole)))
    output = [item(at, whole) for at in places]
    return [*events, {"type": "response.completed", "response": {"output": output}}]


@pytest.mark.parametrize(
    ("marks", "most"), [("both", 2), ("places", 2), ("ids", 66), ("one place", 66)]
)
def test_many_open_calls_are_found_by_their_marks(
    marks: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = Counter(item_matching._fits)
    monkeypatch.setattr(item_matching, "_fits", fits)
    events = story(MANY, marks)
    reader = UPSTREAM.reader()
    read = []
    for event in events:
        read += reader.decode(b"data: " + json.dumps(event).encode() + b"\n\n")
    blocks = fold(read + reader.decode_end()).blocks
    assert [block.id for block in blocks if isinstance(block, ToolCall)] == [
        f"call_{at}" for at in range(MANY)
    ]
    assert {block.arguments for block in blocks if isinstance(block, ToolCall)} == {
        f'{{"a":{MANY}}}'
    }
    few = (
        item_matching.NEAR * item_matching.NEAR
    )  # what the first ones are compared with one by one
    assert fits.count <= few + most * len(events)


class Looked(item_matching.ItemMarks):
    """An item that counts how often it is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "call_id":
            Looked.looks += 1
        return super().__getattribute__(name)


@pytest.mark.parametrize("calls_of", ["none", "others", "the same backwards"])
def test_finished_answer_is_matched_without_comparing_all_with_all(calls_of: str) -> None:
    items: item_matching.ItemMatcher[Looked] = item_matching.ItemMatcher()
    for at in range(MANY):
        reported = wire.Item(type="function_call", call_id=f"call_{at}")
        items.add(Looked(), wire.Event(), reported)
    others: dict[str, list[str | None]] = {
        "none": [None] * MANY,
        "others": [f"other_{at}" for at in range(MANY)],
        "the same backwards": [f"call_{at}" for at in reversed(range(MANY))],
    }
    names = others[calls_of]
    Looked.looks = 0
    output = [wire.Item(type="function_call", call_id=name) for name in names]
    found, added = items.reported(output)
    assert Looked.looks <= 20 * MANY
    order = [found.get(id(item)) for item in items]
    assert (order, added) == {
        "none": (list(range(MANY)), []),
        "others": ([None] * MANY, list(range(MANY))),
        "the same backwards": (list(reversed(range(MANY))), []),
    }[calls_of]


def test_many_items_of_a_passed_stream_are_reported_by_their_marks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits = Counter(item_matching._fits)
    monkeypatch.setattr(item_matching, "_fits", fits)
    numbering = ItemNumbering()
    events = story(MANY, "both")[:-1]
    for event in events:
        data = json.dumps(event).encode()
        raw = json.dumps(event.get("item")).encode()
        assert numbering.event(event["type"], Raw(raw), data) == data
    assert not numbering.odd
    assert fits.count <= item_matching.NEAR * item_matching.NEAR + 2 * len(events)
