"""An unstreamed answer of the chain, for visitors without a script."""

from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
from starlette.responses import Response

from middlewares.asgi import Message, Receive, Scope

_LARGEST = 4 << 20
"""Bytes of an answer that are shown."""


class Answer(msgspec.Struct, frozen=True):
    """What a page shows of it. fault: why there is none; usage: counts by name, as reported."""

    text: str = ""
    fault: str = ""
    usage: tuple[tuple[str, int], ...] = ()
    raw: str = ""


class Collected:
    """What a response sent. Bytes past 4 MiB are dropped."""

    def __init__(self) -> None:
        self.status = 0
        self.complete = True
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    async def of(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Let `response` send to this. Raises what it raises."""
        await response(scope, receive, self._send)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        part = message.get("body", b"")
        if self._size + len(part) > _LARGEST:
            self.complete = False
        elif self.complete:
            self._parts.append(part)
            self._size += len(part)


def read_answer(collected: Collected) -> Answer:
    """The texts, the usage and the JSON of an answer in any of the three dialects."""
    if not collected.complete:
        return Answer(fault="The answer is too large to show.")
    try:
        answer = orjson.loads(collected.body)
    except ValueError:
        return Answer(fault="The answer is no JSON.")
    raw = orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode()
    if not isinstance(answer, dict):
        return Answer(fault="The answer is no object.", raw=raw)
    error = answer.get("error")
    if isinstance(error, dict):
        return Answer(fault=str(error.get("message", "")) or "The request failed.", raw=raw)
    usage = answer.get("usage")
    counts = usage.items() if isinstance(usage, dict) else ()
    return Answer(
        text="".join(_texts(answer)),
        usage=tuple((name, count) for name, count in counts if type(count) is int),
        raw=raw,
    )


def _texts(answer: dict[str, Any]) -> Iterator[str]:
    """Texts of a chat completion, a message or a response."""
    for choice in _objects(answer.get("choices")):
        yield from _text((choice.get("message") or {}).get("content"))
    for item in _objects(answer.get("output")):
        for part in _objects(item.get("content")):
            yield from _text(part.get("text"))
    for block in _objects(answer.get("content")):
        yield from _text(block.get("text"))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
