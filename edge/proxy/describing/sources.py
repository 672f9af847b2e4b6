"""Where the bytes of media come from that are not in the body: files of the caller, and links."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from edge.dialects.codec import TargetModel
from edge.media.part import MediaPart
from edge.upstreams.provider import Provider
from middlewares.exchange import Exchange


class Identified(msgspec.Struct, frozen=True, eq=False):
    """A part whose kind, type and name are known.

    digest: SHA-256 of its bytes, b"" while it is not known.
    """

    part: MediaPart
    digest: bytes = b""


class Loaded(msgspec.Struct, frozen=True, eq=False):
    """The bytes of a part. name: of the file, "" if unknown."""

    content: bytes
    name: str = ""


class MediaSources(Protocol):
    """Reads links and files of callers, and writes them as a target takes them.

    Each method raises Problem with the part's `param`; a file of another owner is answered as one
    that does not exist.
    """

    async def identify(self, part: MediaPart, exchange: Exchange) -> Identified:
        """The part with what is known of its file without reading it. A link stays as it is."""
        ...

    async def load(self, part: MediaPart, exchange: Exchange, limit: int) -> Loaded:
        """The bytes of a part with a link or a file, at most `limit`."""
        ...

    async def resolve(
        self, parts: Sequence[MediaPart], exchange: Exchange, model: TargetModel, provider: Provider
    ) -> Mapping[MediaPart, msgspec.Raw]:
        """Replacements of parts that `model` takes: inline, or as a file of the vendor. A part
        that is left out stays as it came."""
        ...
