"""Heartbeats, numbered events, and other spellings of the end of a stream."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.e2e.answers import answer
from tests.e2e.scripted_upstream import HOLD, frames

from .oddity import HELLO, TEXT, WIRES, Oddity, stream

_BEATS: Mapping[str, bytes] = {
    "empty data": b"data:\n\n",
    "empty data, name and number": b"event: ping\nid: 4\ndata:\n\n",
    "the word ping": b"data: ping\n\n",
    "ping without members": b"event: ping\ndata: {}\n\n",
    "a heartbeat by name": b"event: heartbeat\ndata: {}\n\n",
    "a comment": b": vendor-secret is thinking\n\n",
    "a comment and a retry line": b": vendor-secret\nretry: 3000\n\n",
}


def beats() -> Iterator[Oddity]:
    for wire in WIRES:
        made = answer(wire, *HELLO)
        for name, beat in _BEATS.items():
            beaten: list[Any] = [beat]
            for event in made.events:
                beaten += [event, beat]
            yield Oddity(
                name=f"heartbeats: {name}", wire=wire, whole=TEXT, stream=stream(wire, *beaten)
            )
        numbered: list[Any] = []
        for number, piece in enumerate(stream(wire, *made.events).pieces):
            numbered.append(b"id: %d\n" % number + piece)
        yield Oddity(
            name="an `id:` line on each event",
            wire=wire,
            whole=TEXT,
            stream=stream(wire, *numbered, done=False),
        )
    made = answer("chat", *HELLO)
    for done in (b"data:  [DONE] \n\n", b"data:[DONE]\n\n", b'data: "[DONE]"\n\n'):
        yield Oddity(
            name=f"the end as {done.decode().strip()}",
            wire="chat",
            whole=TEXT,
            stream=stream("chat", *made.events, done, done=False),
        )
    made = answer("messages", *HELLO)
    yield Oddity(
        name="no `event:` lines",
        wire="messages",
        whole=TEXT,
        stream=stream("messages", *frames(*made.events)),
    )
    yield Oddity(
        name="no `message_stop`",
        wire="messages",
        whole=TEXT,
        stream=stream("messages", *made.events[:-1]),
    )
    early = [b"data: [DONE]\n\n", *made.events[:-2], b"data: [DONE]\n\n"]
    yield Oddity(
        name="`[DONE]` in place of `message_stop`",
        wire="messages",
        whole=TEXT,
        stream=stream("messages", *early, made.events[-2], b"data: [DONE]\n\n"),
    )
    yield Oddity(
        name="`[DONE]` without a stop reason",
        wire="messages",
        cut=TEXT,
        stream=stream("messages", *made.events[:-2], HOLD, b"data: [DONE]\n\n"),
    )
    responses = answer("responses", *HELLO).events
    yield Oddity(
        name="`[DONE]` behind the end",
        wire="responses",
        whole=TEXT,
        stream=stream("responses", *responses, b"data: [DONE]\n\n"),
    )
    yield Oddity(
        name="`[DONE]` in place of the end",
        wire="responses",
        cut=TEXT,
        stream=stream("responses", *responses[:-1], HOLD, b"data: [DONE]\n\n"),
    )
