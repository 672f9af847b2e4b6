"""Expand references to stored responses into plain input.

`previous_response_id` and `item_reference` are only known to the store; after this every dialect
and upstream sees plain input. `instructions` of the former response are not
taken over (OpenAI API reference, "Create a model response").
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from edge.requests.known_turns import TurnMarks
from edge.runtime.worker_thread import run_in_thread
from edge.untyped_json import decode_any
from middlewares.problem import Problem, expected
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.responses.base import KeptTurn, ResponseStore

from .items import (
    UNREADABLE,
    KeptItem,
    head_of,
    history,
    is_id,
    items_of,
    joined,
    output_items,
    shown_id,
    user_message,
)

Fields = dict[str, msgspec.Raw]

MAX_TURNS = 10_000
"""Responses of one conversation that are read at most."""

_LARGE = 256 << 10
"""Bytes from which on a stored conversation is read in a thread."""
_NULL = b"null"
_POINTING = b"pointing\n"
"""Key of `_point` among the marks of turns."""


class Expanded(msgspec.Struct, frozen=True):
    """A request without references.

    fields: its members, with the whole `input` and without `previous_response_id`.
    previous: the response it continues. new: JSON array of the items it added to that.
    """

    fields: Fields
    previous: str | None
    new: bytes


async def expand(
    fields: Fields,
    owner: str | None,
    store: ResponseStore | None,
    *,
    now: float,
    limit: int,
    large: bool = False,
    stored: bool = True,
    marks: TurnMarks | None = None,
    extend: Callable[[int], None] | None = None,
) -> Expanded:
    """A copy of `fields` in which every reference is replaced by what it refers to.

    owner: whose responses may be referred to; without an owner or a store there are none.
    now: Unix seconds. limit: bytes that the whole input may have. large: reading `fields` takes
    long enough to delay other requests (`run_in_thread`). extend: counts bytes that `fields` refer
    to; what it raises is raised. stored: whether the new items are stored; else `Expanded.new` may
    be empty. marks: of `input`, if they are known.

    Raises Problem: previous_response_not_found, not_found (of an item), invalid_request,
    request_too_large, store_unavailable (no answer from the store).
    """
    kept = _OwnedResponses(owner, store, now)
    previous = _previous(fields)
    turns = [] if previous is None else await kept.conversation(previous)
    if turns:
        size = sum(len(turn.input) + len(turn.output) for turn in turns)
        if extend is not None:
            extend(size)
        large = large or size > _LARGE
    new = fields.get("input")
    if previous is None and not stored and marks is not None and marks.raw is new:
        pointing = partial(marks.found, _POINTING, _point)
        if not (await run_in_thread(pointing) if large else pointing()):
            rest = {name: raw for name, raw in fields.items() if name != "previous_response_id"}
            return Expanded(rest, None, b"")
    said = await run_in_thread(partial(_read, new, turns)) if large else _read(new, turns)
    wanted = said.wanted()
    found = await kept.items(wanted) if wanted else []
    if found and extend is not None:
        extend(sum(len(item.raw) for item in found))
    if large:
        return await run_in_thread(partial(_assemble, fields, said, found, previous, limit))
    return _assemble(fields, said, found, previous, limit)


class _OwnedResponses:
    """The stored responses of one owner."""

    def __init__(self, owner: str | None, store: ResponseStore | None, now: float) -> None:
        self._owner = owner
        self._store = store
        self._now = now

    async def conversation(self, response_id: str) -> list[KeptTurn]:
        """The turns up to a response, oldest first."""
        turns: list[KeptTurn] = []
        if self._store is not None and self._owner is not None and is_id(response_id):
            try:
                turns = await self._store.conversation(
                    self._owner, response_id, self._now, MAX_TURNS + 1
                )
            except StoreUnavailable as raised:
                raise unavailable(raised) from raised
        if not turns:
            raise Problem(
                "previous_response_not_found",
                message=f"Previous response with id '{shown_id(response_id)}' not found.",
                param="previous_response_id",
            )
        if len(turns) > MAX_TURNS:
            raise Problem(
                "request_too_large",
                message="The conversation behind `previous_response_id` has more than "
                f"{MAX_TURNS} responses.",
                param="previous_response_id",
            )
        return turns

    async def items(self, ids: Iterable[str]) -> list[KeptItem]:
        """Output items by id, of any response."""
        askable = [id_ for id_ in ids if is_id(id_)]
        if self._store is None or self._owner is None or not askable:
            return []
        try:
            turns = await self._store.holding(self._owner, askable, self._now)
        except StoreUnavailable as raised:
            raise unavailable(raised) from raised
        return [item for turn in turns for item in output_items(turn)]


def unavailable(raised: StoreUnavailable) -> Problem:
    """The problem that callers get during an outage of the store."""
    return Problem("store_unavailable", reason=f"response store: {raised}")


def value_of(fields: Fields, name: str) -> Any:
    """A member's value, None when there is none. Raises Problem for what is no JSON."""
    try:
        return decode_any(fields.get(name, _NULL))
    except UNREADABLE:
        raise expected(name, "valid JSON") from None


