"""Attributes of a span that the body of a request gives, in any dialect.

Only members with a number, a word or an id are read, each within a bound, and a value of another
type is left out: nothing of a prompt can come along.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from . import genai

Attributes = dict[str, Any]

_LONGEST = 4096
"""Bytes of a member that is decoded."""
_LONGEST_TEXT = 256
_MAX_STOPS = 8
_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,256}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MAX_INT = (1 << 63) - 1

_INTS = {
    "max_tokens": genai.REQUEST_MAX_TOKENS,
    "max_completion_tokens": genai.REQUEST_MAX_TOKENS,
    "max_output_tokens": genai.REQUEST_MAX_TOKENS,
    "top_k": genai.REQUEST_TOP_K,
    "seed": genai.REQUEST_SEED,
    "dimensions": genai.EMBEDDING_DIMENSIONS,
}
_FLOATS = {
    "temperature": genai.REQUEST_TEMPERATURE,
    "top_p": genai.REQUEST_TOP_P,
    "frequency_penalty": genai.REQUEST_FREQUENCY_PENALTY,
    "presence_penalty": genai.REQUEST_PRESENCE_PENALTY,
}
_OUTPUT_TYPES = {"json_object": "json", "json_schema": "json", "text": "text"}

_decode = msgspec.json.Decoder(Any).decode
_decode_type = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def request_attributes(fields: Mapping[str, msgspec.Raw], *, endpoint: str = "") -> Attributes:
    """Attributes of the members `fields` of a request to `endpoint`."""
    found: Attributes = {}
    for member, name in _INTS.items():
        value = _read(fields, member)
        if type(value) is int and 0 <= value <= _MAX_INT:
            found[name] = value
    for member, name in _FLOATS.items():
        value = _read(fields, member)
        if type(value) in (int, float):
            found[name] = float(value)
    choices = _read(fields, "n")
    if type(choices) is int and 1 < choices <= _MAX_INT:
        found[genai.REQUEST_CHOICES] = choices
    for member in ("stop", "stop_sequences"):
        stops = _read(fields, member)
        texts = [stops] if isinstance(stops, str) else stops if isinstance(stops, list) else []
        kept = [text[:_LONGEST_TEXT] for text in texts[:_MAX_STOPS] if isinstance(text, str)]
        if kept:
            found[genai.REQUEST_STOP] = tuple(kept)
    level = _reasoning_level(fields)
    if level is not None:
        found[genai.REQUEST_REASONING] = level
    previous = _id(_read(fields, "previous_response_id"))
    if previous is not None:
        found[genai.REQUEST_PREVIOUS] = previous
    encoding = _read(fields, "encoding_format")
    if isinstance(encoding, str) and _WORD.fullmatch(encoding):
        found[genai.REQUEST_ENCODINGS] = (encoding,)
    output = _output_type(fields, endpoint)
    if output is not None:
        found[genai.OUTPUT_TYPE] = output
    return found


def _read(fields: Mapping[str, msgspec.Raw], member: str) -> Any:
    """The value of a member; None where it is missing, too long or no JSON."""
    raw = fields.get(member)
    if raw is None:
        return None
    encoded = bytes(raw)
    if len(encoded) > _LONGEST:
        return None
    try:
        return _decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _id(value: object) -> str | None:
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _reasoning_level(fields: Mapping[str, msgspec.Raw]) -> str | None:
    """`reasoning_effort` of Chat, `reasoning.effort` of Responses, `output_config.effort` of
    Messages."""
    for value in (
        _read(fields, "reasoning_effort"),
        _member(_read(fields, "reasoning"), "effort"),
        _member(_read(fields, "output_config"), "effort"),
    ):
        if isinstance(value, str) and _WORD.fullmatch(value):
            return value
    return None


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
        kind = _decode(members.get("type", b"null"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return kind if isinstance(kind, str) else ""
