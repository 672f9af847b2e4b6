"""Corrections to passed-through answers that differ from Anthropic's form or name their vendor.

Everything else passes as the bytes it came in. Members that clients require get their empty form if
they are null or missing: the text of a block at its start, the content and the usage of a message
at its start.
"""

import re

import msgspec
from msgspec import Raw

from edge.dialects.disclosure import tells, undisclosed
from edge.dialects.passthrough import UNREADABLE, Fields, decode_fields, encode
from edge.dialects.stop_reasons import is_known, stop_of

from .wire import NULL
from .write_answer import REASONS

OWN = frozenset(("model_context_window_exceeded", "compaction", *REASONS.values()))
"""The dialect's own stop reasons."""
_NO_TEXT = Raw(b'""')
_EMPTY: dict[str, dict[str, Raw]] = {
    "text": {"text": _NO_TEXT},
    "thinking": {"thinking": _NO_TEXT, "signature": _NO_TEXT},
    "tool_use": {"input": Raw(b"{}")},
}
"""The first members of a block, by its type."""
_TEXTS = (b'{"type":"text","text":"', b'{"type": "text", "text": "')
_NO_USAGE = Raw(b'{"input_tokens":0,"output_tokens":0}')
_OF_RESELLERS = re.compile(rb'("(?:id|tool_use_id)"\s*:\s*"[a-z]+_)(?:bdrk|vrtx)_')
"""Id prefixes that name the reseller of an Anthropic model."""
_HEAD = 1 << 12
"""Bytes that contain the first such id, that of the message."""

_decode_blocks = msgspec.json.Decoder(list[Raw]).decode
_decode_word = msgspec.json.Decoder(str | None).decode
_decode_type = msgspec.json.Decoder(str).decode


def is_odd(reason: str | None) -> bool:
    """Whether the stop reason is another vendor's word, or empty."""
    return reason is not None and reason not in OWN and (is_known(reason) or not stop_of(reason))


def names_vendor(data: bytes) -> bool:
    """Whether `data`, JSON of an answer or an event, names its vendor, other than by `model`."""
    sold = data.find(b"_bdrk_", 0, _HEAD) >= 0 or data.find(b"_vrtx_", 0, _HEAD) >= 0
    return (sold and _OF_RESELLERS.search(data, 0, _HEAD) is not None) or tells(data)


def is_text(raw: Raw) -> bool:
    """Whether a block is certainly a text in Anthropic's form."""
    data = bytes(raw)
    return data.startswith(_TEXTS) and data.count(b'"text"') == 2 and data.count(b'"type"') == 1


class MessagesEditor:
    """Edits the objects of one answer. requested_model: the caller's name of the model.

    disclose: of the members that name the vendor, only the model's name is replaced.
    All methods raise one of UNREADABLE.
    """

    __slots__ = ("_disclose", "_model", "_requested_model")

    def __init__(self, requested_model: str, *, disclose: bool) -> None:
        self._requested_model = requested_model
        self._disclose = disclose
        self._model = Raw(encode(requested_model))

    def message(self, message: Fields, *, whole: bool) -> Fields:
        """Edit a message: whole, or the one at the start of a stream."""
        out = self.open(message)
        if "model" in out:
            out["model"] = self._model
        if "stop_reason" in out:
            called = b'"tool_use"' in bytes(out.get("content", NULL))
            self._reason(out, called=called, whole=whole)
        content = out.get("content", NULL)
        if whole:
            blocks = [self.block(raw) for raw in _decode_blocks(content) if bytes(raw) != b"null"]
            out["content"] = Raw(encode(blocks))
            return out
        if bytes(content) == b"null":
            out["content"] = Raw(b"[]")
        if bytes(out.get("usage", NULL)) == b"null":
            out["usage"] = _NO_USAGE
        return out

    def changes(self, raw: Raw) -> bool:
        """Whether a content block that does not name the vendor needs editing."""
        return bytes(raw) == b"null" or self.block(raw, named=False) is not raw

    def block(self, raw: Raw, *, whole: bool = True, named: bool = True) -> Raw:
        """Edit a content block: whole, or its start. A value that is no object passes.

        named: it may name the vendor.
        """
        try:
            block = decode_fields(raw)
            empty = _EMPTY.get(_decode_type(block.get("type", _NO_TEXT)), {})
        except UNREADABLE:
            return raw
        lacking = {
            name: value
            for name, value in empty.items()
            if bytes(block.get(name, NULL)) == b"null"
            and (name in block or (name != "signature" and not whole))
        }
        named = named and not self._disclose
        named = named and (b'"model"' in bytes(raw) or names_vendor(bytes(raw)))
        if not lacking and not named:
            return raw
        return self._raw(self.open({**block, **lacking}))

    def delta(self, delta: Fields, *, called: bool) -> Fields:
        """Edit the `delta` of `message_delta`. called: the message holds a tool call."""
        out = self.open(delta)
        self._reason(out, called=called, whole=False)
        return out

    def open(self, members: Fields) -> Fields:
        """`members` of any object, without those that name the vendor."""
        return dict(members) if self._disclose else undisclosed(members, self._requested_model)

    def _raw(self, members: Fields) -> Raw:
        return Raw(self.without_resellers(encode(members)))

    def without_resellers(self, data: bytes) -> bytes:
        """`data` with ids in the form of Anthropic's own API."""
        return data if self._disclose else _OF_RESELLERS.sub(rb"\1", data)

    def _reason(self, members: Fields, *, called: bool, whole: bool) -> None:
        """Write a stop reason in Anthropic's words; without one, null until the answer is whole."""
        word = _decode_word(members.get("stop_reason", NULL))
        if not is_odd(word):
            return
        stop = stop_of(word) or ("end" if whole else None)
        if stop == "end" and called:
            stop = "tool_use"
        reason = None if stop is None or stop == "failed" else REASONS[stop]
        members["stop_reason"] = Raw(encode(reason))
