"""Tool calls in odd places."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tests.e2e.answers import Json, answer

from .oddity import Oddity, body, stream

_CALL = {
    "id": "call_7",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
}


def calls() -> Iterator[Oddity]:
    two = answer("chat", "Looking.").body
    del two["choices"][0]["index"]
    two["choices"][0]["finish_reason"] = "tool_calls"
    other = deepcopy(two["choices"][0])
    other["message"].update(content=None, tool_calls=[_CALL])
    two["choices"].append(other)
    yield Oddity(
        name="text and call in two choices",
        wire="chat",
        whole="Looking.",
        stop="tools",
        calls=[("weather", {"city": "Rome"})],
        plain=body(two),
        surfaces=("messages", "responses"),
    )
    made = answer("responses", "let me look")
    call = {
        "id": "item_8",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_7",
        "name": "weather",
        "arguments": '{"city":"Rome"}',
    }
    *said, end = made.events
    end["response"]["output"].append(call)
    opened = {**call, "arguments": "", "status": "in_progress"}
    called: list[Json] = [
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        {
            "type": "response.function_call_arguments.delta",
            "output_index": 0,
            "item_id": "item_8",
            "delta": call["arguments"],
        },
        {"type": "response.output_item.done", "output_index": 0, "item": call},
    ]
    wanted: dict[str, Any] = {
        "whole": "let me look",
        "stop": "tools",
        "calls": [("weather", {"city": "Rome"})],
    }
    for name, left_out in (
        ("all items are number 0", ()),
        ("no numbers", ("output_index",)),
        ("neither numbers nor ids", ("output_index", "item_id", "content_index")),
    ):
        events = [
            {member: value for member, value in event.items() if member not in left_out}
            for event in (*said, *called, end)
        ]
        yield Oddity(
            name=name,
            wire="responses",
            stream=stream("responses", *events),
            surfaces=("chat", "messages", "responses"),
            **wanted,
        )
    yield Oddity(
        name="a call that only the end tells",
        wire="responses",
        stream=stream("responses", *said, end),
        surfaces=("chat", "messages", "responses"),
        **wanted,
    )
