"""What a transcription request asks for: the form of its answer, and what must be in it."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from edge.untyped_json import decode_any
from middlewares.problem import expected

Fields = Mapping[str, msgspec.Raw]

FORMATS: Final = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
_HEARD_WITH = ("prompt", "keywords")
"""Members whose text models read beside the audio."""
_BYTES_A_TOKEN = 3
_DETAILS = ("segment", "word")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class TranscriptRequest(msgspec.Struct, frozen=True):
    """A transcription request.

    text_tokens: estimate of the text that is sent beside the audio. format: of the answer. words:
        times of single words are wanted. probabilities: log probabilities are wanted. language: as
        the caller named it, "" if it did not.
    """

    text_tokens: int
    format: str
    words: bool
    probabilities: bool
    language: str

    @property
    def speakers(self) -> bool:
        """Whether the answer says who speaks."""
        return self.format == "diarized_json"

    @property
    def upstream_format(self) -> str:
        """The richest form that upstreams have of such an answer; the others are made of it."""
        if self.speakers:
            return self.format
        return "json" if self.probabilities else "verbose_json"


def transcript_request_of(
    fields: Fields, *, stream: bool, translated: bool = False
) -> TranscriptRequest:
    """The request of a body's members. translated: the words are translated to English. Raises
    Problem for a form that there is not."""
    form = _text(fields, "response_format") or "json"
    formats = FORMATS[:-1] if translated else FORMATS
    if form not in formats:
        raise expected("response_format", f"one of {', '.join(formats)}")
    details = _texts(fields, "timestamp_granularities")
    if not set(details) <= set(_DETAILS):
        raise expected("timestamp_granularities", "a list of `segment` and `word`")
    words = "word" in details
    if words and stream:
        raise expected("timestamp_granularities", "only `segment` with `stream`")
    if words and form != "verbose_json":
        raise expected(
            "timestamp_granularities", "only `segment`, or `response_format` `verbose_json`"
        )
    languages = _texts(fields, "languages")
    text = sum(len(fields[name]) for name in _HEARD_WITH if name in fields)
    return TranscriptRequest(
        text_tokens=-(-text // _BYTES_A_TOKEN),
        format=form,
        words=words,
        probabilities=form in ("json", "text") and "logprobs" in _texts(fields, "include"),
        language=_text(fields, "language") or (languages[0] if len(languages) == 1 else ""),
    )


def _text(fields: Fields, name: str) -> str:
    value = _value(fields, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise expected(name, "a string")
    return value


def _texts(fields: Fields, name: str) -> list[str]:
    value = _value(fields, name)
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise expected(name, "a list of strings")
    return values


def _value(fields: Fields, name: str) -> Any:
    raw = fields.get(name)
    try:
        return None if raw is None else decode_any(raw)
    except _UNREADABLE:
        raise expected(name, "a value that can be read") from None
