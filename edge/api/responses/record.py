"""Store finished answers of the Responses API, and restore them."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from edge.proxy.answer_memory import LARGE
from edge.runtime.worker_thread import run_in_thread
from edge.untyped_json import decode_any
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.responses.base import Kept, ResponseStore

from .items import head_of, is_id, items_of

_log = logging.getLogger(__name__)

_LARGEST = 64 << 20
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_NULL = msgspec.Raw(b"null")


def stored_form(
    answer: bytes,
    *,
    owner: str,
    model: str,
    previous: str | None,
    new: bytes,
    now: float,
    keep: float,
) -> Kept:
    """The row to store for an answer. answer: the response object; new: its new input items.

    now: Unix seconds. keep: seconds. Raises ValueError for an object that is not a response.
    """
    members = _decode_members(answer)
    id_ = decode_any(members.get("id", _NULL))
    if not isinstance(id_, str) or not is_id(id_):
        raise ValueError("the answer has no usable id")
    output = members.get("output", _NULL)
    if not bytes(output).startswith(b"["):
        raise ValueError("the answer has no list of output items")
    members["output"] = _NULL
    ids = (head_of(item).id for item in items_of(output))
    return Kept(
        owner=owner,
        id=id_,
        previous=previous,
        model=model,
        created_at=now,
        expires_at=now + keep,
        input=new,
        output=bytes(output),
        answer=_encode(members),
        items=tuple(id_ for id_ in ids if isinstance(id_, str) and is_id(id_)),
    )


def restored_answer(kept: Kept) -> bytes:
    """The stored answer, as JSON."""
    members = _decode_members(kept.answer)
    members["output"] = msgspec.Raw(kept.output)
    return _encode(members)


class ResponseRecord:
    """Stores the answer of one request, once it is finished.

    new: the items of its request, as JSON. previous: id of the response that it continues.
    keep: seconds for which it is stored. patience: seconds that storing it may take.
    on_lost: called when it could not be stored. clock: Unix seconds.
    """

    def __init__(
        self,
        store: ResponseStore,
        *,
        request_id: str,
        owner: str,
        model: str,
        previous: str | None,
        new: bytes,
        keep: float,
        patience: float,
        on_lost: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._request_id = request_id
        self._owner = owner
        self._model = model
        self._previous = previous
        self._new = new
        self._keep = keep
        self._patience = patience
        self._on_lost = on_lost
        self._clock = clock

    async def save(self, answer: bytes) -> None:
        """Store the answer. Never raises: a failure is logged and counted."""
        try:
            take = partial(
                stored_form,
                answer,
                owner=self._owner,
                model=self._model,
                previous=self._previous,
                new=self._new,
                now=self._clock(),
                keep=self._keep,
            )
            size = len(self._new) + len(answer)
            kept = await run_in_thread(take) if size >= LARGE else take()
            if size > _LARGEST:
                raise ValueError(f"it has more than {_LARGEST} bytes")
            async with asyncio.timeout(self._patience):
                await self._store.save(kept)
        except Exception as raised:
            self._on_lost()
            expected = isinstance(raised, StoreUnavailable | TimeoutError | ValueError)
            _log.error(
                "cannot store the response of request %s: %s",
                self._request_id,
                str(raised) or "no answer in time",
                exc_info=None if expected else raised,
            )
