"""A form encoded as the body of an upstream request (RFC 7578)."""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from uuid import uuid4

from edge.media.filenames import with_extension
from edge.media.kinds import OTHER

from .form import FormField, FormFile, Part, plain_name

_TYPE = re.compile(r"[!#$&^_.+\-0-9A-Za-z]{1,127}/[!#$&^_.+\-0-9A-Za-z]{1,127}").fullmatch
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
_LITTLE = 64 << 10
"""Bytes of headers and fields that are sent in one piece."""


class FormBody:
    """A form with a boundary of its own, in the order of `parts`.

    Each iteration encodes the whole form, so that every attempt sends it from its beginning. Its
    `length` is known. The parts must stay open until it is sent.
    """

    __slots__ = ("_boundary", "_parts", "length")

    def __init__(self, parts: Iterable[Part], *, boundary: str = "") -> None:
        self._parts: Sequence[Part] = tuple(parts)
        self._boundary = (boundary or f"----form-{uuid4().hex}").encode()
        length = len(self._end)
        for part in self._parts:
            length += len(self._head(part)) + 2
            length += part.spool.size if isinstance(part, FormFile) else len(part.value.encode())
        self.length = length
        """Bytes of the body."""

    @property
    def parts(self) -> Sequence[Part]:
        """The parts, in their order."""
        return self._parts

    @property
    def content_type(self) -> bytes:
        """The value of the `content-type` header."""
        return b"multipart/form-data; boundary=" + self._boundary

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body from its beginning, in pieces."""
        held = bytearray()
        for part in self._parts:
            held += self._head(part)
            if isinstance(part, FormField):
                held += part.value.encode()
            else:
                async for piece in part.spool.pieces():
                    if held:
                        yield bytes(held)
                        held.clear()
                    yield piece
            held += b"\r\n"
            if len(held) >= _LITTLE:
                yield bytes(held)
                held.clear()
        yield bytes(held + self._end)

    @property
    def _end(self) -> bytes:
        return b"--" + self._boundary + b"--\r\n"

    def _head(self, part: Part) -> bytes:
        name = part.name.translate(_ESCAPES)
        head = f'Content-Disposition: form-data; name="{name}"'
        if isinstance(part, FormFile):
            kind = _type_of(part)
            filename = with_extension(part.filename or plain_name(part.name), kind)
            head += f'; filename="{filename.translate(_ESCAPES)}"\r\nContent-Type: {kind}'
        return b"--" + self._boundary + b"\r\n" + head.encode("utf-8", "replace") + b"\r\n\r\n"


def _type_of(file: FormFile) -> str:
    """The media type of a file: the client's unless it says nothing; then by its bytes."""
    said = file.content_type
    if said and said != OTHER and _TYPE(said):
        return said
    return file.spool.kind
