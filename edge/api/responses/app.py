"""/v1/responses and what lies below: the state of the Responses API, for any upstream.

POST /v1/responses                  expands what the request refers to, forwards it, and stores the
                                    answer before the client has its end
POST /v1/responses/...              the same for its other endpoints; their answers are not stored
GET, DELETE /v1/responses/{id}      returns or deletes a stored answer
GET /v1/responses/{id}/input_items  lists the input that it was made from
"""

import json
from collections.abc import Callable
from functools import partial
from time import time

import msgspec

from edge.dialects.openai_responses import compaction
from edge.dialects.sealing import Sealing
from edge.endpoints import Codec, Endpoint
from edge.media.parts import has_media
from edge.requests.body_limits import check_all, is_large
from edge.requests.known_turns import TurnMarks
from edge.requests.vendor_objects import refused
from edge.runtime.worker_thread import run_in_thread
from middlewares.asgi import ASGIApp, Receive, Scope, Send, send_json
from middlewares.exchange import Exchange, exchange_of
from middlewares.problem import Problem, expected
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.responses.base import ResponseStore

from .expand import MAX_TURNS, Expanded, Fields, expand, unavailable, value_of
from .items import is_id, shown_id
from .page import Query, page, query_of
from .record import ResponseRecord, restored_answer

_FALSE = msgspec.Raw(b"false")
_READ = ("GET", "HEAD")
_ITEMS = "/input_items"
_LARGE = 32 << 10
"""Bytes from which on an expanded input is read in a thread."""


