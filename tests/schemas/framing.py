"""From the bytes of a stream to its events, strictly: only the form that a gateway may write."""

from typing import Any, NamedTuple

from middlewares import sse

from .laws import expect
from .surfaces import decode

DONE = "[DONE]"


class Event(NamedTuple):
    """at: what to call it in a complaint. data: decoded JSON, or DONE."""

    at: str
    data: Any


def events(stream: bytes, *, named: bool) -> list[Event]:
    """The events without the comments in front of them.

    named: each event has a name, which is its `type`; else none has. Raises AssertionError for
    bytes that are no UTF-8, lines that do not end in LF, an event of other lines than these (a
    comment with a blank line behind it is an event without data to some clients), and a last
    event without its blank line.
    """
    expect(b"\r" not in stream, "stream", "a carriage return; lines end with LF")
    expect(stream.endswith(b"\n\n"), "stream", f"the end is cut off: {stream[-100:]!r}")
    found: list[Event] = []
    for block in sse.split(stream):
        event = sse.parse(block)
        lines = block[:-2].split(b"\n")
        while lines and lines[0].startswith(b":"):
            del lines[0]
        at = f"event {len(found)}"
        if event is None:
            raise AssertionError(f"{at}: an event without data: {block!r}")
        heads = [line.partition(b": ")[0] for line in lines]
        wanted = [b"event", b"data"] if named else [b"data"]
        expect(heads == wanted, at, f"lines {heads} where {wanted} belong: {block[:200]!r}")
        if event.data == DONE.encode():
            found.append(Event(at, DONE))
            continue
        data = decode(event.data, at)
        expect(isinstance(data, dict), at, f"no object: {block[:200]!r}")
        if named:
            expect(data.get("type") == event.name, at, f"{event.name} holds {data.get('type')!r}")
            at = f"{at} ({event.name})"
        found.append(Event(at, data))
    return found
