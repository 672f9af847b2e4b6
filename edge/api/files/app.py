"""/v1/files and what lies below: upload, list, read and delete files of the caller.

Every answer says how much of the caller's storage is used. A file of another owner is answered as
one that does not exist, byte for byte.
"""

from collections.abc import Callable
from math import inf
from typing import Any

import msgspec
import orjson

from edge.media.content import send_file
from edge.media.forms import FormBounds, stream_form
from edge.media.library import Files, owner_of, storage_headers, unknown
from edge.routing.paths import plain_path
from middlewares.asgi import Message, Receive, Scope, Send, header, send_json
from middlewares.body import refuse
from middlewares.exchange import Exchange, Principal, exchange_of
from middlewares.problem import Problem
from middlewares.stores.files.base import FileRecord

from .file_shapes import deletion, shown
from .form import FileForm
from .listing import listed

_FORM = 64 << 10
"""Bytes of a form beside its file: fields, boundaries and headers."""
_CONTENT = "/content"


class FilesApp:
    """The endpoints of files.

    storage: bytes that a principal may have (`Plans.storage`). idle: seconds of silence in an
    upload. An upload may take as long as it keeps the least rate of bodies.
    """

    def __init__(
        self, files: Files, storage: Callable[[Principal | None], int], *, idle: float = 30.0
    ) -> None:
        self._files = files
        self._storage = storage
        self._idle = idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        owner = caller(exchange)
        below = plain_path(scope["path"]).partition("/files/")[2]
        try:
            if scope["method"] == "POST":
                if below:
                    raise Problem("method_not_allowed", headers=((b"allow", b"GET, HEAD, DELETE"),))
                return await self._upload(exchange, owner, scope, receive, send)
            if not below:
                return await self._list(exchange, owner, scope, send)
            await self._one(exchange, owner, below, scope, receive, send)
        except Problem as problem:
            await add_storage(problem, self._files, exchange, self._storage(exchange.principal))
            raise

    async def _one(
        self,
        exchange: Exchange,
        owner: str,
        below: str,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        file_id = below.removesuffix(_CONTENT)
        of_content = file_id != below
        if scope["method"] == "DELETE":
            if of_content:
                raise Problem("method_not_allowed", headers=((b"allow", b"GET, HEAD"),))
            if not await self._files.delete(owner, file_id):
                raise await self._missing(exchange, owner, file_id)
            return await self._answer(
                exchange, owner, deletion(file_id, exchange.dialect), scope, send
            )
        record = await self._files.find(owner, file_id)
        if record is None:
            raise await self._missing(exchange, owner, file_id)
        if of_content:
            headers = await self._headers(exchange, owner)
            return await send_file(record, self._files.read, scope, receive, send, more=headers)
        await self._answer(exchange, owner, shown(record, exchange.dialect), scope, send)

    async def _missing(self, exchange: Exchange, owner: str, file_id: str) -> Problem:
        """The answer for a file that is not there. Anthropic's clients read if it expired."""
        expired = None
        if exchange.dialect == "anthropic":
            expired = await self._files.find_expired(owner, file_id)
        return Problem(
            "not_found",
            message=unknown(file_id),
            extra=None if expired is None else {"details": {"error_code": "file_expired"}},
        )

    async def _list(self, exchange: Exchange, owner: str, scope: Scope, send: Send) -> None:
        if scope["method"] == "DELETE":
            raise Problem("method_not_allowed", headers=((b"allow", b"GET, HEAD, POST"),))
        content = await listed(self._files, owner, exchange.dialect, scope["query_string"])
        await self._answer(exchange, owner, content, scope, send)

    async def _upload(
        self, exchange: Exchange, owner: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            record = await self._save(exchange, owner, scope, receive)
        except Problem as problem:
            await add_storage(problem, self._files, exchange, self._storage(exchange.principal))
            return await refuse(problem, scope, receive, send)
        await self._answer(exchange, owner, shown(record, exchange.dialect), scope, send)

    async def _save(
        self, exchange: Exchange, owner: str, scope: Scope, receive: Receive
    ) -> FileRecord:
        files, dialect = self._files, exchange.dialect
        events = stream_form(
            scope,
            receive,
            bounds=FormBounds(size=files.max_size + _FORM, file=files.max_size, names={"file": 1}),
            idle=self._idle,
            longest=inf,
        )
        form = FileForm(events)
        start = await form.start()
        form.check(dialect)

        def described(record: FileRecord) -> FileRecord:
            options = form.options(dialect)
            return msgspec.structs.replace(
                record,
                purpose=options.purpose,
                expires_at=None if options.keep is None else record.created_at + options.keep,
            )

        return await files.save(
            owner,
            start.filename,
            form.bytes(),
            purpose="",
            limit=self._storage(exchange.principal),
            declared=start.content_type,
            size=_announced(scope, files.max_size),
            described=described,
        )

    async def _answer(
        self, exchange: Exchange, owner: str, content: dict[str, Any], scope: Scope, send: Send
    ) -> None:
        headers = await self._headers(exchange, owner)

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        exchange.outcome = "completed"
        await send_json(scope, send_counted, orjson.dumps(content))

    async def _headers(self, exchange: Exchange, owner: str) -> tuple[tuple[bytes, bytes], ...]:
        use = await self._files.use(owner)
        return storage_headers(use, self._storage(exchange.principal))


def caller(exchange: Exchange) -> str:
    """The owner of the caller's files. Raises Problem for one without an identity."""
    owner = owner_of(exchange.principal)
    if owner is None:
        message = "Files need a caller with a key or an address."
        raise Problem("endpoint_not_allowed", message=message)
    return owner


async def add_storage(problem: Problem, files: Files, exchange: Exchange, limit: int) -> None:
    """Add the storage headers to a refusal, unless it has them or the store does not answer."""
    if problem.kind == "store_unavailable":
        return
    if problem.kind == "storage_limit_exceeded" and exchange.dialect == "anthropic":
        problem.extra = {"details": {"error_code": "storage_quota_exceeded"}}
    if any(name == b"x-storage-used-bytes" for name, _ in problem.headers):
        return
    try:
        use = await files.use(caller(exchange))
    except Problem:
        return
    problem.headers = (*problem.headers, *storage_headers(use, limit))


def _announced(scope: Scope, most: int) -> int | None:
    """Bytes that the file has at most, from the length of the form; None if that is unknown."""
    length = header(scope, b"content-length")
    return None if length is None or not length.isdigit() else min(int(length), most)
