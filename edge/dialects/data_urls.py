"""Read and write data URLs (RFC 2397), and detect the type of an image."""

import re
from base64 import b64decode, b64encode
from binascii import Error, a2b_base64
from collections.abc import Iterator
from string import ascii_letters, digits
from urllib.parse import unquote, unquote_to_bytes

_URL = re.compile(r"data:([^,]*),", re.IGNORECASE)
_SPACE = re.compile(r"\s")
_STANDARD = (ascii_letters + digits + "+/").encode()
_URLSAFE = str.maketrans("-_", "+/")
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg"}
MOST_QUOTED = 1 << 20
"""The most characters of a percent-encoded data URL."""
_PIECE = 1 << 20
"""Characters that are decoded in one call; a multiple of four."""
_HEAD = 16  # base64 characters of the 12 bytes that identify every format


def read_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 data of a data URL; None for any other URL.

    The type is in lower case, without parameters, and by its registered name. Other data is
    encoded as base64. Raises ValueError for a data URL that is invalid or empty.
    """
    if url[:5].lower() != "data:":
        return None
    head = _URL.match(url)
    if head is None:
        raise ValueError("a data URL has a comma before its data")
    type_, *parameters = head[1].split(";")
    type_ = type_.strip().lower() or "text/plain"
    data = url[head.end() :]
    if len(data) > MOST_QUOTED and "%" in data:
        raise ValueError(f"a data URL with `%` has at most {MOST_QUOTED} characters: use base64")
    if any(parameter.strip().lower() == "base64" for parameter in parameters):
        data = _clean(data)
    else:
        data = b64encode(unquote_to_bytes(data)).decode()
    if not data:
        raise ValueError("the data URL holds no data")
    return _ALIASES.get(type_, type_), data


def _clean(data: str) -> str:
    """`data` in standard base64, padded. Raises ValueError if it is not base64."""
    bare = data.rstrip("=")
    if _is_standard(bare):  # as nearly all is: one pass in place of four
        padding = -len(bare) % 4
        return data if len(data) == len(bare) + padding else bare + "=" * padding
    if "%" in data:
        data = unquote(data)
    if not data.isascii() or any(_SPACE.search(data, at, end) for at, end in _pieces(data)):
        data = _SPACE.sub("", data)
    if "-" in data or "_" in data:
        data = data.translate(_URLSAFE)
    data = data.rstrip("=")
    try:
        if "=" in data:
            raise Error("padding before the end")
        data += "=" * (-len(data) % 4)
        for at, end in _pieces(data):
            a2b_base64(data[at:end], strict_mode=True)
    except (Error, ValueError):
        raise ValueError("the data URL is not valid base64") from None
    return data


def _is_standard(bare: str) -> bool:
    """Whether `bare` is base64 without its padding, and nothing else."""
    return (
        bare.isascii()
        and len(bare) % 4 != 1
        and not any(bare[at:end].encode().translate(None, _STANDARD) for at, end in _pieces(bare))
    )


def _pieces(data: str) -> Iterator[tuple[int, int]]:
    """The ends of the pieces of `data`: one step over all of it would block the event loop."""
    for at in range(0, len(data), _PIECE):
        yield at, at + _PIECE


def data_url(media_type: str, data: str) -> str:
    """The data URL of base64 `data`."""
    return f"data:{media_type};base64,{data}"


def sniffed(data: str, media_type: str) -> str:
    """The image type that the first bytes show (JPEG, PNG, GIF, WebP), else `media_type`.

    data: base64. Clients take the type from the file's name; vendors check the bytes.
    """
    try:
        head = b64decode(data[:_HEAD])
    except ValueError:
        return media_type
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return media_type
