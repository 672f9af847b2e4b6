"""Files and links of a conversation, read for describers and written for targets.

Theory of operation. A caller names a file by an id of ours, which no vendor knows, or by a link.
For each attempt the parts that its target takes are written again:

    an id of a file    as a file of the vendor, where the upstream has files (`upstreams[].files`),
                       else inline as base64
    a link             stays where the target's dialect takes links and the upstream fetches them
                       (`upstreams[].fetches_urls`), else fetched and inline

An id that is not of a file of the caller never leaves: the request is refused, as for an id that
does not exist. In older turns, which a session sends again and again, a note stands for a file that
is gone or a link that does not answer any more.
"""

import asyncio
from collections.abc import AsyncIterable, Mapping, Sequence
from functools import partial

import msgspec

from edge.dialects.codec import TargetModel
from edge.media.fetch.downloads import Download
from edge.media.library import owner_of
from edge.media.part import FileReference, Link, MediaKind, MediaPart, kind_of_type
from edge.media.resolve import Resolver, too_large
from edge.proxy.describing.sources import Identified, Loaded
from edge.proxy.describing.wording import unread
from edge.requests.body_limits import SMALL
from edge.runtime.worker_thread import run_in_thread
from edge.upstreams.provider import Provider
from middlewares.exchange import Exchange
from middlewares.problem import Problem
from middlewares.stores.files.base import FileRecord

from .encoding import encoded_size, with_base64
from .forms import form_of, is_text, takes_file, takes_link, with_data, with_file, with_text
from .named_files import MOST_FILES, too_many
from .originals import members_at
from .target import Destination, destination_of
from .vendor_files import VendorFiles

_GONE = frozenset(("not_found", "invalid_request", "invalid_media"))
"""Kinds of Problem of a file that cannot be read now, nor later."""
_UNSUPPORTED: Mapping[MediaKind, str] = {
    "image": "image_not_supported_by_model",
    "audio": "audio_not_supported_by_model",
    "video": "video_not_supported_by_model",
    "document": "document_not_supported_by_model",
}
_ANY: frozenset[MediaKind] = frozenset(("image", "audio", "video", "document"))


