"""Attributes of a span that the body of a request gives, in any dialect.

Only numbers, words, ids and stop sequences are read, each within a bound, and a value of another
type is left out: nothing of a prompt can come along.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from . import genai
from .lenient_json import UNREADABLE, value_of

Attributes = dict[str, Any]

_LONGEST = 4096
"""Bytes of a member that is decoded."""
_LONGEST_TEXT = 256
_MAX_STOPS = 8
_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,256}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAX_INT = (1 << 63) - 1

_OUTPUT_TYPES = {"json_object": "json", "json_schema": "json", "text": "text"}

_decode_type = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def request_attributes(fields: Mapping[str, msgspec.Raw], *, endpoint: str = "") -> Attributes:
    """Attributes of the members `fields` of a request to `endpoint`."""
    found: Attributes = {}
    for member, raw in fields.items():
        reading = _READINGS.get(member)
        if reading is not None:
            name, accept = reading
            value = accept(value_of(raw, most=_LONGEST))
            if value is not None:
                found[name] = value
    output = _output_type(fields, endpoint)
    if output is not None:
        found[genai.OUTPUT_TYPE] = output
    return found


def _int(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= _MAX_INT else None


def _choices(value: object) -> int | None:
    return value if type(value) is int and 1 < value <= _MAX_INT else None


def _float(value: object) -> float | None:
    if type(value) is int:
        return float(value) if abs(value) <= _MAX_INT else None  # others may be no float at all
    return value if isinstance(value, float) else None


def _stops(value: object) -> tuple[str, ...] | None:
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    kept = [text[:_LONGEST_TEXT] for text in texts[:_MAX_STOPS] if isinstance(text, str)]
    return tuple(kept) or None


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _effort(value: object) -> str | None:
    return _word(value.get("effort")) if isinstance(value, dict) else None


def _words(value: object) -> tuple[str, ...] | None:
    word = _word(value)
    return None if word is None else (word,)


_READINGS: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    "max_tokens": (genai.REQUEST_MAX_TOKENS, _int),
    "max_completion_tokens": (genai.REQUEST_MAX_TOKENS, _int),
    "max_output_tokens": (genai.REQUEST_MAX_TOKENS, _int),
    "top_k": (genai.REQUEST_TOP_K, _int),
    "seed": (genai.REQUEST_SEED, _int),
    "dimensions": (genai.EMBEDDING_DIMENSIONS, _int),
    "n": (genai.REQUEST_CHOICES, _choices),
    "temperature": (genai.REQUEST_TEMPERATURE, _float),
    "top_p": (genai.REQUEST_TOP_P, _float),
    "frequency_penalty": (genai.REQUEST_FREQUENCY_PENALTY, _float),
    "presence_penalty": (genai.REQUEST_PRESENCE_PENALTY, _float),
    "stop": (genai.REQUEST_STOP, _stops),
    "stop_sequences": (genai.REQUEST_STOP, _stops),
    "reasoning_effort": (genai.REQUEST_REASONING, _word),
    "reasoning": (genai.REQUEST_REASONING, _effort),
    "output_config": (genai.REQUEST_REASONING, _effort),
    "previous_response_id": (genai.REQUEST_PREVIOUS, _id),
    "encoding_format": (genai.REQUEST_ENCODINGS, _words),
}
"""Attribute of a member, and the value that is accepted; of any dialect."""


def _output_type(fields: Mapping[str, msgspec.Raw], endpoint: str) -> str | None:
    """The type of content that was requested; None where the request does not say."""
    if endpoint.startswith("images."):
        return "image"
    if endpoint == "audio.speech":
        return "speech"
    if endpoint.startswith("audio."):
        return None
    for outer, inner in (
        ("response_format", None),
        ("text", "format"),
        ("output_config", "format"),
    ):
        kind = _type_of(fields.get(outer), inner)
        if kind in _OUTPUT_TYPES:
            return _OUTPUT_TYPES[kind]
    return None


def _type_of(raw: msgspec.Raw | None, inner: str | None) -> str:
    """`type` of an object, or of a member of it; a schema beside it is not decoded."""
    if raw is None:
        return ""
    try:
        members = _decode_type(raw)
        if inner is not None:
            members = _decode_type(members.get(inner, b"{}"))
    except UNREADABLE:
        return ""
    kind = value_of(members.get("type", b"null"), most=_LONGEST)
    return kind if isinstance(kind, str) else ""
