"""Files behind what callers write for media: an id of a file of theirs, a URL or a data URL."""

import re
from collections.abc import AsyncIterator, Collection

import msgspec

from middlewares.problem import Problem, expected
from middlewares.shared import Shared
from middlewares.stores.files.base import FileRecord

from .fetch.downloads import Download
from .fetch.fetcher import Fetcher, is_one_of, wrong_kind
from .library import Files, unknown
from .part import Inline, kind_of_type

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_URL = ("https:", "http:")
_DATA_URL = re.compile(r"data:([ !#-+\--\[\]-~]{0,200}),", re.IGNORECASE)

_encode = msgspec.json.Encoder().encode


def is_link(text: str) -> bool:
    """Whether `text` is a web URL, in place of an id or of data."""
    return text[:8].lstrip().lower().startswith(_URL)


def no_such_file(file_id: str, param: str) -> Problem:
    """The answer for a file that the caller does not have: it does not exist, is another's, or has
    expired."""
    message = f"{unknown(file_id)}, named at `{param}`."
    return Problem("not_found", message=message, param=param)


class Resolver(Shared):
    """Reads files and links for callers. files: of all owners. fetcher: for links."""

    def __init__(self, files: Files, fetcher: Fetcher) -> None:
        self.files = files
        self._fetcher = fetcher

    async def record(self, owner: str | None, file_id: str, *, param: str) -> FileRecord:
        """The row of a file of `owner`. Raises Problem: `not_found` with `param`."""
        found = None
        if owner and _ID(file_id):
            found = await self.files.find(owner, file_id)
        if found is None:
            raise no_such_file(file_id, param)
        return found

    async def fetch(
        self,
        owner: str | None,
        url: str,
        *,
        param: str,
        kinds: Collection[str],
        limit: int,
        request: str = "",
    ) -> Download:
        """The file behind a link. See `Fetcher.fetch`."""
        return await self._fetcher.fetch(
            url, param=param, kinds=kinds, limit=limit, owner=owner or "", request=request
        )

    async def resolve_media(
        self,
        owner: str | None,
        value: str,
        *,
        param: str,
        kinds: Collection[str],
        limit: int,
        request: str = "",
    ) -> Download:
        """The file that `value` stands for: an id of a file of `owner`, an http or https URL, or a
        data URL. Raises Problem with `param`.

        kinds: accepted kinds of media ("image", "audio", "video", "document"). limit: bytes.
        owner: `owner_of` of the principal. request: id of the request, which bounds its fetches.
        """
        if is_link(value):
            return await self.fetch(
                owner, value, param=param, kinds=kinds, limit=limit, request=request
            )
        if value[:5].lower() == "data:":
            return await _decoded(value, param, kinds, limit)
        record = await self.record(owner, value, param=param)
        check_kind(record, kinds, param)
        if record.size > limit:
            raise too_large(param, limit)
        return await _spooled(record.filename, self.files.read(record))


def check_kind(record: FileRecord, kinds: Collection[str], param: str) -> None:
    """Raise Problem unless the file is of one of these kinds of media."""
    if kind_of_type(record.mime) is not None and not is_one_of(kinds, record.mime):
        raise wrong_kind(param, kinds, record.mime)


def too_large(param: str, limit: int) -> Problem:
    """The answer for a file over the limit of its place."""
    issue = f"expected a file of at most {limit} bytes"
    return Problem(
        "invalid_request",
        message=f"The file at `{param}` is too large: {issue}.",
        param=param,
        issue=issue,
    )


async def _spooled(name: str, pieces: AsyncIterator[bytes]) -> Download:
    spool = Download(name=name)
    async for piece in pieces:
        await spool.write(piece)
    await spool.finish()
    return spool


async def _decoded(value: str, param: str, kinds: Collection[str], limit: int) -> Download:
    head = _DATA_URL.match(value)
    if head is None:
        raise expected(param, "a readable data URL")
    quoted = not any(each.strip().lower() == "base64" for each in head[1].split(";")[1:])
    source = Inline(msgspec.Raw(_encode(value)), 1 + head.end(), quoted)
    if source.size > limit + 2:
        raise too_large(param, limit)
    spool = Download()
    try:
        for piece in source.pieces():
            await spool.write(piece)
    except ValueError:
        raise expected(param, "a readable data URL") from None
    await spool.finish()
    if not is_one_of(kinds, spool.kind):
        raise wrong_kind(param, kinds, spool.kind)
    return spool
