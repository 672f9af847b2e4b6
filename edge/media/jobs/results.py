"""Copies of what jobs made, in the files of their owners.

Theory of operation. The id of a file is written into the job's row before its bytes are stored. A
worker that goes on after another finds the file by that id if it is whole, and else stores it under
a new id; the sweep of files removes the other. So each result is one file.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import choice
from string import ascii_letters, digits
from typing import Any, Protocol
from urllib.parse import urlsplit

from msgspec.structs import replace

from edge.upstreams import Response, UpstreamFailure
from edge.upstreams.provider import Provider
from middlewares.stores.jobs.base import ClaimLost, Job, JobStore, Result

from .upstream import open_call, open_url
from .vendors.base import Vendor
from .work import Work

_BASE62 = ascii_letters + digits
_MEDIA = {"video": ("video/", "image/"), "music": ("audio/", "video/")}
"""Types of results; an MP4 with sound only is sniffed as video."""


class StoredFile(Protocol):
    """A file of an owner."""

    @property
    def id(self) -> str: ...
    @property
    def mime(self) -> str: ...
    @property
    def size(self) -> int: ...


class FileLibrary(Protocol):
    """`edge.media.library.Files`, as far as jobs use it."""

    async def save(
        self,
        owner: str,
        filename: str,
        source: AsyncIterator[bytes],
        *,
        purpose: str,
        limit: int | None,
        max_size: int | None = None,
        file_id: str = "",
        declared: str = "",
        expires_at: float | None = None,
    ) -> StoredFile: ...

    async def find(self, owner: str, file_id: str) -> StoredFile | None: ...

    async def delete(self, owner: str, file_id: str) -> bool: ...


class Fetched(Protocol):
    """A fetched file."""

    def pieces(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


class URLFetcher(Protocol):
    """`edge.media.fetch.fetcher.Fetcher`, as far as jobs use it."""

    async def fetch(
        self, url: str, *, param: str, kinds: Any, limit: int, owner: str
    ) -> Fetched: ...


class NotMedia(Exception):
    """The upstream gave something else than what was made, such as an error page."""


class Results:
    """Stores results. keep: seconds that they are kept; None keeps them until they are deleted."""

    def __init__(
        self,
        store: JobStore,
        files: FileLibrary,
        fetcher: URLFetcher,
        *,
        keep: float | None,
    ) -> None:
        self._store = store
        self._files = files
        self._fetcher = fetcher
        self.keep = keep

    async def copy(
        self, job: Job, number: int, provider: Provider, vendor: Vendor, work: Work, now: float
    ) -> Job:
        """The job with its result of that number stored.

        Raises UpstreamFailure, NotMedia, Problem (of files and fetches), ClaimLost.
        """
        result = job.results[number]
        if result.file and (known := await self._files.find(job.owner, result.file)) is not None:
            return await self._stored(job, number, known)
        async with self._source(job, result, provider, vendor) as source:
            return await self.save(job, number, source, work, now)

    async def save(
        self, job: Job, number: int, source: AsyncIterator[bytes], work: Work, now: float
    ) -> Job:
        """The job with the bytes of `source` as its result of that number. Raises as `copy`."""
        file_id = "file-" + "".join(choice(_BASE62) for _ in range(27))
        job = await self._changed(job, number, file=file_id)
        left = job.storage - sum(result.bytes for result in job.results)
        name = job.id if len(job.results) == 1 else f"{job.id}-{number + 1}"
        stored = await self._files.save(
            job.owner,
            name,
            source,
            purpose="user_data",
            limit=None,  # its room was reserved when the job was created
            max_size=max(1, left),
            file_id=file_id,
            expires_at=None if self.keep is None else now + self.keep,
        )
        try:
            if not stored.mime.startswith(_MEDIA[job.kind]) and work.format != "pcm":
                raise NotMedia(f"the result is {stored.mime}")
            return await self._stored(job, number, stored)
        except NotMedia:
            await self._files.delete(job.owner, file_id)
            raise
        except ClaimLost:
            if not await self._uses(job, file_id):
                await self._files.delete(job.owner, file_id)
            raise

    async def _uses(self, job: Job, file_id: str) -> bool:
        """Whether the worker that has the job now goes on with this file."""
        now = await self._store.get(job.owner, job.id)
        if now is None or now.state in ("failed", "cancelled"):
            return False
        return any(result.file == file_id for result in now.results)

    async def remove(self, job: Job) -> None:
        """Delete the files of a job. Raises Problem."""
        for result in job.results:
            if result.file:
                await self._files.delete(job.owner, result.file)

    async def _stored(self, job: Job, number: int, file: StoredFile) -> Job:
        return await self._changed(
            job, number, file=file.id, mime=file.mime, bytes=file.size, stored=True
        )

    async def _changed(self, job: Job, number: int, **changes: Any) -> Job:
        results = list(job.results)
        results[number] = replace(results[number], **changes)
        return await self._store.change(job, results=tuple(results))

    @asynccontextmanager
    async def _source(
        self, job: Job, result: Result, provider: Provider, vendor: Vendor
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of a result: from the upstream with its key if they are there, else from the
        internet without any."""
        async with AsyncExitStack() as stack:
            if not result.url or _origin(result.url) == _origin(provider.base_url):
                if result.url:
                    parts = urlsplit(result.url)
                    target = parts.path + (f"?{parts.query}" if parts.query else "")
                    response = await open_url(provider, target or "/")
                else:
                    call = vendor.content(job.upstream_id)
                    if call is None:
                        raise NotMedia("the result has no address")
                    response = await open_call(provider, call)
                stack.callback(response.close)
                if response.status != 200:
                    raise UpstreamFailure(f"status {response.status} for a result", sent=True)
                yield pieces(response)
                return
            fetched = await self._fetcher.fetch(
                result.url,
                param="result",
                kinds=("video", "audio", "image"),
                limit=job.storage,
                owner=job.owner,
            )
            stack.callback(fetched.close)
            yield fetched.pieces()


async def pieces(response: Response) -> AsyncIterator[bytes]:
    """The body of a response as it comes. Raises UpstreamFailure."""
    while piece := await response.read():
        yield piece


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname or "", port
