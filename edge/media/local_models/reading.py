"""`/chat/completions`: the words in pictures, their size and colours. It describes no scene."""

import io
import re
from binascii import a2b_base64
from collections.abc import Iterator
from itertools import count
from time import time
from typing import Any
from uuid import uuid4

import msgspec

from edge.media.decode.sandbox import Sandbox
from edge.media.decode.tasks import Colour, DominantColours, ImageInfo, NormaliseImage

from .call import OCR, Call, Refusal, check_model, send_json
from .engines import in_turn, ocr

_DATA = re.compile(r"data:[^,]{0,200};base64,")
_MAX_PICTURES = 20
_LEAST_SCORE = 0.5
_LEAST_SHARE = 0.03
"""Part of a picture that a colour must cover to be named."""
_ROW = 0.6
"""Part of its height by which a line may stand lower than another and be in the same row."""
_PICTURE_TOKENS = 1000

_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class _Chat(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool = False
    stream_options: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Chat).decode


async def read(call: Call, sandbox: Sandbox) -> None:
    """Answer a chat with the words in its pictures. Raises Refusal, and Problem for an unreadable
    picture."""
    try:
        asked = _decode(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"The request is not valid: {error}") from None
    check_model(asked.model, OCR)
    pictures = list(_pictures(asked.messages))
    if not pictures:
        raise Refusal(
            400, "This model reads pictures: expected an `image_url` part.", param="messages"
        )
    if len(pictures) > _MAX_PICTURES:
        raise Refusal(400, f"Expected at most {_MAX_PICTURES} pictures.", param="messages")
    texts = []
    for number, (path, url) in enumerate(pictures, 1):
        text = await _described(path, url, sandbox)
        texts.append(text if len(pictures) == 1 else f"Image {number}:\n{text}")
    await _answer(call, asked, "\n\n".join(texts), len(pictures))


def _pictures(messages: list[_Message]) -> Iterator[tuple[str, str]]:
    """Path and URL of each picture."""
    for n, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        for m, part in enumerate(message.content):
            if part.get("type") == "image_url":
                image = part.get("image_url")
                url = image.get("url") if isinstance(image, dict) else image
                yield f"messages[{n}].content[{m}].image_url.url", str(url)


async def _described(path: str, url: str, sandbox: Sandbox) -> str:
    data = _data_of(path, url)
    image = await sandbox.run(NormaliseImage(), data, param=path)
    colours = await sandbox.run(DominantColours(), image.picture.data, param=path)
    lines = await in_turn(lambda: _lines(image.picture.data))
    return "\n".join((*_words(lines), _appearance(image.original, colours.colours)))


def _data_of(path: str, url: str) -> bytes:
    head = _DATA.match(url)
    if head is None:
        raise Refusal(400, "Expected a data URL with base64.", param=path)
    try:
        return a2b_base64(url[head.end() :])
    except ValueError:
        raise Refusal(400, "The base64 of the picture is not valid.", param=path) from None


def _words(lines: list[str]) -> list[str]:
    return ["Text in the image:", *lines, ""] if lines else ["The image contains no text.", ""]


def _appearance(info: ImageInfo, colours: tuple[Colour, ...]) -> str:
    named = [f"{c.hex} ({c.share:.0%})" for c in colours if c.share >= _LEAST_SHARE]
    frame = " It is animated; this is its first frame." if info.animated else ""
    size = f"The image is {info.width} x {info.height} pixels."
    return f"{size} Its main colours are {', '.join(named)}.{frame}"


def _lines(data: bytes) -> list[str]:
    """The words of a picture, row by row."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        pixels: Any = np.asarray(image.convert("RGB"))[:, :, ::-1]  # blue first, as OpenCV has it
    found = ocr()(pixels)
    if found.txts is None:
        return []
    boxes = [
        (float(box[:, 1].min()), float(box[:, 1].max()), float(box[:, 0].min()), text)
        for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        if score >= _LEAST_SCORE
    ]
    return rows(boxes)


def rows(boxes: list[tuple[float, float, float, str]]) -> list[str]:
    """Words of boxes (top, bottom, left, text), from the top down and from left to right."""
    lines: list[list[tuple[float, float, float, str]]] = []
    for box in sorted(boxes):
        line = lines[-1] if lines else None
        if line is not None and box[0] < line[0][0] + _ROW * (line[0][1] - line[0][0]):
            line.append(box)
        else:
            lines.append([box])
    return [" ".join(box[3] for box in sorted(line, key=lambda box: box[2])) for line in lines]


async def _answer(call: Call, asked: _Chat, text: str, pictures: int) -> None:
    prompt, words = pictures * _PICTURE_TOKENS, max(1, len(text) // 4)
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
    for at in count(0, 200):
        if at >= len(text):
            return
        yield text[at : at + 200]
