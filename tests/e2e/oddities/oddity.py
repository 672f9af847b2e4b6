"""What one row of the table is, and the short ways to write one."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from tests.e2e.answers import Json, Made, answer
from tests.e2e.scripted_upstream import JSON, SSE, Answer, Wire, frames

HELLO = ("Hello ", "there.")
TEXT = "".join(HELLO)
WIRES: tuple[Wire, ...] = ("chat", "messages", "responses")
"""Those whose answers are conversations."""
Kind = Literal[
    "upstream_error",
    "upstream_unavailable",
    "rate_limited",
    "context_length_exceeded",
    "content_filtered",
    "invalid_request",
    "request_too_large",
]


class Oddity(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One oddity of one upstream dialect. Exactly one of the first four says what it amounts to.

    whole: the text of a good answer. cut: the text before an error event, of a stream only; a
        second target is not asked. fails: the kind of error where there is no second target; with
        one, that answers. refuses: the kind of error whether there is a second target or not.
    stop: as `STOPS` has it. calls: tools called. usage: input and output tokens in the record.
    counted: whether these are the upstream's, else they are estimates.
    plain, stream: the answer; None where the oddity has no such form.
    first: what the same target answers to requests that it fits; then it is asked again.
    retry_after: least seconds of the answer's `Retry-After`.
    says: words that the error's message holds.
    """

    name: str
    wire: Wire
    whole: str | None = None
    cut: str | None = None
    fails: Kind | None = None
    refuses: Kind | None = None
    plain: Answer | None = None
    stream: Answer | None = None
    first: Answer | None = None
    stop: str = "end"
    calls: Sequence[tuple[str, Any]] = ()
    usage: tuple[int, int] | None = None
    counted: bool = True
    retry_after: int | None = None
    says: str = ""
    surfaces: Sequence[str] = ()


STOPS: Mapping[str, Mapping[str, str]] = {
    "chat": {
        "end": "stop",
        "length": "length",
        "filter": "content_filter",
        "tools": "tool_calls",
    },
    "messages": {
        "end": "end_turn",
        "length": "max_tokens",
        "filter": "refusal",
        "tools": "tool_use",
    },
    "responses": {
        "end": "completed",
        "length": "max_output_tokens",
        "filter": "content_filter",
        "tools": "completed",
    },
}


def body(value: Any, *, status: int = 200, **headers: str) -> Answer:
    """An unstreamed answer: bytes as they are, anything else as JSON."""
    piece = value if isinstance(value, bytes) else json.dumps(value).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status=status, headers={**JSON, **named}, pieces=[piece])


def stream(wire: Wire, *events: Any, done: bool = True, **headers: str) -> Answer:
    """A streamed answer of whole events; bytes stand for themselves."""
    pieces: list[bytes] = []
    for event in events:
        if isinstance(event, bytes):
            pieces.append(event)
        else:
            named = wire != "chat" and isinstance(event, dict) and "type" in event
            pieces += frames(event, event=named)
    if done and wire == "chat":
        pieces.append(b"data: [DONE]\n\n")
    return Answer(headers={**SSE, **headers}, pieces=pieces)


def both(made: Made, wire: Wire) -> dict[str, Any]:
    return {"plain": body(made.body), "stream": stream(wire, *made.events)}


def changed(wire: Wire, change: Callable[[Json], None]) -> dict[str, Any]:
    """The usual answer after `change`, which gets the body and each event."""
    made = answer(wire, *HELLO)
    for each in (made.body, *made.events):
        change(each)
    return both(made, wire)
