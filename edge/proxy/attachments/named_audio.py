"""The audio of a transcription that names it: a file of the caller, or a link."""

from edge.media.filenames import safe_filename
from edge.media.forms import FormFile
from edge.media.library import owner_of
from edge.media.resolve import Resolver, is_link
from middlewares.exchange import Exchange
from middlewares.problem import expected
from middlewares.uploads import Upload


class NamedAudio:
    """See `edge.proxy.audio_source.NamedFiles`."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def open(
        self, exchange: Exchange, name: str, reference: str, *, limit: int, upload: Upload
    ) -> FormFile:
        """See `NamedFiles`. Little of a file is held in memory, so `upload` does not count it."""
        if name == "url" and not is_link(reference):
            raise expected("url", "an https URL")
        found = await self._resolver.resolve_media(
            owner_of(exchange.principal),
            reference,
            param=name,
            kinds=("audio",),
            limit=limit,
            request=exchange.request_id,
        )
        return FormFile("file", safe_filename(found.name, found.kind), found.kind, found)
