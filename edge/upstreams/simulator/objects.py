"""Endpoints whose bodies are plain JSON objects: the answer repeats what was received."""

from collections.abc import Iterator
from typing import Any

import msgspec

from edge.untyped_json import number

from .controls import take_directive
from .prompt import UNREADABLE, PromptRejected, rejected
from .tokens import count


class ObjectRequest(msgspec.Struct, frozen=True):
    """A request. received: its members without `model`. directive: those of all its texts."""

    model: str
    received: dict[str, Any]
    tokens: int
    directive: str


_decode = msgspec.json.Decoder(dict[str, Any], float_hook=number).decode
_encode = msgspec.json.Encoder().encode


def read(body: bytes) -> ObjectRequest:
    """Read a body. Raises PromptRejected."""
    try:
        members = _decode(body)
    except UNREADABLE as error:
        raise rejected(error) from None
    model = members.pop("model", None)
    if not isinstance(model, str):
        raise PromptRejected(400, "Invalid 'model': expected a string.", "model")
    texts, words = [], []
    for text in _texts(members):
        plain, directive = take_directive(text)
        texts.append(plain)
        words.append(directive)
    return ObjectRequest(model, members, sum(map(count, texts)), " ".join(words))


def body(request: ObjectRequest, identity: str) -> bytes:
    """The answer as one JSON document."""
    return _encode(
        {
            "id": f"obj-{identity[:24]}",
            "model": request.model,
            "received": request.received,
            "usage": {"prompt_tokens": request.tokens, "total_tokens": request.tokens},
        }
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
