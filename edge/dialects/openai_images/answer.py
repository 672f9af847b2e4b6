"""The answer with images: an object whose `data` holds base64 or links."""

from time import time

import msgspec
from msgspec import Raw

from edge.dialects.disclosure import undisclosed
from edge.dialects.errors import failed_by, says_error
from edge.dialects.media_usage import usage_of
from edge.dialects.passthrough import UNREADABLE, Fields, UpstreamError, decode_fields, encode
from middlewares.exchange import Usage

_NOTHING = (b"null", b'""')
_decode_list = msgspec.json.Decoder(list[Fields]).decode
_decode_text = msgspec.json.Decoder(str).decode


class Image(msgspec.Struct):
    """One image of an answer. base64, link: JSON strings, None where there is none.

    members: the others, which pass.
    """

    base64: Raw | None
    link: Raw | None
    members: Fields

    @property
    def url(self) -> str:
        """The link as text."""
        return "" if self.link is None else _decode_text(self.link)


class ImageAnswer(msgspec.Struct):
    """An answer with at least one image. members: the others, which pass."""

    members: Fields
    images: list[Image]
    usage: Usage | None

    def encode(self) -> bytes:
        """The body for the client."""
        data = []
        for image in self.images:
            entry = dict(image.members)
            if image.base64 is not None:
                entry["b64_json"] = image.base64
            if image.link is not None:
                entry["url"] = image.link
            data.append(entry)
        return encode({**self.members, "data": data})


def read_answer(body: bytes, model: str, *, disclose: bool = False) -> ImageAnswer:
    """The answer in `body`. Raises UpstreamError for one without an image.

    model: the caller's name of it. disclose: whether the answer may name its vendor.
    """
    try:
        fields = decode_fields(body)
        # SiliconFlow and Together write `images`, beside `data` or in its place.
        listed = fields.pop("images", None)
        data = fields.pop("data", listed)
        entries = _decode_list(data) if data is not None else []
        images = [_image(entry, model, disclose=disclose) for entry in entries]
        images = [image for image in images if image.base64 is not None or image.link is not None]
        failing = says_error(fields.pop("error", b"null"))
        if failing or not images:
            raise UpstreamError.by(failed_by(body))
        usage = usage_of(fields)
        if not disclose:
            fields = undisclosed(fields, model)
    except UNREADABLE as error:
        raise UpstreamError(f"the answer is no object with images: {error}") from None
    fields.setdefault("created", Raw(b"%d" % time()))
    return ImageAnswer(fields, images, usage)


def _image(entry: Fields, model: str, *, disclose: bool) -> Image:
    base64, link = (_string(entry.pop(name, None)) for name in ("b64_json", "url"))
    return Image(base64, link, entry if disclose else undisclosed(entry, model))


def _string(raw: Raw | None) -> Raw | None:
    return None if raw is None or bytes(raw) in _NOTHING or bytes(raw)[:1] != b'"' else raw
