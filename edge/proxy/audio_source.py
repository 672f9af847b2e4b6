"""The audio of a JSON transcription request: its data, as the file of a form."""

import re
from functools import partial
from typing import Final, Protocol

import msgspec

from edge.media.filenames import safe_filename
from edge.media.forms import Form, FormFile, Spool, form_fields
from edge.media.part import Inline
from edge.runtime.worker_thread import run_in_thread
from middlewares.exchange import Exchange
from middlewares.problem import Problem, expected
from middlewares.uploads import Upload

Fields = dict[str, msgspec.Raw]

_DATA: Final = ("file", "audio")
_REFERENCES: Final = ("file_id", "url")
_ABOUT: Final = ("filename", "format")
_DATA_URL = re.compile(rb'"data:([^,"]{0,200}),', re.IGNORECASE)
_FORMAT = re.compile(r"[a-z0-9]{1,8}").fullmatch
_LONGEST_LINK = 8192

_decode_text = msgspec.json.Decoder(str).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


class NamedFiles(Protocol):
    """Opens files that a request names."""

    async def open(
        self, exchange: Exchange, name: str, reference: str, *, limit: int, upload: Upload
    ) -> FormFile:
        """The file `reference`. name: the member that has it, "file_id" or "url".

        limit: bytes. upload: counts what is held in memory. Raises Problem.
        """
        ...


class AudioSource:
    """A `FileSource` of transcriptions. named: opens files by `file_id` and `url`; None: a request
    with one is refused."""

    def __init__(self, named: NamedFiles | None = None) -> None:
        self._named = named

    async def __call__(
        self, exchange: Exchange, fields: Fields, *, limit: int, upload: Upload
    ) -> Form:
        """See `FileSource`. Raises Problem for a body without audio."""
        given = [name for name in (*_DATA, *_REFERENCES) if name in fields]
        if not given:
            raise expected("file", "audio in base64, or a data URL")
        if len(given) > 1:
            raise expected(given[1], f"to be left out beside `{given[0]}`")
        (name,) = given
        value = fields.pop(name)
        about = {key: _text(fields, key) for key in _ABOUT}
        for key in _ABOUT:
            fields.pop(key, None)
        if name in _DATA:
            file = await _decoded(name, value, about, limit, upload)
        else:
            file = await self._open(exchange, name, value, limit, upload)
        return Form([*form_fields(fields), file])

    async def _open(
        self, exchange: Exchange, name: str, value: msgspec.Raw, limit: int, upload: Upload
    ) -> FormFile:
        if self._named is None:
            raise expected("file", f"audio in base64, or a data URL; `{name}` is not supported")
        reference = _text({name: value}, name)
        if not 0 < len(reference) <= _LONGEST_LINK:
            raise expected(name, f"a string of 1 to {_LONGEST_LINK} characters")
        return await self._named.open(exchange, name, reference, limit=limit, upload=upload)


async def _decoded(
    name: str, value: msgspec.Raw, about: dict[str, str], limit: int, upload: Upload
) -> FormFile:
    """The file of a base64 string, or of a data URL. Raises Problem."""
    raw = memoryview(value)
    if bytes(raw[:1]) != b'"':
        raise expected(name, "audio in base64, or a data URL")
    head = _DATA_URL.match(bytes(raw[:256]))
    kind, start = "", 1
    if head is not None:
        kind, *parameters = head[1].decode("latin-1").lower().split(";")
        if "base64" not in (each.strip() for each in parameters):
            raise expected(name, "a data URL in base64")
        start = head.end()
    data = Inline(value, start)
    if data.size > limit + 3:  # of padding
        raise _too_large(name, limit)
    spool = Spool(upload=upload)
    try:
        pieces = data.pieces()
        while piece := await run_in_thread(partial(next, pieces, b"")):
            await spool.write(piece)
        await spool.finish()
        if spool.size > limit:
            raise _too_large(name, limit)
        if not spool.size:
            raise expected(name, "audio that is not empty")
    except ValueError:
        spool.close()
        raise expected(name, "audio in base64, or a data URL") from None
    except BaseException:
        spool.close()
        raise
    filename = about["filename"]
    if not filename and _FORMAT(about["format"].lower()):
        filename = f"audio.{about['format'].lower()}"
    return FormFile("file", safe_filename(filename, "") if filename else "", kind.strip(), spool)


def _text(fields: Fields, name: str) -> str:
    raw = fields.get(name)
    if raw is None or bytes(memoryview(raw)[:4]) == b"null":
        return ""
    try:
        return _decode_text(raw)
    except _UNREADABLE:
        raise expected(name, "a string") from None


def _too_large(name: str, limit: int) -> Problem:
    message = f"The file `{name}` is larger than {limit:d} bytes."
    return Problem("request_too_large", message=message, param=name)
