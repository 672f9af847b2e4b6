"""Attributes of a span that the answer of an upstream gives: id, model, why it ended.

An answer is a JSON object or an event stream, of any dialect. Its form decides how it is read: some
upstreams answer in another than was requested. Of a long answer only both ends are known, and what
they do not have is left out. Values are ids and words: no text of an answer can come along.
"""

import re
from collections.abc import Iterator

import msgspec

from middlewares.json_number import number

from . import genai
from .lenient_json import UNREADABLE
from .request_attributes import Attributes

_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,128}")
_MODEL = re.compile(r"[A-Za-z0-9_.:/@ \-]{1,128}")
_REASON = re.compile(r"[A-Za-z][A-Za-z_]{0,31}")
_MAX_CHOICES = 16
_ENDED = re.compile(rb'"status"\s*:\s*"(completed|incomplete)"')
"""Status of a response at the end of an event whose beginning is not known."""
_STATUSES = {"completed": "stop", "failed": "error", "cancelled": "error"}
_INCOMPLETE = {"max_output_tokens": "length"}


class _Choice(msgspec.Struct):
    finish_reason: object = None


class _Details(msgspec.Struct):
    reason: object = None


class _Delta(msgspec.Struct):
    stop_reason: object = None


class _Answer(msgspec.Struct):
    """An answer, or one event of a stream, of any dialect."""

    id: object = None
    model: object = None
    choices: list[_Choice] | None = None
    stop_reason: object = None
    status: object = None
    incomplete_details: _Details | None = None
    delta: _Delta | str | None = None
    message: "_Answer | str | None" = None
    response: "_Answer | None" = None


_decode = msgspec.json.Decoder(_Answer, float_hook=number).decode


def answer_attributes(head: bytes, tail: bytes = b"") -> Attributes:
    """Attributes of an answer. tail: its end, where it is longer than `head`."""
    answers = list(_answers(head))
    answers += _answers(tail.partition(b"\n\n")[2]) if tail else ()
    found: Attributes = {}
    reasons: list[str] = []
    for answer in answers:
        for name, pattern, value in (
            (genai.RESPONSE_ID, _ID, answer.id),
            (genai.RESPONSE_MODEL, _MODEL, answer.model),
        ):
            if name not in found and isinstance(value, str) and pattern.fullmatch(value):
                found[name] = value
        reasons += _reasons(answer)
    if not reasons and (ended := _ENDED.findall(tail)):
        reasons.append("stop" if ended[-1] == b"completed" else "length")
    if reasons:
        found[genai.RESPONSE_FINISH] = tuple(reasons[:_MAX_CHOICES])
    return found


def _answers(text: bytes) -> Iterator[_Answer]:
    """The answer, or those of the events of a stream, without what wraps them."""
    body = text.lstrip(b"\xef\xbb\xbf \t\r\n")
    pieces = [body] if body.startswith(b"{") else _data_of(body)
    for piece in pieces:
        try:
            answer = _decode(piece)
        except UNREADABLE:
            continue
        inner = answer.response or answer.message
        yield inner if isinstance(inner, _Answer) else answer


def _data_of(stream: bytes) -> Iterator[bytes]:
    """Data of events that may have something; the deltas of a long answer are passed over."""
    for line in stream.splitlines():
        if line.startswith(b"data:") and any(word in line for word in _TELLING):
            yield line[5:].strip()


_TELLING = (b'"id"', b'"stop_reason"', b'"finish_reason"')


def _reasons(answer: _Answer) -> Iterator[str]:
    """Why the model ended, for each choice."""
    for choice in answer.choices or ():
        yield from _word(choice.finish_reason)
    if isinstance(answer.delta, _Delta):
        yield from _word(answer.delta.stop_reason)
    yield from _word(answer.stop_reason)
    if answer.incomplete_details is not None and answer.status == "incomplete":
        reason = answer.incomplete_details.reason
        yield from _word(_INCOMPLETE.get(reason, reason) if isinstance(reason, str) else None)
    elif isinstance(answer.status, str) and answer.status in _STATUSES:
        yield _STATUSES[answer.status]


def _word(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) and _REASON.fullmatch(value) else ()