class ResponsesApp:
    """The endpoints of the Responses API, around the forwarder.

    forward: answers POST. store: None stores and finds nothing.
    sealing: encrypts and decrypts the compactions that this gateway makes.
    keep: seconds for which an answer is kept; 0 keeps none.
    limit: bytes that a request may have together with the conversation it continues.
    estimate_body: from an entry of the catalog, a body and a principal's id, what `Exchange.size`,
        `estimate` and `media` should be; asked again where a request means more than its body says.
        None leaves them.
    patience: seconds the end of an answer may wait for the store.
    on_lost: called for each answer that could not be stored.
    clock: Unix seconds.
    """

    def __init__(
        self,
        forward: ASGIApp,
        *,
        store: ResponseStore | None,
        sealing: Sealing,
        keep: float = 30 * 86400.0,
        limit: int = 32 << 20,
        estimate_body: Callable[[str, bytes, str], tuple[int, int, bool]] | None = None,
        patience: float = 5.0,
        on_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._forward = forward
        self._store = store
        self._sealing = sealing
        self._keep = keep
        self._limit = limit
        self._estimate_body = estimate_body
        self._patience = patience
        self._on_lost = on_lost
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        if scope["method"] == "POST":
            await self._prepare(exchange)
            return await self._forward(scope, receive, send)
        path: str = scope["path"].rstrip("/")
        of_items = path.endswith(_ITEMS)
        response_id = path.removesuffix(_ITEMS).rpartition("/")[2]
        if scope["method"] in _READ:
            read = self._input_items if of_items else self._get
            body = await read(exchange, response_id, query_of(scope["query_string"]))
        elif of_items:
            raise Problem("method_not_allowed", headers=((b"allow", b"GET, HEAD"),))
        else:
            body = await self._delete(exchange, response_id)
        exchange.outcome = "completed"
        await send_json(scope, send, body)

    async def _prepare(self, exchange: Exchange) -> None:
        """Expand a request that refers to stored answers into one that stands alone."""
        row: Endpoint = exchange.row
        fields = exchange.fields
        _check(fields)
        owner = _owner(exchange)
        large = exchange.large
        marks = exchange.turn_marks
        fields = await self._open_compactions(
            fields, owner or "", row.codec, large=large, marks=marks
        )
        asked = _flag(fields, "store") is not False
        expanded = await expand(
            fields,
            owner,
            self._store,
            now=self._clock(),
            limit=self._limit,
            large=large,
            stored=asked,
            marks=marks,
            extend=None if exchange.upload is None else exchange.upload.extend,
        )
        opened = expanded.fields
        if opened.get("input") is not fields.get("input"):
            # The continued conversation may begin with a compaction too.
            large = large or len(opened.get("input", b"")) > _LARGE
            opened = await self._open_compactions(opened, owner or "", None, large=large)
        if opened.get("input") is not exchange.fields.get("input"):
            exchange.whole = False
            await self._quote_again(exchange, opened, owner or "")
        exchange.fields = opened
        if row.codec == "responses":
            self._keep_answer(exchange, expanded, owner if asked else None)

    async def _quote_again(self, exchange: Exchange, fields: Fields, owner: str) -> None:
        """Estimate the request again, after it was expanded to `fields`."""
        if self._estimate_body is not None:
            whole = msgspec.json.encode(fields)
            exchange.large = large = is_large(whole)
            weigh = partial(self._weighed, exchange, fields, whole, owner)
            exchange.size, exchange.estimate, exchange.media = (
                await run_in_thread(weigh) if large else weigh()
            )
            if not exchange.media:
                exchange.media = has_media(fields)

    def _keep_answer(self, exchange: Exchange, expanded: Expanded, owner: str | None) -> None:
        """Have the answer stored for `owner`; None stores nothing."""
        stored = False
        if self._store is not None and self._keep > 0 and owner is not None:
            stored = True
            exchange.answer_record = ResponseRecord(
                self._store,
                request_id=exchange.request_id,
                owner=owner,
                model=exchange.model,
                previous=expanded.previous,
                new=expanded.new,
                keep=self._keep,
                patience=self._patience,
                on_lost=self._on_lost,
                clock=self._clock,
            )
        else:  # nor may an upstream store it
            exchange.fields["store"] = _FALSE
        exchange.response_overrides = {"previous_response_id": expanded.previous, "store": stored}

    def _weighed(
        self, exchange: Exchange, fields: Fields, whole: bytes, owner: str
    ) -> tuple[int, int, bool]:
        if exchange.large:  # each turn was within the bounds; the conversation may not be
            check_all(exchange.row, fields)
        assert self._estimate_body is not None
        return self._estimate_body(exchange.resolved[0].entry, whole, owner)

    async def _open_compactions(
        self,
        fields: Fields,
        owner: str,
        codec: Codec | None,
        *,
        large: bool,
        marks: TurnMarks | None = None,
    ) -> Fields:
        """`fields` with own compactions decrypted. The key is fetched once this has returned."""
        if codec != "compaction":
            searching = partial(compaction.may_hold_compaction, fields, marks)
            if not (await run_in_thread(searching) if large else searching()):
                return fields
        try:
            seal = await self._sealing.seal()
        except StoreUnavailable as raised:
            raise unavailable(raised) from raised
        opener = partial(seal.open, compaction.PURPOSE)
        reveal = partial(compaction.revealed, fields, owner, opener)
        return await run_in_thread(reveal) if large else reveal()

    async def _get(self, exchange: Exchange, response_id: str, query: Query) -> bytes:
        if query.get("stream", ["false"])[-1] not in ("false", ""):
            raise expected("stream", "false: a kept response is not streamed again")
        store, owner = self._allowed(exchange, response_id)
        try:
            kept = await store.get(owner, response_id, self._clock())
        except StoreUnavailable as raised:
            raise unavailable(raised) from raised
        if kept is None:
            raise _unknown(response_id)
        return restored_answer(kept)

    async def _delete(self, exchange: Exchange, response_id: str) -> bytes:
        store, owner = self._allowed(exchange, response_id)
        try:
            found = await store.delete(owner, response_id, self._clock())
        except StoreUnavailable as raised:
            raise unavailable(raised) from raised
        if not found:
            raise _unknown(response_id)
        return json.dumps({"id": response_id, "object": "response", "deleted": True}).encode()

    async def _input_items(self, exchange: Exchange, response_id: str, query: Query) -> bytes:
        store, owner = self._allowed(exchange, response_id)
        try:
            turns = await store.conversation(owner, response_id, self._clock(), MAX_TURNS)
        except StoreUnavailable as raised:
            raise unavailable(raised) from raised
        if not turns:
            raise _unknown(response_id)
        return json.dumps(page(turns, query)).encode()

    def _allowed(self, exchange: Exchange, response_id: str) -> tuple[ResponseStore, str]:
        """The store, and the owner whose responses may be read."""
        owner = _owner(exchange)
        if self._store is None or owner is None or not is_id(response_id):
            raise _unknown(response_id)
        return self._store, owner


def _owner(exchange: Exchange) -> str | None:
    """The id that responses are stored under; None for a caller without an identity."""
    principal = exchange.principal
    if principal is None or principal.id in ("", "unknown"):
        return None
    return principal.id


def _check(fields: Fields) -> None:
    """Refuse members that need more than stored responses, with OpenAI's `code`."""
    if _flag(fields, "background"):
        raise refused("background", "responses are not made in the background")
    for name in ("conversation", "prompt"):
        if bytes(fields.get(name, b"null")) != b"null":
            raise refused(name)


def _flag(fields: Fields, name: str) -> bool | None:
    value = value_of(fields, name)
    if value is not None and not isinstance(value, bool):
        raise expected(name, "true or false")
    return value


def _unknown(response_id: str) -> Problem:
    return Problem("not_found", message=f"Response with id '{shown_id(response_id)}' not found.")
