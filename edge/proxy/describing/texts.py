"""Makes the text of one media file: image, audio, video or document."""

from functools import partial

from edge.media.decode.sandbox import Sandbox
from edge.media.decode.tasks import (
    LONGEST_SIDE,
    LONGEST_SIDE_LOW,
    NormaliseImage,
    Picture,
    ProbeVideo,
    ReadDocument,
    RenderPages,
    SampleFrames,
    Sound,
)
from edge.media.kinds import HEAD, OTHER, kind_of
from edge.media.part import MediaKind, kind_of_type
from edge.routing.catalog import Model
from edge.runtime.worker_thread import run_in_thread
from middlewares.exchange import Exchange
from middlewares.problem import Problem

from . import describers as ask
from .describers import Describers
from .plain_text import LONGEST, decoded_text, is_text
from .prompts import FRAMES, IMAGE, PAGES, VIDEO
from .recordings import clock, transcript
from .together import together
from .wording import CUT

LARGEST = {"image": 20 << 20, "audio": 100 << 20, "video": 100 << 20, "document": 32 << 20}
"""Bytes of a file by kind."""
_SENT_AS_THEY_ARE = ("image/png", "image/jpeg", "image/webp", "image/gif")
"""Types of images that describers take, where nothing here can make them smaller."""
_LONGEST_VIDEO = 600.0
"""Seconds."""
_LEAST_ON_A_PAGE = 20
"""Characters of a page's text; a page with fewer is read as an image."""
_MOST_SCANNED = 20
"""Pages of a document that are read as images."""
_AMBIGUOUS = ("video/mp4", "video/webm", "video/quicktime", "video/x-matroska", "audio/ogg")
"""Types of files that may hold sound alone, or pictures too."""


class MediaFile:
    """A file to turn into text.

    kind: by its bytes where they say, else as stated. low: an image whose details do not count.
    """

    __slots__ = ("content", "kind", "low", "media_type", "param")

    def __init__(
        self, content: bytes, stated: MediaKind, media_type: str, param: str, detail: str = ""
    ) -> None:
        sniffed = sniff(content[:HEAD])
        if sniffed == "text/plain" and is_text(media_type):
            sniffed = media_type
        self.content = content
        self.media_type = sniffed or media_type
        self.kind = true_kind(sniffed, stated)
        self.param = param
        self.low = detail == "low"

    @property
    def is_text(self) -> bool:
        """Whether it is text already."""
        return is_text(self.media_type)


def sniff(head: bytes) -> str:
    """The media type by the first bytes of a file, "" if unknown."""
    found = kind_of(head)
    return "" if found == OTHER else found


def true_kind(sniffed: str, stated: MediaKind) -> MediaKind:
    """The kind of a file of type `sniffed`, "" if unknown, which its caller calls `stated`."""
    if sniffed in _AMBIGUOUS and stated in ("audio", "video"):
        return stated
    return kind_of_type(sniffed) or stated


class TextMaker:
    """Makes texts of media files."""

    def __init__(self, describers: Describers, sandbox: Sandbox) -> None:
        self._describers = describers
        self._sandbox = sandbox

    async def text(self, file: MediaFile, exchange: Exchange) -> str:
        """The text of `file`.

        Raises Problem for media that cannot be read or that no describer takes, SubrequestFailed
        for a describer that fails.
        """
        if len(file.content) > LARGEST[file.kind]:
            raise _too_large(file)
        if file.is_text:
            text = decoded_text(file.content[: LONGEST + 4])
            return text if len(file.content) <= LONGEST else text[:LONGEST] + CUT
        maker = _Maker(self._describers, self._sandbox, file, exchange)
        match file.kind:
            case "image":
                return await maker.image()
            case "audio":
                return await maker.audio()
            case "video":
                return await maker.video()
        return await maker.document()


