"""`/chat/completions`: what a model of this machine finds in the media of a chat."""

import re
from binascii import a2b_base64
from collections.abc import Iterator
from time import time
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from edge.media.decode.sandbox import Sandbox
from edge.untyped_json import number

from .call import OCR, WHISPER, Call, Refusal, send_json
from .listening import heard
from .reading import read

_DATA = re.compile(r"data:[^,]{0,200};base64,")
_MAX_MEDIA = 20
_PART_TOKENS = 1000
_LONGEST_LABEL = 60
"""Characters of a text before a picture that ends in a colon and names it, such as its time."""
_DELTA = 200

_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class _Chat(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool = False
    stream_options: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Chat, float_hook=number).decode
_TYPES = {OCR: "image_url", WHISPER: "input_audio"}
"""The parts that each model reads."""


class _Media(NamedTuple):
    """A part with media. label: a short text before it, or ""."""

    path: str
    data: str
    label: str


async def converse(call: Call, sandbox: Sandbox) -> None:
    """Answer a chat with the text of its media, and with nothing about the rest of it.

    Raises Refusal, and Problem for unreadable media.
    """
    try:
        asked = _decode(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"The request is not valid: {error}") from None
    type_ = _TYPES.get(asked.model)
    if type_ is None:
        raise Refusal(
            404,
            f"This endpoint has the models {', '.join(_TYPES)}.",
            code="model_not_found",
            param="model",
        )
    found = list(_media(asked.messages, type_))
    if not 1 <= len(found) <= _MAX_MEDIA:
        said = f"Expected 1 to {_MAX_MEDIA} parts `{type_}`."
        raise Refusal(400, said, param="messages")
    texts = []
    for count, (path, data, label) in enumerate(found, 1):
        content = _bytes_of(path, data)
        if asked.model == OCR:
            text = await read(sandbox, content, path)
        else:
            text = await heard(sandbox, content, path)
        heading = label or f"{count}:"
        texts.append(text if len(found) == 1 else f"{heading}\n{text}")
    await _answer(call, asked, "\n\n".join(texts), len(found))


def _media(messages: list[_Message], type_: str) -> Iterator[_Media]:
    """Parts of a type, with what they hold."""
    for n, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        label = ""
        for m, part in enumerate(message.content):
            path = f"messages[{n}].content[{m}].{type_}"
            value = part.get(type_)
            if part.get("type") == type_:
                member = "url" if type_ == "image_url" else "data"
                held = value.get(member) if isinstance(value, dict) else value
                yield _Media(f"{path}.{member}", str(held), label)
            text = str(part.get("text", ""))
            label = text if text.endswith(":") and len(text) <= _LONGEST_LABEL else ""


def _bytes_of(path: str, data: str) -> bytes:
    """The bytes of a data URL or of bare base64."""
    head = _DATA.match(data)
    try:
        return a2b_base64(data[head.end() :] if head else data)
    except ValueError:
        raise Refusal(400, "Expected a data URL or base64.", param=path) from None


async def _answer(call: Call, asked: _Chat, text: str, media: int) -> None:
    prompt, words = media * _PART_TOKENS, max(1, len(text) // 4)
    usage = {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words}
    base = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time()), "model": asked.model}
    if not asked.stream:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
        return await send_json(call, body)
    await call.head("text/event-stream")
    chunk = {**base, "object": "chat.completion.chunk"}
    deltas = [{"role": "assistant", "content": ""}, *({"content": part} for part in _parts(text))]
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        await call.send(b"data: %s\n\n" % _encode({**chunk, "choices": [choice]}))
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    await call.send(b"data: %s\n\n" % _encode({**chunk, "choices": [choice]}))
    if (asked.stream_options or {}).get("include_usage"):
        await call.send(b"data: %s\n\n" % _encode({**chunk, "choices": [], "usage": usage}))
    await call.send(b"data: [DONE]\n\n")


def _parts(text: str) -> Iterator[str]:
    for at in range(0, len(text), _DELTA):
        yield text[at : at + _DELTA]
