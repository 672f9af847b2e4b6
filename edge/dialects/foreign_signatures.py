"""Remove another vendor's signatures from a request of the same dialect.

Thinking signatures and encrypted reasoning of the caller's own dialect pass in their vendor's form,
without a mark. When a conversation moves to another vendor of that dialect, its history still holds
them, and the new vendor refuses the request. `edge.routing.affinity` knows how many messages may
hold them; everything else in them passes as the bytes it came in. Packed signatures
(`edge.dialects.signatures`) name their origin and are removed by the writer of the request.
"""

import msgspec
from msgspec import Raw

from edge.dialects.anthropic_messages.history import without_thinking
from middlewares.exchange import Dialect

from .passthrough import UNREADABLE, Fields, encode
from .signatures import MARK

_REASONING = b'"reasoning"'
_HOLDERS = ("reasoning_details", "thinking_blocks")
DROPPED = "thinking: what another model signed"
UNTHOUGHT = "thinking: that of the last turn is gone"


class _Item(msgspec.Struct):
    type: str | None = None
    encrypted_content: str | None = None


class _Detail(msgspec.Struct):
    signature: str | None = None
    data: str | None = None


_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_decode_detail = msgspec.json.Decoder(_Detail).decode
_decode_message = msgspec.json.Decoder(dict[str, Raw]).decode


def without_foreign_signatures(
    fields: Fields, dialect: Dialect, first: int
) -> tuple[Fields, list[str]]:
    """`fields` without foreign signatures in its `first` messages; and notes for the log.

    Returns `fields` itself if there are none. Unreadable members are left for the upstream to
    refuse.
    """
    if first <= 0:
        return fields, []
    try:
        left = _WITHOUT[dialect](fields, first)
    except UNREADABLE:
        return fields, []
    if left is fields:
        return fields, []
    if "thinking" in fields and "thinking" not in left:
        return left, [DROPPED, UNTHOUGHT]
    return left, [DROPPED]


def _without_reasoning(fields: Fields, first: int) -> Fields:
    """Responses. A summary alone, or plain reasoning text of open models, is no signature."""
    raw = fields.get("input")
    if raw is None or _REASONING not in bytes(raw) or not bytes(raw).startswith(b"["):
        return fields
    items = _decode_list(raw)
    kept = [item for item in items[:first] if not _is_encrypted(item)]
    if len(kept) == len(items[:first]):
        return fields
    return {**fields, "input": Raw(encode(kept + items[first:]))}


def _is_encrypted(item: Raw) -> bool:
    if _REASONING not in bytes(item):
        return False
    read = _decode_item(item)
    return read.type == "reasoning" and _is_foreign(read.encrypted_content)


def _without_details(fields: Fields, first: int) -> Fields:
    """Chat. Some servers sign thinking in members of their own."""
    raw = fields.get("messages")
    if raw is None or not any(holder.encode() in bytes(raw) for holder in _HOLDERS):
        return fields
    messages = _decode_list(raw)
    kept = [_without_signed_details(message) for message in messages[:first]]
    if all(a is b for a, b in zip(kept, messages, strict=False)):
        return fields
    return {**fields, "messages": Raw(encode(kept + messages[first:]))}


def _without_signed_details(message: Raw) -> Raw:
    if not any(holder.encode() in bytes(message) for holder in _HOLDERS):
        return message
    members = _decode_message(message)
    changed = False
    for holder in _HOLDERS:
        raw = members.get(holder)
        if raw is None or not bytes(raw).startswith(b"["):
            continue
        came = _decode_list(raw)
        kept = [each for each in came if not _is_signed(each)]
        if len(kept) == len(came):
            continue
        changed = True
        if kept:
            members[holder] = Raw(encode(kept))
        else:
            del members[holder]
    return Raw(encode(members)) if changed else message


def _is_signed(detail: Raw) -> bool:
    read = _decode_detail(detail)
    return _is_foreign(read.signature) or _is_foreign(read.data)


def _is_foreign(signature: str | None) -> bool:
    return signature is not None and signature != "" and not signature.startswith(MARK)


_WITHOUT = {
    "anthropic": without_thinking,
    "responses": _without_reasoning,
    "openai": _without_details,
}