class Attachments:
    """See `edge.proxy.describing.sources.MediaSources`.

    vendor_files: copies of files at upstreams. file_limit, request_limit: bytes of one file, and of
    all files of one request, that are sent inline.
    """

    def __init__(
        self,
        resolver: Resolver,
        vendor_files: VendorFiles,
        *,
        file_limit: int = 20 << 20,
        request_limit: int = 30 << 20,
    ) -> None:
        self.resolver = resolver
        self.vendor_files = vendor_files
        self._file_limit = file_limit
        self._request_limit = request_limit

    async def identify(self, part: MediaPart, exchange: Exchange) -> Identified:
        """See `MediaSources`. A file of an older turn that is gone stays as it is."""
        if not isinstance(part.source, FileReference):
            return Identified(part)
        try:
            record = await self._record(part, exchange)
        except Problem as problem:
            if part.recent or problem.kind not in _GONE:
                raise
            return Identified(part)
        return Identified(_as_stored(part, record), bytes.fromhex(record.sha256))

    async def load(self, part: MediaPart, exchange: Exchange, limit: int) -> Loaded:
        """See `MediaSources`."""
        if isinstance(part.source, Link):
            download = await self._fetch(part, exchange, limit)
            return Loaded(await download.read(), part.name)
        record = await self._record(part, exchange)
        if record.size > limit:
            raise too_large(part.param, limit)
        pieces = [piece async for piece in self.resolver.files.read(record)]
        return Loaded(b"".join(pieces), record.filename)

    async def resolve(
        self, parts: Sequence[MediaPart], exchange: Exchange, model: TargetModel, provider: Provider
    ) -> Mapping[MediaPart, msgspec.Raw]:
        """See `MediaSources`."""
        destination = destination_of(exchange, provider)
        wanted = [part for part in parts if self._is_written(part, destination)]
        if not wanted:
            return {}
        surplus, wanted = wanted[:-MOST_FILES], wanted[-MOST_FILES:]
        written: dict[MediaPart, msgspec.Raw] = {}
        for part in surplus:
            if part.recent:
                raise too_many(part.param)
            written[part] = part.as_text(unread(part.kind))
        originals = await run_in_thread(
            partial(members_at, exchange.fields, [part.location for part in wanted])
        )
        writing = _Writing(exchange, self._request_limit)
        downloads = await self._downloads(wanted, exchange)
        for part, original in zip(wanted, originals, strict=True):
            try:
                found = downloads.get(part)
                if isinstance(found, Problem):
                    raise found
                if found is not None:
                    written[part] = await self._inline_link(part, original, found, writing)
                else:
                    written[part] = await self._file(
                        part, original, exchange, destination, provider, writing
                    )
            except Problem as problem:
                if part.recent or problem.kind not in _GONE:
                    raise
                written[part] = part.as_text(unread(part.kind))
        return written

    def _is_written(self, part: MediaPart, destination: Destination) -> bool:
        if isinstance(part.source, FileReference):
            return True
        if not isinstance(part.source, Link):
            return False
        return not destination.fetches_urls or not takes_link(destination.dialect, part)

    async def _downloads(
        self, parts: Sequence[MediaPart], exchange: Exchange
    ) -> dict[MediaPart, Download | Problem]:
        """The files behind the links, fetched at once; for a link that fails, why."""
        linked = [part for part in parts if isinstance(part.source, Link)]
        if not linked:
            return {}

        async def fetched(part: MediaPart) -> Download | Problem:
            try:
                return await self._fetch(part, exchange, self._file_limit)
            except Problem as problem:
                return problem

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetched(part)) for part in linked]
        return {part: task.result() for part, task in zip(linked, tasks, strict=True)}

    async def _fetch(self, part: MediaPart, exchange: Exchange, limit: int) -> Download:
        assert isinstance(part.source, Link)
        return await self.resolver.fetch(
            owner_of(exchange.principal),
            part.source.url,
            param=part.param,
            kinds=_accepted(part),
            limit=limit,
            request=exchange.request_id,
        )

    async def _record(self, part: MediaPart, exchange: Exchange) -> FileRecord:
        assert isinstance(part.source, FileReference)
        owner = owner_of(exchange.principal)
        return await self.resolver.record(owner, part.source.id, param=part.param)

    async def _inline_link(
        self,
        part: MediaPart,
        original: Mapping[str, msgspec.Raw],
        download: Download,
        writing: "_Writing",
    ) -> msgspec.Raw:
        kind = kind_of_type(download.kind) or part.kind
        part = msgspec.structs.replace(part, kind=kind, media_type=download.kind)
        return await self._inline(part, original, download.size, download.pieces(), writing)

    async def _file(
        self,
        part: MediaPart,
        original: Mapping[str, msgspec.Raw],
        exchange: Exchange,
        destination: Destination,
        provider: Provider,
        writing: "_Writing",
    ) -> msgspec.Raw:
        record = await self._record(part, exchange)
        part = _as_stored(part, record)
        if destination.files and takes_file(destination.dialect, part):
            vendor_id = await self.vendor_files.copy_of(record, provider, destination.dialect)
            if vendor_id:
                return with_file(part, original, vendor_id)
        return await self._inline(
            part, original, record.size, self.resolver.files.read(record), writing
        )

    async def _inline(
        self,
        part: MediaPart,
        original: Mapping[str, msgspec.Raw],
        size: int,
        pieces: AsyncIterable[bytes],
        writing: "_Writing",
    ) -> msgspec.Raw:
        if size > self._file_limit:
            raise too_large(part.param, self._file_limit)
        writing.add(size, part.param)
        if part.kind == "document" and is_text(part.media_type):
            content = b"".join([piece async for piece in pieces])
            return await run_in_thread(
                lambda: with_text(part, original, content.decode("utf-8-sig", "replace"))
            )
        if form_of(part) == "messages" and not _messages_take(part):
            raise Problem(_UNSUPPORTED[part.kind], param=part.param)
        written, mark = with_data(part, original)
        return await with_base64(written, mark, pieces)


class _Writing:
    """Counts the files of one attempt that are sent inline."""

    def __init__(self, exchange: Exchange, limit: int) -> None:
        self._exchange = exchange
        self._limit = limit
        self._size = self._encoded = 0

    def add(self, size: int, param: str) -> None:
        """Count a file of `size` bytes, also against the memory of request bodies, of which each
        attempt needs as much again. Raises Problem where there is no room."""
        self._size += size
        if self._size > self._limit:
            issue = f"expected files of at most {self._limit} bytes in one request"
            raise Problem(
                "invalid_request",
                message=f"The file at `{param}` is too large beside the others: {issue}.",
                param=param,
                issue=issue,
            )
        exchange, upload = self._exchange, self._exchange.upload
        self._encoded += encoded_size(size)
        more = self._encoded - exchange.attached
        if more <= 0:
            return
        if upload is not None:
            try:
                upload.extend(more)
            except Problem as problem:
                problem.held = False  # not the target's fault
                raise
        exchange.attached = self._encoded
        if self._encoded > SMALL:
            exchange.large = True


def _as_stored(part: MediaPart, record: FileRecord) -> MediaPart:
    """The part with the kind, type and name of its file."""
    return msgspec.structs.replace(
        part,
        kind=kind_of_type(record.mime) or "document",
        media_type=record.mime,
        name=part.name or record.filename,
    )


def _accepted(part: MediaPart) -> frozenset[MediaKind]:
    """Kinds of a file behind a link. A part for files takes any."""
    return _ANY if part.kind == "document" else frozenset((part.kind,))


def _messages_take(part: MediaPart) -> bool:
    return part.kind == "image" or part.media_type == "application/pdf"
