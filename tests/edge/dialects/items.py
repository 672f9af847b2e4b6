"""Answers of Responses upstreams: stories of items, with wrong numbers, or incomplete."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

Json = dict[str, Any]
Distort = Callable[[Json], Json]

THOUGHT = ("reasoning", "Hm", "m.")
FIRST = ("message", "let me ", "look")
ROME = ("function_call", '{"city":', '"Rome"}')
OSLO = ("function_call", '{"city":', '"Oslo"}')
LAST = ("message", "and ", "more")
STORIES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "text": (FIRST,),
    "two texts": (FIRST, LAST),
    "text and call": (FIRST, ROME),
    "two calls": (ROME, OSLO),
    "the same call twice": (ROME, ROME),
    "all": (THOUGHT, FIRST, ROME, OSLO, LAST),
}
_DELTA = {
    "reasoning": "response.reasoning_text",
    "message": "response.output_text",
    "function_call": "response.function_call_arguments",
}


def finished(place: int, kind: str, *pieces: str) -> Json:
    text = "".join(pieces)
    item: Json = {"id": f"item_{place}", "type": kind, "status": "completed"}
    if kind == "message":
        part = {"type": "output_text", "text": text, "annotations": []}
        return {**item, "role": "assistant", "content": [part]}
    if kind == "reasoning":
        return {**item, "summary": [], "content": [{"type": "reasoning_text", "text": text}]}
    return {**item, "call_id": f"call_{place}", "name": "w", "arguments": text}


def item_events(place: int, kind: str, *pieces: str) -> Iterator[Json]:
    whole = finished(place, kind, *pieces)
    begun = {**whole, "status": "in_progress"}
    begun |= {name: "" if name == "arguments" else [] for name in ("arguments", "content")
              if name in whole}  # fmt: skip
    at = {"item_id": whole["id"], "output_index": place, "content_index": 0}
    name = "arguments" if kind == "function_call" else "text"
    yield {"type": "response.output_item.added", "output_index": place, "item": begun}
    if kind == "message":
        part = {**whole["content"][0], "text": ""}
        yield {"type": "response.content_part.added", **at, "part": part}
    for piece in pieces:
        yield {"type": f"{_DELTA[kind]}.delta", **at, "delta": piece}
    yield {"type": f"{_DELTA[kind]}.done", **at, name: "".join(pieces)}
    yield {"type": "response.output_item.done", "output_index": place, "item": whole}


def completed(story: tuple[tuple[str, str, str], ...]) -> Json:
    output = [finished(place, *item) for place, item in enumerate(story)]
    response = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "output": output,
        "usage": None,
    }
    return {"type": "response.completed", "response": response}


def _each_item(event: Json, change: Callable[[Json], Json]) -> Json:
    """`event` with `change` made to it, to the item in it, and to those of its response."""
    event = change(event)
    if "item" in event:
        event["item"] = change(event["item"])
    if "response" in event:
        output = [change(item) for item in event["response"]["output"]]
        event["response"] = {**event["response"], "output": output}
    return event


def _without(*names: str) -> Distort:
    def change(each: Json) -> Json:
        return {name: value for name, value in each.items() if name not in names}

    return lambda event: _each_item(event, change)


def _with(**members: Any) -> Distort:
    def change(each: Json) -> Json:
        return {name: members.get(name, value) for name, value in each.items()}

    return lambda event: _each_item(event, change)


def _other_ids_at_the_end(event: Json) -> Json:
    if "response" not in event:
        return event
    return _each_item(event, lambda each: {**each, "id": f"other_{each.get('id')}"})


class _OtherIds:
    """An id of its own for every event."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: Json) -> Json:
        self.count += 1
        return _with(id=f"id_{self.count}", item_id=f"id_{self.count}")(event)


def _places_as_text(event: Json) -> Json:
    return {
        name: str(value) if name in ("output_index", "content_index") else value
        for name, value in event.items()
    }


MARKS: dict[str, Callable[[], Distort]] = {
    "as they should be": lambda: lambda event: event,
    "all at place 0": lambda: _with(output_index=0),
    "no places": lambda: _without("output_index"),
    "neither places nor ids in events": lambda: _without("output_index", "item_id"),
    "all at place 0, no ids in events": lambda: (
        lambda event: _with(output_index=0)(_without("item_id")(event))
    ),
    "no ids at all": lambda: _without("item_id", "id"),
    "neither places nor ids at all": lambda: _without("output_index", "item_id", "id"),
    "all at place 0, no ids at all": lambda: (
        lambda event: _with(output_index=0)(_without("item_id", "id")(event))
    ),
    "one id for all": lambda: _with(id="item", item_id="item"),
    "one id for all, all at place 0": lambda: _with(id="item", item_id="item", output_index=0),
    "null marks": lambda: _with(id=None, item_id=None, output_index=None),
    "other ids at the end": lambda: _other_ids_at_the_end,
    "other ids in every event": _OtherIds,
    "places as text": lambda: _places_as_text,
}


def _dropped(*ends: str) -> Callable[[Json], bool]:
    return lambda event: not event["type"].endswith(ends)


REPORTED: dict[str, Callable[[Json], bool]] = {
    "all": lambda event: True,
    "no deltas": _dropped(".delta"),
    "no text is done": _dropped("text.done", "arguments.done"),
    "only items": _dropped(".delta", "text.done", "arguments.done", "part.added"),
    "only finished items": _dropped(".delta", "text.done", "arguments.done", ".added"),
    "items never done": _dropped("item.done"),
    "items never begun": _dropped("item.added"),
    "only texts": _dropped("item.added", "item.done"),
    "only deltas": _dropped("item.added", ".done"),
    "nothing but the end": _dropped(".delta", ".done", ".added"),
}


def stream_of(story: str, marks: str, reported: str) -> list[Json]:
    """The reported events of a story, with other marks."""
    items = STORIES[story]
    distort = MARKS[marks]()
    events = [*chain(*(item_events(place, *item) for place, item in enumerate(items)))]
    return [
        *(distort(event) for event in events if REPORTED[reported](event)),
        distort(completed(items)),
    ]
