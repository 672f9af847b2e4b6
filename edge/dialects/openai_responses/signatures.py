"""Remove reasoning that the upstream cannot read from a passed-through input.

A conversation may have begun on a model of another dialect: the caller then sends back thinking
that was packed for it (`edge.dialects.signatures`), or a summary alone. A Responses upstream
refuses both: it takes its own encrypted reasoning or, from vendors of open models, plain text.
Everything else passes as the bytes it came in; an input without reasoning is not decoded.
"""

import msgspec

from edge.dialects.passthrough import UNREADABLE, encode
from edge.dialects.signatures import MARK
from edge.requests.known_turns import TurnMarks

_REASONING = b'"reasoning"'
_LOST = b"lost\n"
"""Key of `_have_lost` among the marks of turns."""


class _Typed(msgspec.Struct):
    type: str = ""


class _Reasoning(msgspec.Struct):
    encrypted_content: str | None = None
    content: list[msgspec.Raw] | None = None


_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_typed = msgspec.json.Decoder(_Typed).decode
_decode_reasoning = msgspec.json.Decoder(_Reasoning).decode


def without_unreadable_reasoning(
    items_json: msgspec.Raw, marks: TurnMarks | None = None
) -> msgspec.Raw:
    """`items_json`, an array of items, without such reasoning. Unreadable JSON stays as it is."""
    if marks is not None and marks.raw is items_json:
        if not marks.found(_LOST, _have_lost):
            return items_json
    elif _REASONING not in bytes(items_json):
        return items_json
    try:
        items = _decode_items(items_json)
    except UNREADABLE:
        return items_json
    kept = [item for item in items if not _is_lost(item)]
    return items_json if len(kept) == len(items) else msgspec.Raw(encode(kept))


def _have_lost(items: bytes) -> bool:
    """Whether items, which a comma may precede, have such reasoning."""
    if _REASONING not in items:
        return False
    return any(map(_is_lost, _decode_items(b"[%b]" % items.removeprefix(b","))))


def _is_lost(item: msgspec.Raw) -> bool:
    if _REASONING not in bytes(item):
        return False
    try:
        if _decode_typed(item).type != "reasoning":
            return False
        known = _decode_reasoning(item)
    except UNREADABLE:
        return False
    if known.encrypted_content is None:
        return not known.content
    return known.encrypted_content.startswith(MARK)
