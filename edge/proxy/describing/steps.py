"""The media steps of one attempt: links and files are resolved, and media that the target does not
take become text."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from typing import TypeVar

import msgspec

from edge.dialects.codec import TargetModel
from edge.dialects.passthrough import Fields
from edge.media.kinds import HEAD
from edge.media.left_links import refuse_left_links
from edge.media.part import FileReference, Frames, Inline, MediaKind, MediaPart
from edge.media.parts import find_media, replace_media
from edge.proxy.subrequests import SubrequestFailed
from edge.runtime.worker_thread import run_in_thread
from edge.upstreams.provider import Provider
from middlewares.exchange import Exchange
from middlewares.metrics.metrics import Metrics
from middlewares.problem import Problem
from middlewares.shared import Shared

from .cache import DescriptionCache
from .describers import Describers
from .gemini_parts import standard_part
from .plain_text import TEXT_TYPES
from .policy import OnError, Outcome, may_be_noted, takes
from .prompts import VERSION
from .sources import Identified, MediaSources
from .texts import LARGEST, MediaFile, TextMaker, not_supported, sniff, true_kind
from .together import together
from .wording import NOTE, media_text, unread

PER_REQUEST = 8
"""Texts of one request that are made at once."""
PER_WORKER = 32
MEMORY = 128 << 20
"""Bytes of media that a worker holds at once while it makes texts of them."""
_UNKNOWN_SIZE = 20 << 20
"""Bytes that a file counts whose size is not known."""

T = TypeVar("T")


class DescribingSlots(Shared):
    """Bounds what one worker does at once: texts that are made, and bytes of media in memory.

    most: texts. size: bytes; one file of any size may always be there.
    """

    def __init__(self, most: int = PER_WORKER, size: int = MEMORY) -> None:
        self.semaphore = asyncio.Semaphore(most)
        self._size = size
        self._held = 0
        self._released = asyncio.Event()

    @asynccontextmanager
    async def memory(self, size: int) -> AsyncIterator[None]:
        """Room for `size` bytes, for as long as the block runs."""
        while self._held and self._held + size > self._size:
            await self._released.wait()
        self._held += size
        try:
            yield
        finally:
            # Without a wait, which a cancellation could end before the others are woken.
            self._held -= size
            self._released.set()
            self._released = asyncio.Event()


class _Unmade(Exception):
    """A text cannot be made now. problem: for the caller, if a note may not stand for it."""

    def __init__(self, problem: Problem, outcome: Outcome) -> None:
        super().__init__(problem.kind)
        self.problem = problem
        self.outcome = outcome


class DescribingSteps:
    """The media steps of all requests. See `edge.proxy.forwarder.MediaSteps`.

    sources: reads links and files; None if only media in the body can be read.
    on_error: what follows when a text of recent media cannot be made. max_new: texts that one
    request makes; older media beyond become a note. timeout: seconds for all of them.
    """

    def __init__(
        self,
        describers: Describers,
        maker: TextMaker,
        cache: DescriptionCache,
        slots: DescribingSlots,
        metrics: Metrics,
        *,
        sources: MediaSources | None = None,
        on_error: OnError = "refuse",
        max_new: int = 20,
        timeout: float = 60.0,
    ) -> None:
        self._describers = describers
        self._maker = maker
        self._cache = cache
        self._slots = slots
        self._metrics = metrics
        self._sources = sources
        self._on_error: OnError = on_error
        self._max_new = max_new
        self._timeout = timeout

    async def prepare(self, exchange: Exchange, model: TargetModel, provider: Provider) -> Fields:
        """See `MediaSteps`."""
        fields = await self._prepared(exchange, model, provider)
        if not provider.fetches_urls:
            await _in_thread(exchange, partial(refuse_left_links, fields))
        return fields

    async def _prepared(self, exchange: Exchange, model: TargetModel, provider: Provider) -> Fields:
        """The body of an attempt, its media resolved or described."""
        fields = exchange.fields
        compacting = exchange.row.codec == "compaction"
        found = await _in_thread(exchange, partial(find_media, fields, compacting=compacting))
        if not found:
            return fields
        identified = [await self._identified(part, exchange) for part in found]
        replacements: dict[MediaPart, msgspec.Raw] = {}
        native = [one for one in identified if takes(model, one.part.kind, self._describers)]
        described = [one for one in identified if one not in native]
        if native:
            parts = [one.part for one in native]
            for part in parts:
                standard = standard_part(part)
                if standard is not None:
                    replacements[part] = standard
            if self._sources is not None:
                replacements |= await self._sources.resolve(parts, exchange, model, provider)
        if described:
            texts = await self._texts(described, exchange)
            numbers = {id(one): n for n, one in enumerate(identified, 1)}
            note = NOTE + "\n\n"
            for one, text in zip(described, texts, strict=True):
                part = one.part
                words = media_text(part.kind, numbers[id(one)], text, part.name)
                replacements[part] = part.as_text(note + words)
                note = ""
        if not replacements:
            return fields
        return await _in_thread(exchange, partial(replace_media, fields, replacements))

    async def _identified(self, part: MediaPart, exchange: Exchange) -> Identified:
        """The part with its kind as far as it is known without reading it all."""
        source = part.source
        if isinstance(source, FileReference):
            if self._sources is None:
                raise _unknown_file(part)
            return await self._sources.identify(part, exchange)
        if isinstance(source, Inline):
            kind = true_kind(_sniffed(source), part.kind)
            if kind != part.kind:
                part = msgspec.structs.replace(part, kind=kind)
        return Identified(part)

    async def _texts(self, wanted: Sequence[Identified], exchange: Exchange) -> list[str]:
        """The text of each part, in order. Raises Problem."""
        keys = await _in_thread(exchange, partial(self._keys, wanted))
        owner = _owner(exchange)
        known = await self._cache.find(owner, [key for key in keys if key])
        hits = sum(key in known for key in keys)
        if hits:
            self._metrics.description_hits.inc(hits)
        missing = [at for at, key in enumerate(keys) if key not in known]
        for at in missing:
            self._check_supported(wanted[at].part)
        made = set(missing[-self._max_new :])
        slots = asyncio.Semaphore(PER_REQUEST)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout

        async def text(at: int) -> str:
            one = wanted[at]
            if keys[at] in known:
                return known[keys[at]]
            counted = self._metrics.descriptions
            if at not in made:
                counted.labels(one.part.kind, "too_many").inc()
                return unread(one.part.kind)
            try:
                async with (
                    asyncio.timeout_at(deadline),
                    slots,
                    self._slots.semaphore,
                    self._slots.memory(_size_of(one.part)),
                ):
                    words = await self._make(one, keys[at], exchange)
            except TimeoutError:
                failed = _Unmade(_unavailable(f"no text within {self._timeout:g} s"), "timeout")
            except _Unmade as raised:
                failed = raised
            else:
                counted.labels(one.part.kind, "made").inc()
                return words
            counted.labels(one.part.kind, failed.outcome).inc()
            if may_be_noted(one.part, failed.outcome, self._on_error):
                return unread(one.part.kind)
            raise failed.problem

        return await together(text(at) for at in range(len(wanted)))

    def _check_supported(self, part: MediaPart) -> None:
        """Raise Problem for recent media that nothing reads, before anything is paid for."""
        if part.recent and part.kind != "document" and part.media_type not in TEXT_TYPES:
            needed = "image" if isinstance(part.source, Frames) else part.kind
            if self._describers.of(needed) is None:
                raise not_supported(part.kind, part.path)

    def _keys(self, wanted: Sequence[Identified]) -> list[str]:
        """The key of each part in the cache; "" for one whose bytes are not known yet."""
        return [self._key(_digest(one), one.part) for one in wanted]

    def _key(self, digest: bytes, part: MediaPart) -> str:
        if not digest:
            return ""
        kind: MediaKind = part.kind
        models = [self._describers.of(each) for each in _ASKED_FOR[kind]]
        names = [model.id if model is not None else "" for model in models]
        detail = "low" if part.detail == "low" and kind == "image" else ""
        basis = "\0".join((kind, *names, str(VERSION), detail, part.media_type))
        return sha256(digest + basis.encode()).hexdigest()

    async def _make(self, one: Identified, key: str, exchange: Exchange) -> str:
        part = one.part
        if part.source is None:
            raise _Unmade(_invalid(part), "invalid")
        try:
            if isinstance(part.source, Frames):
                return await self._frames(part, part.source, exchange)
            if key:

                async def make() -> str:
                    return await self._maker.text(await self._file(part, exchange), exchange)

                return (await self._cache.get(_owner(exchange), key, make))[0]
            file = await self._file(part, exchange)
            digest = await run_in_thread(partial(_hashed, file.content))
            key = self._key(digest, part)
            text, hit = await self._cache.get(
                _owner(exchange), key, lambda: self._maker.text(file, exchange)
            )
            if hit:
                self._metrics.description_hits.inc()
            return text
        except SubrequestFailed as failed:
            raise _Unmade(_describer_failed(failed), _outcome_of(failed)) from None
        except Problem as problem:
            problem.held = False
            raise _Unmade(problem.with_traceback(None), _outcome_of(problem)) from None

    async def _frames(self, part: MediaPart, source: Frames, exchange: Exchange) -> str:
        """The text of a list of frames: each is an image."""
        if self._describers.of("image") is None:
            raise not_supported("video", part.param)
        texts = []
        for n, frame in enumerate(source.frames, 1):
            single = msgspec.structs.replace(part, kind="image", source=frame)
            digest = await run_in_thread(partial(_digest, Identified(single)))
            text = await self._make(Identified(single, digest), self._key(digest, single), exchange)
            texts.append(f"Frame {n}:\n{text}")
        return "\n\n".join(texts)

    async def _file(self, part: MediaPart, exchange: Exchange) -> MediaFile:
        """The file of a part. Raises Problem."""
        source = part.source
        if isinstance(source, Inline):
            try:
                content = await run_in_thread(source.content)
            except ValueError:
                raise _invalid(part) from None
        else:
            if self._sources is None:
                raise _invalid(part)
            content = (await self._sources.load(part, exchange, max(LARGEST.values()))).content
        return MediaFile(content, part.kind, part.media_type, part.param, part.detail)


_ASKED_FOR: dict[MediaKind, tuple[MediaKind, ...]] = {
    "image": ("image",),
    "audio": ("audio",),
    "video": ("video", "audio"),
    "document": ("document", "image"),
}
"""The describers that a text of each kind may come from."""


_OUTCOMES: dict[str, Outcome] = {
    "invalid_media": "invalid",
    "invalid_request": "invalid",
    "not_found": "invalid",
    "budget_exceeded": "budget",
    "insufficient_credits": "budget",
    **{f"{kind}_not_supported_by_model": "unsupported" for kind in _ASKED_FOR},
}


def _outcome_of(failed: Problem | SubrequestFailed) -> Outcome:
    return _OUTCOMES.get(failed.kind, "failed")


def _describer_failed(failed: SubrequestFailed) -> Problem:
    """The problem of a describer, without its name and words; a budget's refusal is the caller's
    own."""
    if failed.kind in ("budget_exceeded", "insufficient_credits"):
        error = dict(failed.error)
        message = error.pop("message", None)
        for name in ("type", "param", "code", "details"):
            error.pop(name, None)
        wait = failed.retry_after or None
        return Problem(failed.kind, message=message, extra=error or None, retry_after=wait)
    return _unavailable(f"describer: {failed.kind}")


def _unavailable(reason: str) -> Problem:
    return Problem("upstream_unavailable", reason=reason, held=False)


def _invalid(part: MediaPart) -> Problem:
    return Problem(
        "invalid_media",
        message=f"The {part.kind} at `{part.param}` could not be read.",
        param=part.param,
    )


def _unknown_file(part: MediaPart) -> Problem:
    return Problem(
        "invalid_request",
        message=f"There is no file with the id at `{part.param}`.",
        param=part.param,
    )


def _size_of(part: MediaPart) -> int:
    """About the bytes of a part in memory."""
    sources = part.source.frames if isinstance(part.source, Frames) else (part.source,)
    return sum(each.size if isinstance(each, Inline) else _UNKNOWN_SIZE for each in sources)


def _sniffed(source: Inline) -> str:
    """The media type by the first bytes of data in the body, "" if unknown."""
    try:
        return sniff(source.head(HEAD))
    except ValueError:
        return ""


def _digest(one: Identified) -> bytes:
    """SHA-256 of the bytes of a part; b"" if they are not here, or cannot be decoded."""
    source = one.part.source
    if one.digest or not isinstance(source, Inline):
        return one.digest
    hashed = sha256()
    try:
        for piece in source.pieces():
            hashed.update(piece)
    except ValueError:
        return b""
    return hashed.digest()


def _hashed(content: bytes) -> bytes:
    return sha256(content).digest()


def _owner(exchange: Exchange) -> str:
    principal = exchange.principal
    return "" if principal is None else principal.id


async def _in_thread(exchange: Exchange, step: Callable[[], T]) -> T:
    """Run a step on the body, in a thread if it is large."""
    return await run_in_thread(step) if exchange.large else step()
