"""Decode base64 that comes in pieces, as JSON strings hold it."""

from binascii import Error, a2b_base64
from collections.abc import Iterable, Iterator

_ESCAPES = ((b"\\/", b"/"), (b"\\n", b""), (b"\\r", b""), (b"\\u003d", b"="), (b"\\u002b", b"+"))
"""Escapes that JSON encoders write into base64."""
_LONGEST_ESCAPE = 6
_LONGEST_HEAD = 200
"""Characters of a data URL before its data."""
_BLANKS = b" \t\r\n"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class NoBase64(ValueError):
    """The text is not base64."""


def decode_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of base64 in `pieces`, without the quotation marks of its string.

    A data URL is taken for its data. Raises NoBase64.
    """
    held = b""
    begun = False
    for piece in pieces:
        text = held + piece
        held = b""
        if not begun:
            if text.startswith(b"data:"):
                head, found, text = text.partition(b",")
                if not found or len(head) > _LONGEST_HEAD:
                    raise NoBase64("a data URL without data")
            begun = True
        cut = text.rfind(b"\\", max(0, len(text) - _LONGEST_ESCAPE))
        if cut >= 0:
            text, held = text[:cut], text[cut:]
        if b"\\" in text:
            text = _unescaped(text)
        text = text.translate(_URL_SAFE, _BLANKS)
        even = len(text) - len(text) % 4
        text, rest = text[:even], text[even:]
        held = rest + held
        if text:
            yield _decoded(text)
    last = _unescaped(held).translate(_URL_SAFE, _BLANKS)
    if last:
        yield _decoded(last + b"=" * (-len(last) % 4))


def _unescaped(text: bytes) -> bytes:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text


def _decoded(text: bytes) -> bytes:
    try:
        return a2b_base64(text, strict_mode=True)
    except Error as error:
        raise NoBase64(str(error)) from None