class _Maker:
    """Makes the text of one file for one request."""

    def __init__(
        self, describers: Describers, sandbox: Sandbox, file: MediaFile, exchange: Exchange
    ) -> None:
        principal = exchange.principal
        self._describers = describers
        self._sandbox = sandbox
        self._file = file
        self._exchange = exchange
        self._owner = "" if principal is None else principal.id

    def _model(self, kind: MediaKind) -> Model:
        model = self._describers.of(kind)
        if model is None:
            raise not_supported(kind, self._file.param)
        return model

    async def _ask(self, model: Model, prompt: str, parts: list[ask.Part]) -> str:
        return await self._describers.ask(self._exchange, model, prompt, parts)

    async def image(self) -> str:
        model = self._model("image")
        picture, animated = await self._normalised()
        text = await self._ask(model, IMAGE, [ask.image(picture.data, picture.type)])
        return f"(animated; this is its first frame)\n{text}" if animated else text

    async def _normalised(self) -> tuple[Picture, bool]:
        file = self._file
        task = NormaliseImage(longest=LONGEST_SIDE_LOW if file.low else LONGEST_SIDE)
        try:
            found = await self._sandbox.run(task, file.content, param=file.param, owner=self._owner)
        except Problem as problem:
            # No decoder is installed here.
            if problem.kind != "image_not_supported_by_model":
                raise
            if file.media_type not in _SENT_AS_THEY_ARE:
                raise
            return Picture(file.content, file.media_type, 0, 0), False
        return found.picture, found.original.animated

    async def audio(self) -> str:
        model = self._model("audio")

        async def transcribe(sound: Sound) -> str:
            return await self._describers.transcribe(self._exchange, model, sound)

        return await transcript(
            self._sandbox,
            self._file.content,
            transcribe,
            param=self._file.param,
            owner=self._owner,
        )

    async def video(self) -> str:
        model, file = self._model("video"), self._file
        if "video" in model.modalities:
            film = await run_in_thread(partial(ask.video, file.content, file.media_type))
            return await self._ask(model, VIDEO, [film])
        probed = await self._sandbox.run(
            ProbeVideo(), file.content, param=file.param, owner=self._owner
        )
        if probed.seconds > _LONGEST_VIDEO:
            raise Problem(
                "invalid_media",
                message=f"The video at `{file.param}` is longer than "
                f"{_LONGEST_VIDEO / 60:g} minutes.",
                param=file.param,
            )
        works = [self._frames(model)]
        if probed.sound:
            works.append(self._sound())
        frames, *sounds = await together(works)
        sound = "".join(sounds)
        return f"{frames}\n\nSound:\n{sound}" if sound else frames

    async def _frames(self, model: Model) -> str:
        file = self._file
        found = await self._sandbox.run(
            SampleFrames(), file.content, param=file.param, owner=self._owner
        )
        parts: list[ask.Part] = []
        for frame in found.frames:
            parts.append(ask.text(f"At {clock(frame.at)}:"))
            parts.append(ask.image(frame.picture.data, frame.picture.type))
        return await self._ask(model, FRAMES, parts)

    async def _sound(self) -> str:
        """The transcript of a video's sound; "" if it has none, or nothing transcribes it."""
        model, file = self._describers.of("audio"), self._file
        if model is None:
            return ""

        async def transcribe(sound: Sound) -> str:
            return await self._describers.transcribe(self._exchange, model, sound)

        try:
            return await transcript(
                self._sandbox,
                file.content,
                transcribe,
                param=file.param,
                owner=self._owner,
                film=True,
            )
        except Problem as problem:
            if problem.kind != "invalid_media":
                raise
            return ""  # no sound track that can be read

    async def document(self) -> str:
        file = self._file
        if file.media_type != "application/pdf":
            raise not_supported("document", file.param)
        read = await self._sandbox.run(
            ReadDocument(characters=LONGEST), file.content, param=file.param, owner=self._owner
        )
        pages = list(read.pages)
        scanned = [n for n, page in enumerate(pages) if len(page.strip()) < _LEAST_ON_A_PAGE]
        model = self._describers.of("document") or self._describers.of("image")
        if model is not None and scanned:
            seen = scanned[:_MOST_SCANNED]
            for n, text in zip(seen, await self._scanned(model, seen), strict=True):
                pages[n] = f"{pages[n]}\n{text}".strip()
        blank = "(no text)" if model is not None else "(no text; pages are not read as images here)"
        lines = [f"[page {n}]\n{page.strip() or blank}" for n, page in enumerate(pages, 1)]
        if read.total > len(pages):
            lines.append(f"[pages {len(pages) + 1} to {read.total} are left out]")
        return "\n\n".join(lines) + (CUT if read.cut else "")

    async def _scanned(self, model: Model, numbers: list[int]) -> list[str]:
        file = self._file
        rendered = await self._sandbox.run(
            RenderPages(numbers=tuple(numbers)), file.content, param=file.param, owner=self._owner
        )
        return await together(
            self._ask(model, PAGES, [ask.text(f"Page {n + 1}:"), ask.image(page.data, page.type)])
            for n, page in zip(numbers, rendered.pages, strict=True)
        )


def not_supported(kind: MediaKind, param: str) -> Problem:
    """The refusal of media that neither the model nor a describer takes."""
    return Problem(f"{kind}_not_supported_by_model", param=param)


def _too_large(file: MediaFile) -> Problem:
    most = LARGEST[file.kind] >> 20
    return Problem(
        "invalid_media",
        message=f"The {file.kind} at `{file.param}` is larger than {most} MiB.",
        param=file.param,
        issue=f"expected at most {most} MiB",
    )
