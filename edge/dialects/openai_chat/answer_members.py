"""What is read of an answer, or a chunk of one, that is passed on."""

from typing import Any

import msgspec

from edge.dialects.errors import failed_by, says_error
from edge.dialects.events import Failed
from edge.dialects.lenient_json import decode_leniently, repaired_json
from edge.dialects.passthrough import UNREADABLE, Fields, UpstreamError
from edge.dialects.stop_reasons import interrupted
from edge.untyped_json import number

from .failures import NEEDED
from .wire import NULL

NAMED = b'"model"'


class Choice(msgspec.Struct):
    """One choice."""

    index: int | None = None
    delta: Fields | None = None
    message: msgspec.Raw = NULL
    finish_reason: str | None = None
    text: str | None = None
    error: msgspec.Raw = NULL


class Answer(msgspec.Struct):
    """An answer, or a chunk of one."""

    model: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = NULL
    service_tier: Any = None
    error: msgspec.Raw = NULL
    base_resp: msgspec.Raw = NULL
    system_fingerprint: msgspec.Raw = NULL
    object: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


decode_answer = msgspec.json.Decoder(Answer, float_hook=number).decode
decode_options = msgspec.json.Decoder(_StreamOptions | None).decode
NO_OPTIONS = msgspec.Raw(b"null")

_EMPTY = (b"null", b'""', b"[]", b"{}")


def wants_usage(fields: Fields) -> bool:
    """Whether the client requested usage in its stream."""
    read = decode_options(fields.get("stream_options", NO_OPTIONS))
    return read is not None and bool(read.include_usage)


def interruption(choice: Choice) -> Failed:
    """The failure that `choice` reports."""
    if says_error(choice.error):
        return failed_by(bytes(choice.error))
    return interrupted(choice.finish_reason)


def decode_repaired(data: bytes, reason: str) -> tuple[Answer, bytes]:
    """Decode `data` leniently; and return it as strict JSON. Raises UpstreamError."""
    try:
        data = repaired_json(data)
        return decode_leniently(decode_answer, data, NEEDED), data
    except UNREADABLE:
        raise UpstreamError(reason) from None


def is_filled(delta: Fields) -> bool:
    """Whether a delta or message holds output of the model."""
    return any(name != "role" and bytes(value) not in _EMPTY for name, value in delta.items())
