"""One media part of a request body: where it stands, what it is, and where its bytes are."""

import re
from binascii import Error, a2b_base64
from collections.abc import Iterator
from typing import Literal
from urllib.parse import unquote_to_bytes

import msgspec

MediaKind = Literal["image", "audio", "video", "document"]

_PIECE = 1 << 20
"""Characters of base64 that are decoded in one call; a multiple of four."""
_JUNK = b" \t\r\n=\\"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_ESCAPE = re.compile(rb"\\")

_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class Inline(msgspec.Struct, frozen=True, eq=False):
    """Data in the body itself.

    raw: the JSON string that holds it. start: the offset in `raw` of its first character.
    quoted: it is percent-encoded; else it is base64.
    """

    raw: msgspec.Raw
    start: int
    quoted: bool = False

    @property
    def size(self) -> int:
        """Upper bound of its bytes."""
        length = len(self.raw) - self.start - 1
        return length if self.quoted else length * 3 // 4

    @property
    def text(self) -> memoryview:
        """The characters as they came, not copied; a `/` may be escaped by a backslash."""
        return memoryview(self.raw)[self.start : -1]

    def pieces(self) -> Iterator[bytes]:
        """The decoded bytes, a megabyte or less at once. Raises ValueError if they cannot be
        decoded."""
        text = self._plain()
        if self.quoted:
            if len(text) > _PIECE:
                raise ValueError("percent-encoded data is too long")
            yield unquote_to_bytes(bytes(text))
            return
        rest = b""
        for at in range(0, len(text), _PIECE):
            piece = bytes(text[at : at + _PIECE]).translate(_STANDARD, _JUNK)
            piece = rest + piece
            whole = len(piece) // 4 * 4
            rest = piece[whole:]
            yield _decoded(piece[:whole])
        if rest:
            yield _decoded(rest + b"=" * (-len(rest) % 4))

    def head(self, size: int) -> bytes:
        """About the first `size` bytes. Raises ValueError if they cannot be decoded."""
        text = bytes(self.text[: size * 4 // 3 + 8])
        if self.quoted:
            return unquote_to_bytes(text)
        text = text.translate(_STANDARD, _JUNK)
        return _decoded(text[: len(text) // 4 * 4])

    def content(self) -> bytes:
        """All bytes. Raises ValueError if they cannot be decoded."""
        return b"".join(self.pieces())

    def _plain(self) -> memoryview:
        text = self.text
        if _escaped(text):  # \/ of PHP, or \u002b: rare
            plain: str = _decode_text(b'"%b"' % bytes(text))
            return memoryview(plain.encode("utf-8", "surrogatepass"))
        return text


def _escaped(text: memoryview) -> bool:
    pieces = range(0, len(text), _PIECE)
    return any(_ESCAPE.search(text, at, at + _PIECE) for at in pieces)


def _decoded(piece: bytes) -> bytes:
    try:
        return a2b_base64(piece, strict_mode=True)
    except Error:
        raise ValueError("not base64") from None


class Link(msgspec.Struct, frozen=True):
    """An http or https URL."""

    url: str


class FileReference(msgspec.Struct, frozen=True):
    """The id of an uploaded file."""

    id: str


class Frames(msgspec.Struct, frozen=True):
    """The frames of a video in time order (Qwen)."""

    frames: tuple[Inline | Link, ...]


Source = Inline | Link | FileReference | Frames


class MediaPart(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One part that carries media.

    location: the members and indexes that lead to it from the top of the body.
    form: its `type` as written; for Gemini's parts the member that holds it ("inlineData").
    source: where its bytes are; None if it has none of the known members.
    param: path of the member that holds or names the bytes, for errors.
    media_type: as stated, in lower case without parameters; "" if it is not stated.
    name: the file's name or the document's title. context: of a document (Anthropic).
    detail: of an image. caching: marks of a prompt cache, as they came.
    recent: it stands in the last turn of the user, or after the last turn of the model.
    text_type: the `type` of a text part in its place.
    """

    location: tuple[str | int, ...]
    kind: MediaKind
    form: str
    source: Source | None
    param: str
    media_type: str = ""
    name: str = ""
    context: str = ""
    detail: str = ""
    caching: dict[str, msgspec.Raw] = {}
    recent: bool = True
    text_type: str = "text"

    @property
    def path(self) -> str:
        """Where it stands, in the form of `param`: `messages[1].content[0]`."""
        return path_of(self.location)

    def as_text(self, text: str) -> msgspec.Raw:
        """A text part that may stand in its place. It keeps the marks of a prompt cache."""
        part = {"type": self.text_type, "text": text, **self.caching}
        return msgspec.Raw(_encode(part))


def path_of(location: tuple[str | int, ...]) -> str:
    """The path of a member, as errors name it."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += f".{step}" if path else step
    return path


KINDS_OF_TYPES: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}


def kind_of_type(media_type: str) -> MediaKind | None:
    """The kind of a media type: a document unless it is image, audio or video; None if unknown."""
    if not media_type or media_type == "application/octet-stream":
        return None
    return KINDS_OF_TYPES.get(media_type.partition("/")[0], "document")
