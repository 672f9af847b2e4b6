"""Items of a conversation in their three forms: stored, input of a later request, and listed.

Field sources: OpenAI API reference, "Create a model response" (input items) and "List input items";
the types `ResponseInputItem` and `ResponseItem` of OpenAI's SDK. No I/O.
"""

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from math import isfinite
from typing import Any

import msgspec

from edge.untyped_json import number
from middlewares.stores.responses.base import KeptTurn

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not the JSON they should be."""

_ID = re.compile(r"[!-~]{1,256}")
_SHOWN = 200
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "compaction": "cmp",
}
_WITH_STATUS = frozenset(
    (
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
    )
)
_OURS = frozenset(("created_by",))
"""Members that are written in answers and refused in requests."""


def is_id(text: str) -> bool:
    """Whether `text` is well formed as an id, so that the store can be asked for it."""
    return _ID.fullmatch(text) is not None


def shown_id(text: str) -> str:
    """`text`, shortened and escaped for an error message."""
    return ascii(text[:_SHOWN])[1:-1]


class ItemHead(msgspec.Struct):
    """The members of an item that tell its kind."""

    id: Any = None
    type: Any = None
    role: Any = None

    @property
    def is_reference(self) -> bool:
        """Whether it only points to an item; `type` may be left out (OpenAI, `ItemReference`)."""
        return self.type == "item_reference" or (
            self.type is None and self.role is None and self.id is not None
        )

    @property
    def kind(self) -> str:
        """Its type; a message may leave it out."""
        return self.type if isinstance(self.type, str) else "message"


head_of = msgspec.json.Decoder(ItemHead, float_hook=number).decode


class KeptItem(msgspec.Struct, frozen=True):
    """An item of a stored turn, and its id."""

    id: str
    raw: msgspec.Raw


def items_of(array: bytes) -> list[msgspec.Raw]:
    """The items of a stored array."""
    return _decode_list(array)


def joined(items: list[msgspec.Raw]) -> bytes:
    """Items as a JSON array; their bytes do not change."""
    return b"[" + b",".join(bytes(item) for item in items) + b"]"


def user_message(text: msgspec.Raw) -> msgspec.Raw:
    """The message that a plain string as `input` stands for. text: a JSON string."""
    return msgspec.Raw(
        b'{"type":"message","role":"user","content":[{"type":"input_text","text":%b}]}'
        % bytes(text)
    )


def as_input(item: msgspec.Raw) -> msgspec.Raw:
    """An output item as an input item: without the members that only answers have. Nulls are left
    out too, since some servers refuse them.
    """
    members = _decode_members(item)
    kept = {
        name: value
        for name, value in members.items()
        if name not in _OURS and bytes(value) != b"null"
    }
    return item if len(kept) == len(members) else msgspec.Raw(_encode(kept))


def history(turns: list[KeptTurn]) -> Iterator[KeptItem]:
    """The items of whole turns as input, oldest first; of each turn input before output."""
    for turn in turns:
        yield from input_items(turn)
        yield from output_items(turn)


def input_items(turn: KeptTurn) -> Iterator[KeptItem]:
    """The input items of a turn."""
    for n, raw in enumerate(items_of(turn.input)):
        yield KeptItem(_id_of(head_of(raw), f"{turn.id}\0in\0{n}"), raw)


def output_items(turn: KeptTurn) -> Iterator[KeptItem]:
    """The output items of a turn, as input."""
    for n, raw in enumerate(items_of(turn.output)):
        yield KeptItem(_id_of(head_of(raw), f"{turn.id}\0out\0{n}"), as_input(raw))


def _id_of(head: ItemHead, position: str) -> str:
    """The id of the item, else one that is derived from its position."""
    if isinstance(head.id, str) and head.id:
        return head.id
    return f"{_PREFIXES.get(head.kind, 'item')}_{sha256(position.encode()).hexdigest()[:48]}"


_LONGEST_NUMBER = 400
"""Characters of a number; Python reads no more than 4,300 digits."""


def _number(text: str) -> int | float | str:
    """A JSON number; as text if Python cannot write it again."""
    if len(text) > _LONGEST_NUMBER:
        return text
    if text.lstrip("-").isdigit():
        return int(text)
    number = float(text)
    return number if isfinite(number) else text


def as_listed(item: KeptItem) -> dict[str, Any]:
    """The item as /input_items lists it: short forms written out, with id and status."""
    text = bytes(item.raw).decode("utf-8", "replace")  # not decoded before
    shown: dict[str, Any] = json.loads(text, parse_int=_number, parse_float=_number)
    kind = shown.get("type") or "message"
    shown = {"id": item.id, "type": kind, **{k: v for k, v in shown.items() if k != "id"}}
    shown["type"] = kind
    if kind in _WITH_STATUS and not shown.get("status"):
        shown["status"] = "completed"
    if kind == "message":
        shown["content"] = _parts(shown.get("content"), shown.get("role") == "assistant")
    elif kind == "reasoning":
        shown.setdefault("summary", [])
    elif kind == "function_call_output" and isinstance(shown.get("output"), list):
        shown["output"] = [_part(part, "input_text") for part in shown["output"]]
    return shown


def _parts(content: Any, assistant: bool) -> list[Any]:
    kind = "output_text" if assistant else "input_text"
    parts = content if isinstance(content, list) else [content or ""]
    return [_part(part, kind) for part in parts]


def _part(part: Any, kind: str) -> Any:
    if isinstance(part, str):
        part = {"type": kind, "text": part}
    if not isinstance(part, dict):
        return part
    match part.get("type"):
        case "output_text":
            return {**part, "annotations": part.get("annotations") or []}
        case "input_image":
            return {**part, "detail": part.get("detail") or "auto"}
        case _:
            return part
