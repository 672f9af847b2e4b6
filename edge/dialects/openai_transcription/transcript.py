"""One transcript, read from the answer of an upstream."""

from typing import Any

import msgspec

from edge.dialects.disclosure import undisclosed
from edge.dialects.errors import broken, claims_failure, failed_by, says_error
from edge.dialects.passthrough import UNREADABLE, Fields, UpstreamError, decode_fields, encode
from edge.untyped_json import number

from .measured import Measured, duration_of


class Segment(msgspec.Struct):
    """A part of the text with its times, in seconds."""

    text: str = ""
    start: float = 0.0
    end: float = 0.0


class Transcript(msgspec.Struct, frozen=True):
    """An answer. fields: all of its members, without those that name the vendor.

    seconds: of the audio, None if the upstream did not say. segments: none if it has none.
    """

    text: str
    fields: Fields
    segments: list[Segment]
    seconds: float | None
    measured: Measured

    @property
    def text_size(self) -> int:
        """Bytes of the text."""
        return text_size(self.text)


class _Answer(msgspec.Struct):
    text: str
    segments: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Answer, strict=False).decode
_decode_segments = msgspec.json.Decoder(list[dict[str, Any]] | None, float_hook=number).decode


def read_transcript(body: bytes, model: str, *, disclose: bool = False) -> Transcript:
    """The transcript of an answer's body. model: the caller's name of it. Raises UpstreamError.

    An empty text is one: nothing was said.
    """
    try:
        fields = decode_fields(body)
    except UNREADABLE:
        raise UpstreamError.by(broken("the answer is no JSON object", body)) from None
    silent = "text" not in fields or "base_resp" in fields
    if says_error(fields.get("error", b"null")) or (silent and claims_failure(fields)):
        raise UpstreamError.by(failed_by(body))
    try:
        answer = _decode(body)
        segments = [_segment(one) for one in _decode_segments(answer.segments) or ()]
    except UNREADABLE:
        if "text" not in fields:
            raise UpstreamError.by(failed_by(body)) from None
        raise UpstreamError.by(broken("the answer is no transcript", body)) from None
    if not disclose:
        fields = undisclosed(fields, model)
    if "error" in fields:
        del fields["error"]
    return Transcript(
        text=answer.text,
        fields=fields,
        segments=segments,
        seconds=duration_of(fields),
        measured=Measured.of(fields),
    )


def _segment(members: dict[str, Any]) -> Segment:
    text = members.get("text", "")
    if not isinstance(text, str):
        raise msgspec.ValidationError("a segment's text is no string")
    return Segment(text, _seconds(members.get("start")), _seconds(members.get("end")))


def _seconds(value: object) -> float:
    """A time, which some servers write as a string; 0 if there is none."""
    if value is None:
        return 0.0
    if not isinstance(value, int | float | str):
        raise msgspec.ValidationError("a segment's time is no number")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise msgspec.ValidationError("a segment's time is no number") from None


def text_size(text: str) -> int:
    """Bytes of `text`."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def raw(value: object) -> msgspec.Raw:
    """`value` as JSON."""
    return msgspec.Raw(encode(value))
