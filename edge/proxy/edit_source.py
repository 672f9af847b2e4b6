"""Make the form of a JSON request for an image edit, whose images are data URLs, links or file ids.

    {"images": [{"image_url": "data:…"}, {"image_url": "https://…"}, {"file_id": "file-…"}],
     "mask": {"image_url": "…"}, "prompt": …}

A single `image`, and plain strings in place of objects, are taken too. Each image is written to a
spool, so that every attempt can send it, as a form or as JSON.
"""

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
from msgspec import Raw

from edge.media.fetch.fetcher import Fetcher
from edge.media.filenames import EXTENSIONS
from edge.media.forms import Form, FormFile, Spool
from edge.media.library import Files, owner_of, unknown
from edge.media.part import Inline
from edge.requests.body_limits import SMALL
from edge.runtime.worker_thread import run_in_thread
from middlewares.exchange import Exchange
from middlewares.problem import Problem, expected
from middlewares.uploads import Upload

Fields = dict[str, Raw]

MOST_GIVEN = 16
"""Images of one edit, as at OpenAI."""
_MEMBERS = (("images", "image"), ("image", "image"), ("mask", "mask"), ("markup", "markup"))
"""Members of JSON with images, and their names in a form."""
_LINKS = ("image_url", "url")
_LONGEST_HEAD = 200
"""Characters of a data URL before its data."""
_WHAT = 'a data URL, an https URL, or {"image_url": …} or {"file_id": …}'

_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class EditSource:
    """Reads images from JSON bodies. files: of callers. fetcher: of links."""

    def __init__(self, files: Files, fetcher: Fetcher) -> None:
        self._files = files
        self._fetcher = fetcher

    async def __call__(
        self, exchange: Exchange, fields: Fields, *, limit: int, upload: Upload
    ) -> Form | None:
        """See `edge.proxy.form_intake.FileSource`."""
        large = sum(map(len, fields.values())) >= SMALL
        listing = partial(_references, fields)
        found = await run_in_thread(listing) if large else listing()
        del listing
        if not found:
            return None
        many = sum(name == "image" for name, _, _ in found)
        if many > MOST_GIVEN:
            raise expected("images", f"at most {MOST_GIVEN} images")
        form = Form()
        try:
            for number, (name, path, raw) in enumerate(found, 1):
                spool, path = await self._spool(exchange, path, raw, limit, upload)
                listed = f"{name}[]" if name == "image" and many > 1 else name
                filename = f"image-{number}{EXTENSIONS.get(spool.kind, '')}"
                form.parts.append(FormFile(listed, filename, spool.kind, spool))
                if not spool.kind.startswith("image/"):
                    raise Problem("invalid_media", param=path, reason=f"its type is {spool.kind}")
        except BaseException:
            form.close()
            raise
        return form

    async def _spool(
        self, exchange: Exchange, path: str, raw: Raw, limit: int, upload: Upload
    ) -> tuple[Spool, str]:
        """The bytes of one image, and the path of the member that has them. Raises Problem."""
        if bytes(memoryview(raw)[:1]) == b"{":
            members = _members(raw, path)
            if "file_id" in members:
                path = f"{path}.file_id"
                file_id = _text(members["file_id"], path)
                return await self._of_file(exchange, file_id, path, limit, upload), path
            link = next((name for name in _LINKS if name in members), None)
            if link is None:
                raise expected(path, _WHAT)
            path, raw = f"{path}.{link}", members[link]
            if bytes(memoryview(raw)[:1]) == b"{":  # as in a chat
                path, raw = f"{path}.url", _members(raw, path).get("url", Raw(b"null"))
        inline = _inline(raw, path)
        if inline is not None:
            if inline.size > limit:
                raise _too_large(path, limit)
            return await _written(inline.pieces, path, upload), path
        fetched = await self._fetcher.fetch(
            _text(raw, path),
            param=path,
            kinds=("image",),
            limit=limit,
            owner=owner_of(exchange.principal) or "",
            request=exchange.request_id,
        )
        return fetched, path

    async def _of_file(
        self, exchange: Exchange, file_id: str, path: str, limit: int, upload: Upload
    ) -> Spool:
        owner = owner_of(exchange.principal)
        record = None if owner is None else await self._files.find(owner, file_id)
        if record is None:
            raise Problem("not_found", message=unknown(file_id), param=path)
        if record.size > limit:
            raise _too_large(path, limit)
        spool = Spool(upload=upload)
        try:
            async for piece in self._files.read(record):
                await spool.write(piece)
            await spool.finish()
        except BaseException:
            spool.close()
            raise
        return spool


def _references(fields: Fields) -> list[tuple[str, str, Raw]]:
    """Name in the form, path and value of each image. Their members are removed."""
    found: list[tuple[str, str, Raw]] = []
    for name, plain in _MEMBERS:
        raw = fields.pop(name, None)
        if raw is None or bytes(memoryview(raw)[:5]) in (b"null", b'""', b"[]"):
            continue
        if bytes(memoryview(raw)[:1]) != b"[":
            found.append((plain, name, raw))
            continue
        try:
            items = _decode_list(raw)
        except _UNREADABLE:
            raise expected(name, "an array of images") from None
        if plain != "image" and len(items) > 1:
            raise expected(name, "one image")
        found += [(plain, f"{name}[{number}]", item) for number, item in enumerate(items)]
    return found


def _inline(raw: Raw, path: str) -> Inline | None:
    """The data of a string; None for a link."""
    start = bytes(memoryview(raw)[: _LONGEST_HEAD + 1])
    if start[:1] != b'"':
        raise expected(path, _WHAT)
    head = start[1:6].lower()
    if head == b"data:":
        mark, found, _ = start.partition(b",")
        if not found:
            raise expected(path, "a data URL with data")
        if not mark.lower().endswith(b";base64"):
            raise expected(path, "a data URL in base64")
        return Inline(raw, len(mark) + 1)
    text = start.replace(b"\\/", b"/")
    return None if b"://" in text[:16] or len(raw) < 40 else Inline(raw, 1)


async def _written(pieces: Callable[[], Iterator[bytes]], path: str, upload: Upload) -> Spool:
    spool = Spool(upload=upload)
    try:
        for piece in pieces():
            await spool.write(piece)
        await spool.finish()
    except ValueError:
        spool.close()
        raise Problem(
            "invalid_media",
            message=f"`{path}` cannot be read: expected base64.",
            param=path,
            reason="no base64",
        ) from None
    except BaseException:
        spool.close()
        raise
    if not spool.size:
        spool.close()
        raise expected(path, "an image that is not empty")
    return spool


def _members(raw: Raw, path: str) -> Fields:
    try:
        return _decode_object(raw)
    except _UNREADABLE:
        raise expected(path, _WHAT) from None


def _text(raw: Raw, path: str) -> str:
    try:
        return _decode_text(raw)
    except _UNREADABLE:
        raise expected(path, "a string") from None


def _too_large(path: str, limit: int) -> Problem:
    return Problem(
        "request_too_large",
        message=f"The image `{path}` is larger than {limit:d} bytes.",
        param=path,
    )
