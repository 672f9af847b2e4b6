"""What a model wants back unchanged, and what only another vendor's model could read.

Gemini signs its calls (`extra_content` of an entry of `tool_calls`) and refuses a history without
the signature. Dialects without room for it carry it as a thought before the call (`packed_seal`).

A conversation may have begun on a model of another dialect: the caller then sends back thinking
that was packed for it (`opaque`). A chat upstream can make nothing of it, and some refuse it. All
else passes as the bytes it came in; of a history without the mark not one is looked at twice.
"""

import msgspec

from edge.dialects.passthrough import UNREADABLE, decode_fields, encode
from edge.dialects.signatures import MARK

_MARK = MARK.encode()
_HOLDERS = ("reasoning_details", "thinking_blocks")
_THINKING = "reasoning_content"
_CALLS = "tool_calls"
_EXTRA = "extra_content"


class _Sealed(msgspec.Struct):
    """What stands for the seal of a call where calls have no room for one.

    behind: it belongs to the call before it, not to the next.
    """

    extra_content: msgspec.Raw
    behind: bool = False


_decode_sealed = msgspec.json.Decoder(_Sealed).decode


def seal_of(extra: msgspec.Raw) -> bytes:
    """The `extra_content` of a call if it holds anything to be given back, else b""."""
    raw = bytes(extra)
    return raw if raw.startswith(b"{") and b'"thought_signature"' in raw else b""


def packed_seal(seal: bytes, *, behind: bool) -> str:
    """The data of a thought that carries `seal` (see `unpacked_seal`)."""
    return encode(_Sealed(msgspec.Raw(seal), behind)).decode()


def unpacked_seal(data: str) -> tuple[msgspec.Raw, bool] | None:
    """The seal in the data of a thought, and whether it belongs to the call before it."""
    try:
        sealed = _decode_sealed(data)
    except UNREADABLE:
        return None
    return sealed.extra_content, sealed.behind


class _Entry(msgspec.Struct):
    signature: str | None = None
    data: str | None = None


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


def without_seals(messages: msgspec.Raw) -> msgspec.Raw:
    """`messages`, a JSON array, without packed thinking. What cannot be read stays as it is."""
    if _MARK not in bytes(messages):
        return messages
    try:
        return msgspec.Raw(encode([_cleaned(each) for each in _decode_list(messages)]))
    except UNREADABLE:
        return messages


def _cleaned(message: msgspec.Raw) -> msgspec.Raw:
    if _MARK not in bytes(message):
        return message
    fields = decode_fields(message)
    for holder in _HOLDERS:
        if holder not in fields or _MARK not in bytes(fields[holder]):
            continue
        kept = [entry for entry in _decode_list(fields[holder]) if not _is_packed(entry)]
        if kept:
            fields[holder] = msgspec.Raw(encode(kept))
        else:
            del fields[holder]
    return msgspec.Raw(encode(fields))


def without_thinking(messages: msgspec.Raw) -> msgspec.Raw:
    """`messages` without what was thought in plain words, and without the seals of calls: some
    refuse members they do not know.
    """
    raw = bytes(messages)
    if _THINKING.encode() not in raw and _EXTRA.encode() not in raw:
        return messages
    try:
        return msgspec.Raw(encode([_thoughtless(each) for each in _decode_list(messages)]))
    except UNREADABLE:
        return messages


def _thoughtless(message: msgspec.Raw) -> msgspec.Raw:
    raw = bytes(message)
    if _THINKING.encode() not in raw and _EXTRA.encode() not in raw:
        return message
    fields = decode_fields(message)
    changed = fields.pop(_THINKING, None) is not None
    if _EXTRA.encode() in bytes(fields.get(_CALLS, b"")):
        calls = [decode_fields(call) for call in _decode_list(fields[_CALLS])]
        sealed = [call for call in calls if _EXTRA in call]
        for call in sealed:
            del call[_EXTRA]
        if sealed:
            fields[_CALLS] = msgspec.Raw(encode(calls))
            changed = True
    return msgspec.Raw(encode(fields)) if changed else message


def _is_packed(entry: msgspec.Raw) -> bool:
    read = _decode_entry(entry)
    return any(
        sealed is not None and sealed.startswith(MARK) for sealed in (read.signature, read.data)
    )
