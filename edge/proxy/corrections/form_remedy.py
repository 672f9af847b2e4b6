"""Corrections of forms: a form of the answer that the target does not have is not asked for again.

Transcribers that only know `json` refuse `verbose_json`, and models of images `b64_json`. The
gateway makes the requested form of whichever comes.
"""

from collections.abc import Iterable

from msgspec import Struct

from edge.media.forms import FormBody, FormField, Part, plain_name

from .change import Correction

_FORMAT, _DETAILS = "response_format", "timestamp_granularities"
_STATUSES = frozenset((400, 422))
_PLAIN = Correction("plain_transcript", _FORMAT, lasting=True)
_NONE = Correction("drop", _FORMAT, lasting=True)


class FormRemedy(Struct, frozen=True):
    """A corrected form, and what was changed."""

    changes: tuple[Correction, ...]
    body: FormBody


def find_form_remedy(status: int, refusal: bytes, body: FormBody) -> FormRemedy | None:
    """A correction of `body` that the target may accept, after it refused it with `refusal`."""
    if status not in _STATUSES or _FORMAT.encode() not in refusal:
        return None
    for change in (_PLAIN, _NONE):
        made = _corrected(body, change)
        if made is not body:
            return FormRemedy((change,), made)
    return None


def apply_form_corrections(body: FormBody, changes: Iterable[Correction]) -> FormRemedy:
    """`body` with those of `changes` that are of forms."""
    made = []
    for change in changes:
        corrected = _corrected(body, change)
        if corrected is not body:
            made.append(change)
            body = corrected
    return FormRemedy(tuple(made), body)


def _corrected(body: FormBody, change: Correction) -> FormBody:
    """`body` itself if nothing changes."""
    value = next((part.value for part in _fields(body) if part.name == _FORMAT), "")
    if change == _PLAIN and value == "verbose_json" and not _wants_words(body):
        parts: list[Part] = []
        for part in body.parts:
            if isinstance(part, FormField) and part.name == _FORMAT:
                part = FormField(_FORMAT, "json")
            if plain_name(part.name) != _DETAILS:
                parts.append(part)
        return FormBody(parts)
    if change == _NONE and value in ("b64_json", "url"):
        return FormBody([part for part in body.parts if part.name != _FORMAT])
    return body


def _wants_words(body: FormBody) -> bool:
    """Whether the answer needs times of words, which the form `json` does not have."""
    return any(plain_name(p.name) == _DETAILS and p.value == "word" for p in _fields(body))


def _fields(body: FormBody) -> Iterable[FormField]:
    return (part for part in body.parts if isinstance(part, FormField))
