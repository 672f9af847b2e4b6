"""Images of an answer as the caller wants them: in base64, or as links of this gateway.

A link of the provider is not passed on, unless the operator chose that (`images.urls`): it names
the provider, and some clients fetch it with the key that they have for this gateway. So the bytes
are stored as a file of the caller that lives for an hour, and the caller gets a signed link. Where
the provider has only a link, its bytes are fetched first.
"""

from binascii import b2a_base64
from collections.abc import AsyncIterator, Callable
from time import time
from typing import Literal

from msgspec import Raw

from edge.dialects.openai_images import Image, ImageAnswer
from edge.dialects.passthrough import UpstreamError, encode
from edge.media.base64_text import NoBase64, decode_pieces
from edge.media.fetch.fetcher import Fetcher
from edge.media.filenames import EXTENSIONS
from edge.media.forms import Spool
from edge.media.kinds import kind_of
from edge.media.library import Files, owner_of
from middlewares.asgi import Scope
from middlewares.exchange import Exchange, Principal
from middlewares.problem import Problem
from middlewares.stores.files.base import FileRecord

from .long_strings import LongStrings

SECONDS = 3600
"""How long a link lives, and its file."""
_PURPOSE = "vision"
_LARGEST = 64 << 20
"""Bytes of an image that is fetched."""
_TRIPLES = 3 << 16
"""Bytes of an image that are encoded at a time."""


class ImageLinks:
    """Makes links for callers of one configuration.

    fetcher: fetches what an upstream has a link of.
    storage: quota of a caller in bytes. base: URL of this gateway, of a request's scope.
    urls: `images.urls`.
    """

    def __init__(
        self,
        files: Files,
        fetcher: Fetcher,
        *,
        storage: Callable[[Principal | None], int | None],
        base: Callable[[Scope], str],
        urls: Literal["gateway", "provider"] = "gateway",
        clock: Callable[[], float] = time,
    ) -> None:
        self._files = files
        self._fetcher = fetcher
        self._storage = storage
        self._base = base
        self.vendor_links = urls == "provider"
        self._clock = clock

    async def finish(
        self,
        answer: ImageAnswer,
        strings: LongStrings,
        scope: Scope,
        exchange: Exchange,
        *,
        links: bool,
    ) -> None:
        """Make all images of `answer` links, or base64. Raises UpstreamError.

        Where the caller's storage is full, its images stay base64: they are made and paid for.
        """
        owner = owner_of(exchange.principal)
        for n, image in enumerate(answer.images, 1):
            if links and image.link is not None and self.vendor_links:
                _drop(image, strings)
                continue
            fetched = None
            if image.base64 is None:
                fetched = await self._fetched(image, owner or "", exchange.request_id)
            image.link = None
            if links and owner is not None:
                limit = self._storage(exchange.principal)
                pieces = _decoded(image, strings) if fetched is None else fetched.pieces()
                record = await self._saved(pieces, owner, limit, f"image-{n}")
                if record is not None:
                    _drop(image, strings)
                    url = await self._files.link(record, self._base(scope), seconds=SECONDS)
                    image.link = Raw(encode(url))
                    continue
            if fetched is not None:
                image.base64 = Raw(await strings.add(_encoded(fetched)))

    async def _fetched(self, image: Image, owner: str, request: str) -> Spool:
        """The image behind a link of the upstream. Raises UpstreamError."""
        try:
            return await self._fetcher.fetch(
                image.url,
                param="data",
                kinds=("image",),
                limit=_LARGEST,
                owner=owner,
                request=request,
            )
        except Problem as problem:
            reason = problem.reason or problem.kind
            raise UpstreamError(f"an image cannot be fetched: {reason}") from None

    async def _saved(
        self, pieces: AsyncIterator[bytes], owner: str, limit: int | None, name: str
    ) -> FileRecord | None:
        """The stored file; None where the storage of its owner is full."""
        try:
            first = await anext(pieces, b"")
            return await self._files.save(
                owner,
                name + EXTENSIONS.get(kind_of(first), ""),
                _joined(first, pieces),
                purpose=_PURPOSE,
                limit=limit,
                expires_at=self._clock() + SECONDS,
            )
        except NoBase64 as error:
            raise UpstreamError(f"an image is not base64: {error}") from None
        except Problem as problem:
            if problem.kind != "storage_limit_exceeded":
                raise
            return None


def _drop(image: Image, strings: LongStrings) -> None:
    if image.base64 is not None:
        strings.drop(bytes(image.base64))
        image.base64 = None


async def _decoded(image: Image, strings: LongStrings) -> AsyncIterator[bytes]:
    assert image.base64 is not None
    for piece in decode_pieces(strings.read(bytes(image.base64))):
        yield piece


async def _encoded(fetched: Spool) -> AsyncIterator[bytes]:
    """A JSON string with the bytes in base64."""
    yield b'"'
    async for piece in fetched.pieces(size=_TRIPLES):
        yield b2a_base64(piece, newline=False)
    yield b'"'


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
