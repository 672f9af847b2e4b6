"""Arguments of a call, as the object that Messages have in their place."""

import msgspec

from edge.requests.untyped_json import decode_any

_encode = msgspec.json.Encoder().encode

_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


def input_of(arguments: str, *, custom: bool = False, wrapped: bool = False) -> msgspec.Raw:
    """`input` for the JSON text `arguments`; the raw text of a custom tool is its one string.

    An object passes as it was written, whatever its numbers. No text at all is an object without
    members, any other value goes into {"value": ...}. Text that is no JSON, as when the answer was
    cut, goes into {"INVALID_JSON": ...}, which the vendor documents for that.
    wrapped: an object goes into {"value": ...} too, as the tool's schema did.
    """
    if custom:
        return msgspec.Raw(_encode({"input": arguments}))
    text = arguments.strip()
    if not text:
        return msgspec.Raw(b"{}")
    try:
        value = decode_any(text)
        if isinstance(value, dict) and not wrapped:
            return msgspec.Raw(msgspec.json.format(text, indent=-1).encode())
    except _UNREADABLE:
        return msgspec.Raw(_encode({"INVALID_JSON": arguments}))
    return msgspec.Raw(_encode({"value": msgspec.Raw(text.encode())}))
