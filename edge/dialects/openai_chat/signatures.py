"""Signatures in Chat: those of tool calls, and packed thinking that is removed from a history.

Gemini signs its calls (`extra_content` of an entry of `tool_calls`) and refuses a history without
the signature. Dialects without a member for it carry it as a thinking block before the call
(`pack_call_signature`).

A conversation may have begun on a model of another dialect: the caller then sends back thinking
that was packed for it (`edge.dialects.signatures`). No Chat upstream can use it, and some refuse
it. Everything else passes as the bytes it came in; a history without the mark is not decoded.
"""

import msgspec

from edge.dialects.passthrough import UNREADABLE, decode_fields, encode
from edge.dialects.signatures import MARK
from edge.requests.known_turns import TurnMarks, has_mark

_MARK = MARK.encode()
_HOLDERS = ("reasoning_details", "thinking_blocks")
_THINKING = "reasoning_content"
_CALLS = "tool_calls"
_EXTRA = "extra_content"


class _CallSignature(msgspec.Struct):
    """The signature of a call, in a dialect whose calls have no member for one.

    behind: it belongs to the call before it, not to the next.
    """

    extra_content: msgspec.Raw
    behind: bool = False


_decode_call_signature = msgspec.json.Decoder(_CallSignature).decode


def call_signature(extra: msgspec.Raw) -> bytes:
    """The `extra_content` of a call if it holds a signature, else b""."""
    raw = bytes(extra)
    return raw if raw.startswith(b"{") and b'"thought_signature"' in raw else b""


def pack_call_signature(signature: bytes, *, behind: bool) -> str:
    """The data of a thinking block that carries `signature` (see `unpack_call_signature`)."""
    return encode(_CallSignature(msgspec.Raw(signature), behind)).decode()


def unpack_call_signature(data: str) -> tuple[msgspec.Raw, bool] | None:
    """The signature in a thinking block, and whether it belongs to the call before it."""
    try:
        signed = _decode_call_signature(data)
    except UNREADABLE:
        return None
    return signed.extra_content, signed.behind


class _Entry(msgspec.Struct):
    signature: str | None = None
    data: str | None = None


_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode


def without_packed_thinking(messages: msgspec.Raw, marks: TurnMarks | None = None) -> msgspec.Raw:
    """`messages`, a JSON array, without packed thinking. What cannot be read stays as it is."""
    if not has_mark(messages, _MARK, marks):
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


def without_thinking(messages: msgspec.Raw, marks: TurnMarks | None = None) -> msgspec.Raw:
    """`messages` without plain-text thinking and call signatures.

    Some servers refuse members that they do not know.
    """
    if not any(has_mark(messages, mark.encode(), marks) for mark in (_THINKING, _EXTRA)):
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
        signed = [call for call in calls if _EXTRA in call]
        for call in signed:
            del call[_EXTRA]
        if signed:
            fields[_CALLS] = msgspec.Raw(encode(calls))
            changed = True
    return msgspec.Raw(encode(fields)) if changed else message


def _is_packed(entry: msgspec.Raw) -> bool:
    read = _decode_entry(entry)
    return any(
        signed is not None and signed.startswith(MARK) for signed in (read.signature, read.data)
    )