def _previous(fields: Fields) -> str | None:
    value = value_of(fields, "previous_response_id")
    if value is not None and not isinstance(value, str):
        raise expected("previous_response_id", "the id of a response")
    return value


def _new_items(raw: msgspec.Raw | None) -> list[msgspec.Raw]:
    """The items of an `input` member; a string is one message."""
    if raw is None or bytes(raw) == _NULL:
        return []
    match bytes(raw)[:1]:
        case b'"':
            return [user_message(raw)]
        case b"[":
            return items_of(raw)
        case _:
            raise expected("input", "a string or an array of items")


class _NewInput(msgspec.Struct, frozen=True):
    """The stored items of a conversation, and the new items of a request.

    references: by position in `new`, the ids that items only point to.
    """

    before: list[KeptItem]
    new: list[msgspec.Raw]
    references: dict[int, str]

    def wanted(self) -> dict[str, None]:
        """Ids of items that have to be looked up."""
        if not self.references:
            return {}
        known = {item.id for item in self.before}
        return dict.fromkeys(id_ for id_ in self.references.values() if id_ not in known)


def _read(given: msgspec.Raw | None, turns: list[KeptTurn]) -> _NewInput:
    new = _new_items(given)
    return _NewInput(list(history(turns)), new, _references(new))


def _assemble(
    fields: Fields, said: _NewInput, found: list[KeptItem], previous: str | None, limit: int
) -> Expanded:
    resolved = _resolved(said, found)
    rest = {name: raw for name, raw in fields.items() if name != "previous_response_id"}
    added = joined(resolved)
    if previous is not None:
        whole = joined([*(item.raw for item in said.before), *resolved])
        if len(whole) > limit:
            raise Problem(
                "request_too_large",
                message=f"The conversation behind `previous_response_id` has {len(whole)} bytes, "
                f"more than the {limit} a request may have.",
                param="previous_response_id",
            )
        rest["input"] = msgspec.Raw(whole)
    elif resolved is not said.new:
        rest["input"] = msgspec.Raw(added)
    return Expanded(rest, previous, added)


def _resolved(said: _NewInput, looked_up: list[KeptItem]) -> list[msgspec.Raw]:
    """The new items, with references replaced by the items they point to.

    A reference to an item that the conversation already has adds nothing: upstreams refuse a tool
    call that comes twice.
    """
    if not said.references:
        return said.new
    known = {item.id for item in said.before}
    found = {item.id: item.raw for item in looked_up}
    resolved: list[msgspec.Raw] = []
    for n, raw in enumerate(said.new):
        id_ = said.references.get(n)
        if id_ is None:
            resolved.append(raw)
        elif id_ not in known:
            item = found.get(id_)
            if item is None:
                raise Problem(
                    "not_found",
                    message=f"Item with id '{shown_id(id_)}' not found.",
                    param=f"input[{n}].id",
                )
            resolved.append(item)
            known.add(id_)
    return resolved


def _point(items: bytes) -> bool:
    """Whether items, which a comma may precede, have references or what is no item."""
    try:
        return bool(_references(items_of(b"[%b]" % items.removeprefix(b","))))
    except Problem:
        return True


def _references(items: list[msgspec.Raw]) -> dict[int, str]:
    """By position: the ids that items of an input only point to."""
    references: dict[int, str] = {}
    for n, raw in enumerate(items):
        try:
            head = head_of(raw)
        except UNREADABLE:
            raise expected(f"input[{n}]", "an object") from None
        if head.is_reference:
            if not isinstance(head.id, str):
                raise expected(f"input[{n}].id", "the id of an item")
            references[n] = head.id
    return references
