"""Multipart forms, read as their bytes arrive. No I/O."""

import re
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any

import msgspec

from .prompt import PromptRejected

if TYPE_CHECKING:
    from multipart import MultipartSegment, PushMultipartParser

KEPT = 64 << 20
"""Bytes of one file that are kept. Of a larger one, its size and digest are known."""
_MOST_PARTS = 128
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^\s";]+))', re.IGNORECASE)


class SimulatedPart(msgspec.Struct, frozen=True):
    """One part. filename: None for a field. data: None for a file larger than `KEPT`."""

    name: str
    filename: str | None
    content_type: str | None
    size: int
    sha256: str
    data: bytes | None

    @property
    def text(self) -> str:
        """The value of a field."""
        return (self.data or b"").decode("utf-8", "replace")


class SimulatedForm(msgspec.Struct, frozen=True):
    """The parts of a form, in their order. digest: of all names and contents, without boundary."""

    parts: tuple[SimulatedPart, ...]
    digest: bytes

    def fields(self) -> dict[str, Any]:
        """Values of the fields; a name that ends in `[]`, or comes twice, has a list."""
        found: dict[str, Any] = {}
        for part in self.parts:
            if part.filename is not None:
                continue
            name = part.name.removesuffix("[]")
            if name == part.name and name not in found:
                found[name] = part.text
                continue
            before = found.get(name, [])
            found[name] = [*(before if isinstance(before, list) else [before]), part.text]
        return found

    def files(self, name: str) -> list[SimulatedPart]:
        """The files called `name` or `name[]`."""
        return [
            part
            for part in self.parts
            if part.filename is not None and part.name.removesuffix("[]") == name
        ]


def boundary_of(content_type: str) -> str | None:
    """The boundary of a form's content type, "" without one; None for another type."""
    if not content_type.lower().startswith("multipart/form-data"):
        return None
    found = _BOUNDARY.search(content_type)
    return (found[1] or found[2]) if found else ""


class FormReader:
    """Reads one form. Errors are kept until `close`, so that a whole body can be received."""

    def __init__(self, boundary: str) -> None:
        self._parser: PushMultipartParser | None = None
        self._error = "" if boundary else "Could not parse multipart form: missing boundary."
        if boundary:
            # The gateway starts without this library.
            import multipart

            self._parser = multipart.PushMultipartParser(
                boundary, max_segment_count=_MOST_PARTS, header_charset="latin-1"
            )
        self._parts: list[SimulatedPart] = []
        self._segment: MultipartSegment | None = None
        self._data = bytearray()
        self._hash = sha256()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self._parser is None or self._error or not data:
            return
        import multipart

        try:
            for event in self._parser.parse(data):
                if isinstance(event, multipart.MultipartSegment):
                    self._segment, self._data, self._size = event, bytearray(), 0
                    self._hash = sha256()
                elif event is None:
                    self._end()
                else:
                    self._size += len(event)
                    self._hash.update(event)
                    if self._size <= KEPT:
                        self._data += event
        except multipart.MultipartError as error:
            self._error = f"Could not parse multipart form: {error}."

    def close(self) -> SimulatedForm:
        """The whole form. Raises PromptRejected when it is not one."""
        if self._parser is not None and not self._error:
            import multipart

            try:
                self._parser.close()
            except multipart.MultipartError as error:
                self._error = f"Could not parse multipart form: {error}."
        if self._error:
            raise PromptRejected(400, self._error)
        digest = blake2b(digest_size=24)
        for part in self._parts:
            digest.update(f"{part.name}\0{part.filename}\0{part.sha256}\0".encode())
        return SimulatedForm(tuple(self._parts), digest.digest())

    def _end(self) -> None:
        segment = self._segment
        if segment is None:
            return
        filename = segment.filename
        self._parts.append(
            SimulatedPart(
                _text(segment.name or ""),
                None if filename is None else _text(filename),
                segment.content_type,
                self._size,
                self._hash.hexdigest(),
                bytes(self._data) if self._size <= KEPT else None,
            )
        )
        self._segment, self._data = None, bytearray()


def _text(latin: str) -> str:
    """A name as its client wrote it: UTF-8, else Latin-1."""
    try:
        return latin.encode("latin-1").decode()
    except UnicodeError:
        return latin
