"""Corrections to passed-through Chat answers that differ from what OpenAI writes.

Everything else passes as the bytes it came in. A `ChatEditor` serves one answer: the chunks of a
stream, or a whole body.
"""

import msgspec

from edge.dialects.disclosure import undisclosed
from edge.dialects.passthrough import UNREADABLE, Fields, decode_fields, encode
from edge.dialects.stop_reasons import is_known, stop_of

from .choice_folding import Folding
from .wire import NULL

OWN = frozenset(("stop", "length", "tool_calls", "content_filter", "function_call"))
"""The dialect's own finish reasons."""
_WRITTEN = {
    "end": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause": "stop",
}
_decode_choices = msgspec.json.Decoder(list[Fields | None]).decode
_decode_word = msgspec.json.Decoder(str | None).decode
_decode_number = msgspec.json.Decoder(int | None, strict=False).decode


def is_odd(word: str | None) -> bool:
    """Whether the finish reason `word` is another vendor's, or empty."""
    return word is not None and word not in OWN and (is_known(word) or stop_of(word) is None)


def asks_for_several(fields: Fields) -> bool:
    """Whether a request asks for more than one answer."""
    try:
        return (_decode_number(fields.get("n", NULL)) or 1) > 1
    except msgspec.DecodeError:
        return False


class ChatEditor:
    """holder: "delta" or "message". several: several answers were requested.

    disclose: of the members that name the upstream, only the model's name is replaced.
    """

    __slots__ = ("_disclose", "_folding", "_holder", "_requested_model")

    def __init__(self, holder: str, requested_model: str, *, several: bool, disclose: bool) -> None:
        self._requested_model = requested_model
        self._disclose = disclose
        self._holder = holder
        self._folding = None if several else Folding(holder)

    def folds(self, index: int | None, count: int) -> bool:
        """Whether `count` choices, the first numbered `index`, are not the one requested."""
        return self._folding is not None and (count > 1 or bool(index))

    def edit(self, data: bytes, *, choices: bool, drop: tuple[str, ...] = ()) -> bytes:
        """Edit `data`, a chunk or a body, for the caller. choices: whether those change.

        Raises one of UNREADABLE.
        """
        fields = decode_fields(data)
        for name in drop:
            fields.pop(name, None)
        if not self._disclose:
            fields = undisclosed(fields, self._requested_model)
        elif "model" in fields:
            fields["model"] = msgspec.Raw(encode(self._requested_model))
        if choices and "choices" in fields:
            each = [choice for choice in _decode_choices(fields["choices"]) if choice is not None]
            for choice in each:
                self._reason(choice)
            if self._folding is not None:
                each = self._folding.fold(each)
            fields["choices"] = msgspec.Raw(encode(each))
        return encode(fields)

    def _reason(self, choice: Fields) -> None:
        try:
            word = _decode_word(choice.get("finish_reason", NULL))
        except UNREADABLE:
            word = ""
        if not is_odd(word):
            return
        meaning = stop_of(word)
        if meaning is None and self._holder == "message":  # a body is complete
            meaning = "tool_use" if b'"tool_calls"' in bytes(choice.get("message", b"")) else "end"
        written = None if meaning in (None, "failed") else _WRITTEN[meaning]
        choice["finish_reason"] = msgspec.Raw(encode(written))
