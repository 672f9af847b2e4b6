"""What a transcription was measured by: tokens, or seconds of audio."""

from math import ceil

import msgspec

from edge.dialects.media_usage import usage_of
from edge.dialects.passthrough import UNREADABLE, Fields
from middlewares.exchange import Usage

_LONGEST = 7 * 86400.0
"""Seconds that are believed; longer ones are an upstream's mistake."""


class _Usage(msgspec.Struct):
    seconds: msgspec.Raw = msgspec.Raw(b"null")


_decode_usage = msgspec.json.Decoder(_Usage | None).decode
_decode_seconds = msgspec.json.Decoder(float | None, strict=False).decode


class Measured(msgspec.Struct, frozen=True):
    """What an upstream counted. tokens: None if it counted none. milliseconds: of audio, None if
    it did not say."""

    tokens: Usage | None = None
    milliseconds: int | None = None

    @classmethod
    def of(cls, fields: Fields) -> "Measured":
        """What an answer or its last event says: `usage`, else its `duration`.

        Beside tokens a `duration` does not count: streams do not have it, and cost the same.
        """
        tokens = usage_of(fields)
        seconds = None
        try:
            raw = fields.get("usage")
            usage = None if raw is None else _decode_usage(raw)
            seconds = None if usage is None else _decode_seconds(usage.seconds)
        except UNREADABLE:
            pass
        if seconds is None and tokens is None:
            seconds = duration_of(fields)
        if seconds is None or not 0 <= seconds <= _LONGEST:
            return cls(tokens)
        return cls(tokens, ceil(seconds * 1000))


def duration_of(fields: Fields) -> float | None:
    """The member `duration`, which older servers write as a string."""
    try:
        raw = fields.get("duration")
        return None if raw is None else _decode_seconds(raw)
    except UNREADABLE:
        return None
