"""What an image request asks for: how many images, and the most output tokens they can take.

Tokens follow OpenAI's published tables for image models: an image of 1024 x 1024 takes 272 tokens
at low quality, 1,056 at medium and 4,160 at high, others by their pixels. Nothing is published for
the levels above; each counts twice the one below. What is left to the vendor counts as the most.
"""

import re
from collections.abc import Mapping

import msgspec

from middlewares.problem import expected

from .output_limit import UNBOUNDED, plain

Fields = Mapping[str, msgspec.Raw]

MOST_IMAGES = 10
"""Images of one request."""
_BASE_PIXELS = 1024 * 1024
_TOKENS = {
    "low": 272,
    "medium": 1_056,
    "standard": 1_056,
    "high": 4_160,
    "hd": 4_160,
    "xhigh": 8_320,
    "max": 16_640,
}
"""Output tokens of an image of `_BASE_PIXELS`, by quality."""
_MOST_TOKENS = max(_TOKENS.values())
_MOST_PIXELS = 3840 * 2160
_PARTIAL_TOKENS = 100
"""Of each partial image (OpenAI)."""
_MOST_PARTIAL = 3
_MOST_FRAMES = 16
_SIZE = re.compile(r"([1-9]\d{0,4})[x*]([1-9]\d{0,4})")
_FOREIGN_COUNTS = frozenset(
    ("numimages", "nimages", "numberofimages", "imagecount", "batchsize", "numoutputs", "samples")
)
"""Numbers of images of other servers, in the form of `plain`; they can only raise the count."""
_MOST_COUNT = 1 << 20
_DRAWN = "svg"

_decode_text = msgspec.json.Decoder(str | None).decode
_decode_number = msgspec.json.Decoder(int | None).decode
_decode_lenient = msgspec.json.Decoder(int | float | None, strict=False).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


class ImageRequest(msgspec.Struct, frozen=True):
    """An image request.

    count: images requested. most: the highest number that any server may make of it.
    tokens: the most output tokens of one image; extra: of what comes beside the images.
    links: whether the answer is to have links instead of base64.
    """

    count: int
    most: int
    tokens: int
    extra: int
    links: bool

    @property
    def output(self) -> int:
        """The most output tokens of the answer."""
        return self.most * self.tokens + self.extra


def image_request_of(fields: Fields) -> ImageRequest:
    """The image request of a body's members. Raises Problem for a count that is out of bounds, and
    for a form of answer that does not exist."""
    count = _count(fields)
    wanted = _text(fields, "response_format")
    if wanted not in (None, "", "b64_json", "url"):
        raise expected("response_format", '"b64_json" or "url"')
    drawn = (
        any(name.partition("[")[0] == _DRAWN for name in fields)
        or _text(fields, "output_format") == _DRAWN
    )
    partial = min(_number(fields, "partial_images", 0), _MOST_PARTIAL)
    frames = min(_number(fields, "frame_count", 1), _MOST_FRAMES)
    foreign = [_number(fields, name, 1) for name in fields if plain(name) in _FOREIGN_COUNTS]
    return ImageRequest(
        count,
        max([count, *foreign]),
        _image_tokens(fields) * max(1, frames) + partial * _PARTIAL_TOKENS,
        UNBOUNDED if drawn else 0,
        wanted == "url",
    )


def _count(fields: Fields) -> int:
    raw = fields.get("n")
    try:
        count = None if raw is None else _decode_number(raw)
    except _UNREADABLE:
        count = 0
    if count is None:
        return 1
    if not 1 <= count <= MOST_IMAGES:
        raise expected("n", f"a whole number from 1 to {MOST_IMAGES}")
    return count


def _image_tokens(fields: Fields) -> int:
    per_image = _TOKENS.get((_text(fields, "quality") or "").lower(), _MOST_TOKENS)
    size = _SIZE.fullmatch(_text(fields, "size") or "")
    pixels = int(size[1]) * int(size[2]) if size else _MOST_PIXELS
    return -(-per_image * pixels // _BASE_PIXELS)


def _number(fields: Fields, name: str, default: int) -> int:
    raw = fields.get(name)
    try:
        number = None if raw is None else _decode_lenient(raw)
    except _UNREADABLE:
        number = None
    if number is None or number != number:  # "nan"
        return default
    return int(max(default, min(number, _MOST_COUNT)))


def _text(fields: Fields, name: str) -> str | None:
    raw = fields.get(name)
    try:
        return None if raw is None else _decode_text(raw)
    except _UNREADABLE:
        return None
