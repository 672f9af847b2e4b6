"""Streams with comments on their way, and a reader that dispatches an event at every blank line."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from middlewares import sse

from .dialogue import DOCUMENT, MODELS, PATHS, SAY, ask
from .scripted import Answer, Scripted, ScriptedGateway, Step

CALLERS = {**PATHS, "completions": "/v1/completions"}
PRICED: dict[str, Any] = {
    **DOCUMENT,
    "models": [
        {**model, "price": {"input": "1.00", "output": "2.00"}} for model in DOCUMENT["models"]
    ],
}
COST = ": x-credits-used 0.00007"
NAME = "vendor-secret"

Form = Callable[[bytes], bytes]
"""How an upstream writes its events."""


def decorated(block: bytes) -> bytes:
    """Events as some servers send them: with ids, retry times, comments, needless blank lines."""
    out = b""
    for number, event in enumerate(sse.split(block)):
        head, tail = event[:-2], event[-2:]
        out += (
            b": %b\n\n\n" % NAME.encode()
            + b"id: %d\n: %b\n" % (number, NAME.encode())
            + head
            + b"\nretry: 3000\nid: %b\n: %b" % (NAME.encode(), NAME.encode())
            + tail
        )
    return out


class Strict:
    """A reader that dispatches an event at every blank line, and decodes its data as JSON."""

    def __init__(self, stream: bytes) -> None:
        self.lines = stream.decode().split("\n")
        self.events: list[Any] = []
        self.comments = 0
        data = ""
        for line in self.lines[:-1]:
            if not line:
                self.events.append(data if data == "[DONE]" else json.loads(data))
                data = ""
            elif line.startswith(":"):
                self.comments += 1
            elif not line.startswith("event: "):
                assert line.startswith("data: "), line
                data += line[6:]
        assert not data and not self.lines[-1]

    @property
    def pings(self) -> int:
        """Signs of life, whatever the dialect."""
        return self.comments + [kind(event) for event in self.events].count("ping")


def kind(event: Any) -> str:
    return "" if event == "[DONE]" else str(event.get("type", ""))


def body_of(caller: str, upstream: str) -> dict[str, Any]:
    """A streamed request."""
    if caller == "completions":
        return {"model": MODELS[upstream], "prompt": "Hi", "stream": True}
    return ask(caller, upstream, stream=True)


class Haltingly:
    """A priced gateway whose upstream falls silent twice, each time until pings have gone out.

    `heard` gets what the client has got so far, and lets the upstream go on.
    """

    def __init__(self, upstream: str, form: Form) -> None:
        say = SAY[upstream]()
        self._first, self._second = asyncio.Event(), asyncio.Event()
        self._before = 0
        steps: list[Step] = [form(say.start()), self._first]
        steps += [form(say.text("Hello ")) + form(say.text("my ")), form(say.text("friend, "))]
        steps += [self._second, form(say.text("there.")), form(say.stop())]
        self.gateway = ScriptedGateway(
            Scripted(Answer(steps)), document=PRICED, hold=0.001, keep_alive=0.001
        )

    def heard(self, so_far: bytes) -> None:
        """Two pings more, and the upstream goes on."""
        pings = Strict(so_far).pings
        if not self._first.is_set():
            if pings >= 2:
                self._first.set()
        elif b"friend" not in so_far:
            self._before = pings
        elif pings >= self._before + 2:
            self._second.set()
