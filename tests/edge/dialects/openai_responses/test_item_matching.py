"""Items that servers number alike, or not at all, or report only in part: each comes out once."""

import json
from typing import Any

import pytest

from edge.dialects.conversation import Text, Thinking, ToolCall
from edge.dialects.events import Reply, fold
from edge.dialects.openai_responses import UPSTREAM
from tests.edge.dialects.items import MARKS, REPORTED, STORIES, Json, stream_of


def reply_to(events: list[Json]) -> Reply:
    reader = UPSTREAM.reader()
    found = []
    for event in events:
        found += reader.decode(b"data: " + json.dumps(event).encode() + b"\n\n")
    return fold(found + reader.decode_end())


def expected(story: tuple[tuple[str, str, str], ...]) -> list[Any]:
    blocks: list[Any] = []
    for place, (kind, *pieces) in enumerate(story):
        text = "".join(pieces)
        if kind == "message":
            blocks.append(Text(text=text))
        elif kind == "reasoning":
            blocks.append(Thinking(text=text))
        else:
            blocks.append(ToolCall(id=f"call_{place}", name="w", arguments=text))
    return blocks


WITHOUT_BOUNDS = ("items never done", "only texts", "only deltas")
"""Where two texts end and begin may not be known; what they say is."""


def _texts_joined(blocks: list[Any]) -> list[Any]:
    texts = [block.text for block in blocks if isinstance(block, Text)]
    return ["".join(texts), *(block for block in blocks if not isinstance(block, Text))]


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("reported", REPORTED)
def test_items_however_marked_come_out_once(story: str, reported: str) -> None:
    for marks in MARKS:
        comes_out_once(story, marks, reported)


def comes_out_once(story: str, marks: str, reported: str) -> None:
    items = STORIES[story]
    reply = reply_to(stream_of(story, marks, reported))
    assert _texts_joined(reply.blocks) == _texts_joined(expected(items))
    if reported not in WITHOUT_BOUNDS:
        assert reply.blocks == expected(items)
    assert reply.stop == ("tool_use" if "call" in str(items) else "end")
