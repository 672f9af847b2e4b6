"""Corrections to passed-through Responses answers: the vendor's names, unknown stop reasons."""

import re

import msgspec

from edge.dialects.disclosure import tells, undisclosed
from edge.dialects.passthrough import Echo, Fields, decode_fields, encode
from edge.dialects.stop_reasons import is_known, stop_of

_CALLERS = frozenset(
    (
        *("tools", "tool_choice", "metadata", "instructions", "prompt", "text", "reasoning"),
        *("response", "item"),
    )
)
"""Members of a response that came from the caller; and members of an event handled separately."""
_escaped_letter = re.compile(rb"\\u00[4-7]").search
_REASONS = {
    "length": "max_output_tokens",
    "pause": "max_output_tokens",
    "refusal": "content_filter",
}


def may_tell(response: bytes, named: bool) -> bool:
    """Whether a response may name the vendor, other than in its own `model`.

    named: whether it has that member. False only if nothing would be removed; a name with an
    escaped letter may be any name.
    """
    return (
        response.count(b'"model"') != named
        or tells(response)
        or (b"\\u00" in response and _escaped_letter(response) is not None)
    )


class ResponsesEditor:
    """Edits the response objects of one answer."""

    __slots__ = ("_disclose", "echo", "requested_model")

    def __init__(self, requested_model: str, echo: Echo, *, disclose: bool) -> None:
        self.requested_model = requested_model
        self.echo = {**echo}
        self._disclose = disclose

    def response(self, response: bytes) -> Fields:
        """Edit a response: the caller's model name, and the members that the gateway sets."""
        members = decode_fields(response)
        if not self._disclose and may_tell(response, "model" in members):
            members = self.open(members)
        if "model" in members:
            members["model"] = msgspec.Raw(encode(self.requested_model))
        if "moderation" in members and b'"model"' in bytes(members["moderation"]):
            members["moderation"] = self._moderation(members["moderation"])
        for name, value in self.echo.items():
            members[name] = msgspec.Raw(encode(value))
        return members

    def _moderation(self, raw: msgspec.Raw) -> msgspec.Raw:
        """Edit the moderation result; its `input` and `output` are verdicts, not text."""
        judged = decode_fields(raw)
        for name, each in judged.items():
            if bytes(each).startswith(b"{"):
                judged[name] = msgspec.Raw(encode(self.open(decode_fields(each))))
        return msgspec.Raw(encode(judged))

    def open(self, members: Fields) -> Fields:
        """`members` of any object, without those that name the vendor. The caller's own stay."""
        if self._disclose:
            return members
        own = {name: value for name, value in members.items() if name in _CALLERS}
        rest = {name: value for name, value in members.items() if name not in _CALLERS}
        rest = undisclosed(rest, self.requested_model)
        left = {**own, **rest}
        return {name: left[name] for name in members if name in left}

    def tells(self, data: bytes) -> bool:
        """Whether an event names the vendor."""
        return not self._disclose and (b'"model"' in data or tells(data))


def put_right(response: Fields, word: str | None) -> None:
    """Write the reason of an incomplete response, `word`, in the dialect's words."""
    if word is None or word in _REASONS.values() or not is_known(word):
        return
    stop = stop_of(word)
    reason = None if stop is None or stop == "failed" else _REASONS.get(stop)
    response["incomplete_details"] = msgspec.Raw(encode({"reason": reason} if reason else None))
