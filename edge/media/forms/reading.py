"""Read a multipart form from a request, within bounds.

Theory of operation. `multipart.PushMultipartParser` finds the parts in the pieces of the body, and
`_FormParser` turns its events into ours. The parser bounds the headers of a part and the number of
parts; the rest is bounded here: fields, files and their sizes, and what may stand before the first
part. Headers are read as Latin-1, which never fails and loses nothing, and names are then decoded
as UTF-8, or else as cp1252 (old Windows clients).
"""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cache
from math import inf
from typing import Any

import msgspec

from edge.media.filenames import safe_filename
from middlewares.asgi import Receive, Scope, header
from middlewares.body import BodyReader
from middlewares.problem import Problem, expected
from middlewares.uploads import Upload

from .form import Form, FormField, FormFile, plain_name
from .spool import Spool

_LONGEST_BOUNDARY = 70
"""Characters (RFC 2046, section 5.1.1)."""
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]*[0-9A-Za-z'()+_,\-./:=?]").fullmatch
_MOST_PARTS = 128
_PREAMBLE = 64 << 10
"""Bytes before the first part; clients send none."""
_PIECE = 64 << 10
"""Bytes that are parsed between two turns of the event loop."""
_LONGEST_NAME = 256
_CHARSETS = {
    "us-ascii": "ascii",
    "ascii": "ascii",
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "iso-8859-1": "latin-1",
    "latin-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
}


class FormBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one form.

    size: bytes of the whole body. file: bytes of each file.
    names: most files of these names, which are written without `[]`; of other names as many as
        `files`, the most in all. A part of one of `names` is a file even without a filename.
    fields, field, text: most text fields, bytes of one, and bytes of all together.
    """

    size: int
    file: int
    names: Mapping[str, int] = {}
    files: int = 1
    fields: int = 64
    field: int = 1 << 20
    text: int = 4 << 20


class FileStart(msgspec.Struct, frozen=True):
    """The beginning of a file; its bytes follow, then `FileEnd`. See `FormFile`."""

    name: str
    filename: str
    content_type: str


class FileEnd(msgspec.Struct, frozen=True):
    """The end of a file, which has at least one byte."""


FormEvent = FormField | FileStart | bytes | FileEnd


async def stream_form(
    scope: Scope,
    receive: Receive,
    *,
    bounds: FormBounds,
    idle: float,
    longest: float = inf,
    upload: Upload | None = None,
) -> AsyncIterator[FormEvent]:
    """The events of a form while it arrives.

    idle, longest: seconds, see `BodyReader`; the time between two events does not count.
    upload: counts the text fields; its creator closes it.
    Raises Problem: `unsupported_media_type`, `request_too_large`, `invalid_request`,
    `request_timeout`, and what `upload` raises.
    """
    boundary = _boundary(scope)
    reader = BodyReader(scope, receive, limit=bounds.size, idle=idle, longest=longest)
    parser = _FormParser(boundary, bounds, upload)
    while not reader.ended:
        body = await reader.read()
        for at in range(0, len(body), _PIECE):
            for event in parser.feed(body[at : at + _PIECE] if at or len(body) > _PIECE else body):
                yield event
    parser.end()


async def read_form(
    scope: Scope,
    receive: Receive,
    *,
    bounds: FormBounds,
    idle: float,
    longest: float = inf,
    upload: Upload | None = None,
) -> Form:
    """The whole form, its files in spools that the caller closes. See `stream_form`.

    upload: counts also what the spools hold in memory.
    """
    form = Form()
    spool: Spool | None = None
    try:
        events = stream_form(
            scope, receive, bounds=bounds, idle=idle, longest=longest, upload=upload
        )
        async for event in events:
            if isinstance(event, bytes):
                assert spool is not None
                await spool.write(event)
            elif isinstance(event, FormField):
                form.parts.append(event)
            elif isinstance(event, FileStart):
                spool = Spool(upload=upload)
                form.parts.append(FormFile(event.name, event.filename, event.content_type, spool))
            else:
                assert spool is not None
                await spool.finish()
    except BaseException:
        form.close()
        raise
    return form


class _FormParser:
    """Parses pieces of a form. upload: counts the bytes of text fields."""

    def __init__(self, boundary: bytes, bounds: FormBounds, upload: Upload | None) -> None:
        self._library = _library()
        self._parser = self._library.PushMultipartParser(
            boundary, max_segment_count=_MOST_PARTS, header_charset="latin-1"
        )
        self._bounds = bounds
        self._upload = upload
        self._name = ""
        self._charset = "utf-8"
        self._text: bytearray | None = None
        self._size = 0
        self._texts = 0
        self._text_size = 0
        self._files: dict[str, int] = {}
        self._begun = False
        self._fed = 0

    def feed(self, piece: bytes) -> Iterator[FormEvent]:
        """The events of the next bytes. Raises Problem."""
        if not piece:
            return
        if not self._begun:
            if self._fed > _PREAMBLE:
                raise _malformed("no part begins with the boundary of its content-type")
            self._fed += len(piece)
        try:
            for event in self._parser.parse(piece):
                if event is None:
                    yield self._end_part()
                elif isinstance(event, (bytes, bytearray)):
                    if self._text is None:
                        yield self._take_file(bytes(event))
                    else:
                        self._take_text(event)
                else:
                    start = self._start_part(event)
                    if start is not None:
                        yield start
        except self._library.MultipartError as error:
            raise _problem_of(error) from None

    def end(self) -> None:
        """Check that the form was complete. Raises Problem."""
        try:
            self._parser.close()
        except self._library.MultipartError as error:
            raise _problem_of(error) from None
        if not self._begun:
            raise _malformed("it has no parts")

    def _start_part(self, part: Any) -> FileStart | None:
        self._begun = True
        name = _decoded(part.name or "")
        if not name or len(name) > _LONGEST_NAME:
            raise _malformed(f"a part has no name, or one of more than {_LONGEST_NAME} characters")
        if not name.isprintable():
            raise _malformed("the name of a part has control characters")
        kind = (part.content_type or "").lower()
        if kind.startswith("multipart/"):
            raise _malformed(f"the part `{name}` is itself multipart, which no form may have")
        self._name = name
        self._size = 0
        if part.filename is None and plain_name(name) not in self._bounds.names:
            self._count_field(part)
            return None
        self._text = None
        self._count_file(name)
        filename = safe_filename(_decoded(part.filename), "") if part.filename else ""
        return FileStart(name, filename, kind)

    def _count_field(self, part: Any) -> None:
        self._texts += 1
        if self._texts > self._bounds.fields:
            raise _malformed(f"it has more than {self._bounds.fields} text fields")
        charset = (part.charset or "utf-8").lower()
        self._charset = _CHARSETS.get(charset, "")
        if not self._charset:
            raise expected(self._name, "text in UTF-8")
        self._text = bytearray()
        self._add_text(len(self._name))

    def _count_file(self, name: str) -> None:
        plain = plain_name(name)
        self._files[plain] = count = self._files.get(plain, 0) + 1
        most = self._bounds.names.get(plain, self._bounds.files)
        if count > most:
            what = "one file" if most == 1 else f"at most {most} files"
            raise expected(plain, f"{what} of this name")
        if sum(self._files.values()) > self._bounds.files:
            what = "one file" if self._bounds.files == 1 else f"at most {self._bounds.files} files"
            raise expected(plain, f"{what} in the form")

    def _take_file(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > self._bounds.file:
            raise Problem(
                "request_too_large",
                message=f"The file `{plain_name(self._name)}` is larger than "
                f"{self._bounds.file:d} bytes.",
                param=plain_name(self._name),
            )
        return data

    def _take_text(self, data: bytes | bytearray) -> None:
        assert self._text is not None
        self._text += data
        if len(self._text) > self._bounds.field:
            raise expected(plain_name(self._name), f"at most {self._bounds.field} bytes")
        self._add_text(len(data))

    def _add_text(self, size: int) -> None:
        self._text_size += size
        if self._text_size > self._bounds.text:
            raise _malformed(f"its text fields have more than {self._bounds.text} bytes together")
        if self._upload is not None:
            self._upload.add(size)

    def _end_part(self) -> FormEvent:
        if self._text is None:
            if not self._size:
                raise expected(plain_name(self._name), "a file that is not empty")
            return FileEnd()
        try:
            value = self._text.decode(self._charset)
        except UnicodeDecodeError:
            raise expected(plain_name(self._name), "text in UTF-8") from None
        self._text = None
        return FormField(self._name, value)


@cache
def _library() -> Any:
    import multipart  # only where forms are read

    return multipart


def _boundary(scope: Scope) -> bytes:
    """The boundary of the request's content type. Raises Problem."""
    given = header(scope, b"content-type") or b""
    kind, options = _library().parse_options_header(given.decode("latin-1"))
    if kind != "multipart/form-data":
        raise Problem(
            "unsupported_media_type",
            message="The body must be a form: send `content-type: multipart/form-data` with its "
            "boundary.",
            param="content-type",
        )
    boundary = options.get("boundary", "")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY or not _BOUNDARY(boundary):
        raise Problem(
            "invalid_request",
            message="The content-type has no valid boundary: expected `multipart/form-data; "
            f"boundary=…` with 1 to {_LONGEST_BOUNDARY} characters.",
            param="content-type",
        )
    encoding = header(scope, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise Problem(
            "unsupported_media_type",
            message="The body must not be compressed: leave `content-encoding` out.",
            param="content-encoding",
        )
    return bytes(boundary, "ascii")


def _decoded(text: str) -> str:
    raw = text.encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _problem_of(error: Exception) -> Problem:
    """The problem of an error of the parser, whose words are for the log only."""
    said = str(error)
    library = _library()
    if isinstance(error, library.ParserLimitReached):
        if "segment count" in said:
            return _malformed(f"it has more than {_MOST_PARTS} parts", said)
        return _malformed("the headers of a part are too long or too many", said)
    if "end of multipart stream" in said:
        return _malformed("it ends before its last boundary", said)
    return _malformed("a boundary or the headers of a part are malformed", said)


def _malformed(why: str, reason: str = "") -> Problem:
    message = f"The body is not a valid multipart form: {why}."
    return Problem("invalid_request", message=message, reason=reason)
