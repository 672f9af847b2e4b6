"""Single faults for values and streams that are right."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any


def blocks(stream: bytes) -> list[Any]:
    """The events of a stream as JSON; those that are none as they are."""
    found: list[Any] = []
    for block in stream.split(b"\n\n")[:-1]:
        data = block.rpartition(b"data: ")[2]
        found.append(json.loads(data) if data.startswith(b"{") else block)
    return found


def stream_of(events: list[Any], *, named: bool) -> bytes:
    """The inverse of `blocks`."""
    parts = []
    for event in events:
        if isinstance(event, bytes):
            parts.append(event)
            continue
        name = b"event: %s\n" % event["type"].encode() if named else b""
        parts.append(name + b"data: " + json.dumps(event).encode())
    return b"".join(part + b"\n\n" for part in parts)


def changed(value: Any, path: str, new: Any = None, *, drop: bool = False) -> Any:
    """A copy of `value` with what is at `path` replaced, or dropped."""
    value = deepcopy(value)
    *steps, last = [int(s) if s.lstrip("-").isdigit() else s for s in path.split(".")]
    at = value
    for step in steps:
        at = at[step]
    if drop:
        del at[last]
    else:
        at[last] = new
    return value


Change = Callable[[list[Any]], list[Any]]


def having(events: list[Any], *keys: str) -> int:
    """Index of the first event whose JSON contains all of `keys`."""
    texts = [event.decode() if isinstance(event, bytes) else json.dumps(event) for event in events]
    return next(n for n, text in enumerate(texts) if all(key in text for key in keys))


def set_at(n: int | tuple[str, ...], path: str, value: Any) -> Change:
    """Another value in one event: the n-th, or the first that contains these strings."""

    def change(events: list[Any]) -> list[Any]:
        at = n if isinstance(n, int) else having(events, *n)
        events[at] = changed(events[at], path, value)
        return events

    return change


def dropped(n: int | tuple[str, ...], path: str = "") -> Change:
    """Without one event, or without a key of it."""

    def change(events: list[Any]) -> list[Any]:
        at = n if isinstance(n, int) else having(events, *n)
        if path:
            events[at] = changed(events[at], path, drop=True)
        else:
            del events[at]
        return events

    return change


def twice(n: int | tuple[str, ...], at: int | None = None) -> Change:
    """One event again, right behind itself or at another place."""

    def change(events: list[Any]) -> list[Any]:
        found = n if isinstance(n, int) else having(events, *n)
        place = found % len(events) + 1 if at is None else at % (len(events) + 1)
        events.insert(place, deepcopy(events[found % len(events)]))
        return events

    return change


def added(event: Any, at: int) -> Change:
    """One more event."""

    def change(events: list[Any]) -> list[Any]:
        events.insert(at % (len(events) + 1), event)
        return events

    return change


def renumbered(change: Change) -> Change:
    """`change`, with the numbers put right after it, so that only what it changes is wrong."""

    def both(events: list[Any]) -> list[Any]:
        return [{**event, "sequence_number": n} for n, event in enumerate(change(events))]

    return both
