"""Images of an answer as the caller wants them: in base64, or as links of this gateway.

A link of the provider is not passed on, unless the operator chose that (`images.urls`): it names
the provider, and some clients fetch it with the key that they have for this gateway. So the bytes
are stored as a file of the caller that lives for an hour, and the caller gets a signed link.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from time import time
from typing import Literal

from msgspec import Raw

from edge.dialects.openai_images import Image, ImageAnswer
from edge.dialects.passthrough import UpstreamError, encode
from edge.media.base64_text import NoBase64, decode_pieces
from edge.media.filenames import EXTENSIONS
from edge.media.kinds import kind_of
from edge.media.library import Files, owner_of
from middlewares.asgi import Scope
from middlewares.exchange import Principal
from middlewares.problem import Problem

from .long_strings import LongStrings

SECONDS = 3600
"""How long a link lives, and its file."""
_PURPOSE = "vision"


class ImageLinks:
    """Makes links for callers of one configuration.

    storage: quota of a caller in bytes. base: URL of this gateway, of a request's scope.
    urls: `images.urls`.
    """

    def __init__(
        self,
        files: Files,
        *,
        storage: Callable[[Principal | None], int | None],
        base: Callable[[Scope], str],
        urls: Literal["gateway", "provider"] = "gateway",
        clock: Callable[[], float] = time,
    ) -> None:
        self._files = files
        self._storage = storage
        self._base = base
        self.vendor_links = urls == "provider"
        self._clock = clock

    async def finish(
        self,
        answer: ImageAnswer,
        strings: LongStrings,
        scope: Scope,
        principal: Principal | None,
        *,
        links: bool,
    ) -> None:
        """Make all images of `answer` links, or base64. Raises UpstreamError.

        Where the caller's storage is full, its images stay base64: they are made and paid for.
        """
        for n, image in enumerate(answer.images, 1):
            if links and image.link is not None and self.vendor_links:
                _drop(image, strings)
            elif image.base64 is None:
                raise UpstreamError("base64 was asked for and links came")
            else:
                image.link = None
                owner = owner_of(principal)
                if links and owner is not None:
                    await self._store(image, strings, scope, principal, owner, f"image-{n}")

    async def _store(
        self,
        image: Image,
        strings: LongStrings,
        scope: Scope,
        principal: Principal | None,
        owner: str,
        name: str,
    ) -> None:
        assert image.base64 is not None
        pieces = decode_pieces(strings.read(bytes(image.base64)))
        try:
            first = next(pieces, b"")
            name += EXTENSIONS.get(kind_of(first), "")
            record = await self._files.save(
                owner,
                name,
                _source(first, pieces),
                purpose=_PURPOSE,
                limit=self._storage(principal),
                expires_at=self._clock() + SECONDS,
            )
            url = await self._files.link(record, self._base(scope), seconds=SECONDS)
        except NoBase64 as error:
            raise UpstreamError(f"an image is not base64: {error}") from None
        except Problem as problem:
            if problem.kind != "storage_limit_exceeded":
                raise
            return
        _drop(image, strings)
        image.link = Raw(encode(url))


def _drop(image: Image, strings: LongStrings) -> None:
    if image.base64 is not None:
        strings.drop(bytes(image.base64))
        image.base64 = None


async def _source(first: bytes, rest: Iterable[bytes]) -> AsyncIterator[bytes]:
    yield first
    for piece in rest:
        yield piece
