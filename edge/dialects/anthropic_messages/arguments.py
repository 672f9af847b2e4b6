"""Convert the arguments of a call to the `input` object of Messages."""

import msgspec

from edge.untyped_json import decode_any

_encode = msgspec.json.Encoder().encode

_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


def input_of(arguments: str, *, custom: bool = False, wrapped: bool = False) -> msgspec.Raw:
    """The `input` object for the JSON text `arguments`, or for a custom tool's raw text.

    An object passes as it was written, whatever its numbers. Empty text is an empty object; any
    other value is wrapped in {"value": ...}. Text that is no JSON, as in an answer that was cut, is
    wrapped in {"INVALID_JSON": ...}, as the vendor documents.
    wrapped: an object is wrapped in {"value": ...} too, like the tool's schema.
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
