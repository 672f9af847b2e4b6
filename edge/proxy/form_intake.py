"""Read the body of a multipart endpoint: a form, or JSON where the endpoint takes that too."""

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import msgspec

from edge.endpoints import Codec, Endpoint, FileSize, FormRules
from edge.media.forms import Form, FormBounds, read_form
from edge.requests.body_limits import SMALL, check_all, check_few
from edge.requests.json_body import members_of, read_json_headers
from edge.requests.member_names import check_names
from edge.runtime.worker_thread import run_in_thread
from middlewares.asgi import Receive, Scope, header
from middlewares.body import read_body
from middlewares.exchange import Exchange
from middlewares.problem import Problem
from middlewares.uploads import Upload

Fields = dict[str, msgspec.Raw]

_TEXT = 4 << 20
"""Bytes of all text fields of a form."""
_SEND_FORM = "send `content-type: multipart/form-data` with its boundary"
_HEADS = 128 << 10
"""Bytes of the boundaries and headers of a form."""


class FileSource(Protocol):
    """Makes a form of a JSON body that holds a file, or names one."""

    async def __call__(
        self, exchange: Exchange, fields: Fields, *, limit: int, upload: Upload
    ) -> Form | None:
        """The form with the files of `fields`, from which their members are removed; None for a
        body without such members.

        limit: bytes of each file. upload: counts what the form holds in memory. Raises Problem.
        """
        ...


class FormIntake:
    """Reads forms. The parameters are those of `IntakeMiddleware`."""

    __slots__ = ("_file_sizes", "_idle", "_limit", "_longest", "_sources")

    def __init__(
        self,
        *,
        limit: int,
        idle: float,
        longest: float,
        file_sizes: Mapping[FileSize, int],
        sources: Mapping[Codec, FileSource],
    ) -> None:
        self._limit = limit
        self._idle = idle
        self._longest = longest
        self._file_sizes = file_sizes
        self._sources = sources

    async def read(
        self, scope: Scope, receive: Receive, exchange: Exchange, upload: Upload
    ) -> tuple[Form | None, Fields]:
        """The form, None for a JSON body without files, and the members of the body.

        upload: counts the bytes in memory. Raises Problem.
        """
        row: Endpoint = exchange.row
        rules = row.form
        assert rules is not None
        if not _is_form(scope):
            if rules.json:
                return await self._read_json(scope, receive, exchange, upload)
            if header(scope, b"content-type") is not None:
                raise _wrong_type(
                    "a form: send `content-type: multipart/form-data` with its boundary"
                )
        form = await read_form(
            scope,
            receive,
            bounds=self._bounds(rules),
            idle=self._idle,
            longest=self._longest,
            upload=upload,
        )
        try:
            fields = form.members(rules.types)
            check_few(fields)
            check_names(fields, row.codec)
        except BaseException:
            form.close()
            raise
        return form, fields

    def _bounds(self, rules: FormRules) -> FormBounds:
        file = self._file_sizes[rules.size]
        return FormBounds(
            size=rules.most * file + _TEXT + _HEADS,
            file=file,
            names=rules.files,
            files=rules.most,
            text=_TEXT,
        )

    async def _read_json(
        self, scope: Scope, receive: Receive, exchange: Exchange, upload: Upload
    ) -> tuple[Form | None, Fields]:
        row: Endpoint = exchange.row
        assert row.form is not None
        try:
            read_json_headers(scope)
        except Problem as problem:
            if problem.param != "content-type":
                raise
            raise _wrong_type(f"a form or JSON: {_SEND_FORM}, or `application/json`") from None
        body = await read_body(
            scope,
            receive,
            limit=self._limit,
            idle=self._idle,
            longest=self._longest,
            upload=upload,
        )
        reading = partial(_members, row, body)
        fields = await run_in_thread(reading) if len(body) >= SMALL else reading()
        del reading
        source = None if row.codec is None else self._sources.get(row.codec)
        if source is None:
            return None, fields
        size = len(body)
        del body
        form = await source(exchange, fields, limit=self._file_sizes[row.form.size], upload=upload)
        if form is not None:
            upload.remove(size)  # what is left of the body are short members
        return form, fields


def _members(row: Endpoint, body: bytes) -> Fields:
    fields = members_of(body)
    if len(body) >= SMALL:
        check_all(row, fields)
    else:
        check_few(fields)
    check_names(fields, row.codec)
    return fields


def _is_form(scope: Scope) -> bool:
    kind = header(scope, b"content-type") or b""
    return kind.split(b";", 1)[0].strip().lower() == b"multipart/form-data"


def _wrong_type(expected: str) -> Problem:
    return Problem(
        "unsupported_media_type",
        message=f"The body must be {expected}.",
        param="content-type",
    )
