"""/v1/uploads and what lies below: files in parts (OpenAI API reference, "Uploads").

An upload of another owner is answered as one that does not exist, byte for byte.
"""

import re
from collections.abc import AsyncIterator, Callable
from math import inf
from typing import Any

import msgspec
import orjson

from edge.media.filenames import safe_filename
from edge.media.forms import FileStart, FormBounds, FormField, stream_form
from edge.media.library import Files, storage_headers
from edge.media.part_uploads import PART, PartUploads, ended
from edge.requests.json_body import check_json_headers
from edge.routing.paths import plain_path
from edge.untyped_json import decode_any
from middlewares.asgi import Message, Receive, Scope, Send, header, send_json
from middlewares.body import read_body, refuse
from middlewares.exchange import Exchange, Principal, exchange_of
from middlewares.problem import Problem, expected
from middlewares.stores.files.uploads import UploadRecord

from .app import add_storage, caller
from .file_shapes import file_object
from .form import OPENAI_KEEP, options_of

_BODY = 64 << 10
"""Bytes of a JSON body. 1,000 ids of parts take 35 KB."""
_MOST_PARTS = 1000
_PATH = re.compile("(?P<id>[^/]+)/(?P<verb>parts|complete|cancel)").fullmatch


class UploadsApp:
    """The endpoints of uploads. storage, idle: as of `FilesApp`."""

    def __init__(
        self,
        uploads: PartUploads,
        files: Files,
        storage: Callable[[Principal | None], int],
        *,
        idle: float = 30.0,
    ) -> None:
        self._uploads = uploads
        self._files = files
        self._storage = storage
        self._idle = idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        owner = caller(exchange)
        limit = self._storage(exchange.principal)
        try:
            content = await self._content(exchange, owner, limit, scope, receive)
            headers = storage_headers(await self._files.use(owner), limit)
        except Problem as problem:
            await add_storage(problem, self._files, exchange, limit)
            return await refuse(problem, scope, receive, send)

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        exchange.outcome = "completed"
        await send_json(scope, send_counted, orjson.dumps(content))

    async def _content(
        self, exchange: Exchange, owner: str, limit: int, scope: Scope, receive: Receive
    ) -> dict[str, Any]:
        below = plain_path(scope["path"]).partition("/uploads/")[2]
        if not below:
            return await self._create(owner, limit, await self._json(scope, receive))
        match = _PATH(below)
        if match is None:
            raise Problem("not_found")
        upload_id, verb = match["id"], match["verb"]
        if verb == "parts":
            return await self._add_part(owner, upload_id, scope, receive)
        if verb == "cancel":
            return _shown(await self._uploads.cancel(owner, upload_id))
        return await self._complete(owner, upload_id, await self._json(scope, receive))

    async def _create(self, owner: str, limit: int, body: dict[str, Any]) -> dict[str, Any]:
        size, filename, mime = body.get("bytes"), body.get("filename"), body.get("mime_type")
        most = self._uploads.max_size
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise expected("bytes", "a number of bytes, at least 1")
        if size > most:
            message = f"The file is larger than {most:d} bytes."
            raise Problem("request_too_large", message=message, param="bytes")
        if not isinstance(filename, str) or not filename:
            raise expected("filename", "the name of the file")
        if not isinstance(mime, str) or len(mime) > 255 or not mime.isprintable():
            raise expected("mime_type", "the media type of the file")
        after = body.get("expires_after") or {}
        if not isinstance(after, dict):
            raise expected("expires_after", "an object with `anchor` and `seconds`")
        keep = after.get("seconds")
        least, longest = OPENAI_KEEP
        if keep is not None and (
            not isinstance(keep, int) or isinstance(keep, bool) or not least <= keep <= longest
        ):
            raise expected("expires_after.seconds", f"seconds from {least} to {longest}")
        options = options_of(body.get("purpose"), after.get("anchor"), keep)
        record = await self._uploads.create(
            owner,
            filename=safe_filename(filename, ""),
            mime=mime,
            purpose=options.purpose,
            size=size,
            keep=options.keep,
            limit=limit,
        )
        return _shown(record)

    async def _add_part(
        self, owner: str, upload_id: str, scope: Scope, receive: Receive
    ) -> dict[str, Any]:
        upload = await self._uploads.find(owner, upload_id)
        if upload is None or upload.state != "pending":
            raise ended(upload_id)
        events = stream_form(
            scope,
            receive,
            bounds=FormBounds(size=PART + _BODY, file=PART, names={"data": 1}),
            idle=self._idle,
            longest=inf,
        )

        async def pieces() -> AsyncIterator[bytes]:
            async for event in events:
                if isinstance(event, bytes):
                    yield event
                elif isinstance(event, FileStart | FormField) and event.name != "data":
                    raise expected(event.name, "no part of this name; send the bytes as `data`")

        length = header(scope, b"content-length")
        size = int(length) if length is not None and length.isdigit() else None
        part = await self._uploads.add_part(upload, pieces(), size=size)
        return {
            "id": part.id,
            "object": "upload.part",
            "created_at": int(part.created_at),
            "upload_id": part.upload,
        }

    async def _complete(self, owner: str, upload_id: str, body: dict[str, Any]) -> dict[str, Any]:
        part_ids, md5 = body.get("part_ids"), body.get("md5")
        if (
            not isinstance(part_ids, list)
            or not 1 <= len(part_ids) <= _MOST_PARTS
            or not all(isinstance(one, str) for one in part_ids)
        ):
            raise expected("part_ids", f"1 to {_MOST_PARTS} ids of parts, in their order")
        if md5 is not None and not isinstance(md5, str):
            raise expected("md5", "a digest in hex")
        upload, file = await self._uploads.complete(owner, upload_id, part_ids, md5)
        return {**_shown(upload), "file": file_object(file)}

    async def _json(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        raw = await read_body(scope, receive, limit=_BODY, idle=self._idle)
        check_json_headers(scope, raw)
        try:
            body = decode_any(raw or b"{}")
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise Problem("invalid_request", message="The body is not valid JSON.") from None
        if not isinstance(body, dict):
            raise Problem("invalid_request", message="The body must be a JSON object.")
        return body


def _shown(record: UploadRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "upload",
        "bytes": record.size,
        "created_at": int(record.created_at),
        "expires_at": int(record.expires_at),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": record.state,
        "file": None,
    }
