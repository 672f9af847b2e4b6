"""POST /v1/files: a form, streamed into the store while it arrives.

The file may stand before, between or behind the text fields, as clients send it in any order. So
what the fields say is checked when the form has ended, and set on the file before it is ready.
"""

import re
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from edge.media.forms import FileEnd, FileStart, FormEvent, FormField
from middlewares.problem import Problem, expected

PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
USUAL_PURPOSE: Final = "user_data"
"""Of files uploaded in Anthropic's dialect, which names none."""
_BATCH_DAYS = 30
OPENAI_KEEP = 3600, 2_592_000
_ANTHROPIC_KEEP = 3600, 7_776_000
"""Least and most seconds until a file expires."""
_SECONDS = re.compile("[0-9]{1,9}").fullmatch


class FileOptions(msgspec.Struct, frozen=True):
    """What a form says about its file. keep: seconds until it expires; None: for ever."""

    purpose: str
    keep: float | None


class FileForm:
    """The events of one form: its fields are collected, and the bytes of its file passed on."""

    def __init__(self, events: AsyncIterator[FormEvent]) -> None:
        self._events = events
        self._fields: dict[str, str] = {}
        self._start: FileStart | None = None

    async def start(self) -> FileStart:
        """The beginning of the file, after the fields in front of it. Raises Problem."""
        async for event in self._events:
            if isinstance(event, FileStart):
                if event.name != "file":
                    raise expected(event.name, "no file of this name; send it as `file`")
                self._start = event
                return event
            if isinstance(event, FormField):
                self._take(event)
        raise Problem("invalid_request", message="The form has no file.", param="file")

    async def bytes(self) -> AsyncIterator[bytes]:
        """The bytes of the file; then the fields behind it are read too."""
        async for event in self._events:
            if isinstance(event, bytes):
                yield event
            elif isinstance(event, FormField):
                self._take(event)
            elif isinstance(event, FileStart):
                raise expected(event.name, "one file in the form")
            else:
                assert isinstance(event, FileEnd)

    def _take(self, field: FormField) -> None:
        if field.name in self._fields:
            raise expected(field.name, "one value")
        if field.name == "file":
            raise expected("file", "a file; it came as a text field, without a filename")
        self._fields[field.name] = field.value

    def check(self, dialect: str) -> None:
        """Refuse what the fields in front of the file say wrongly, before the file is read."""
        if dialect != "anthropic":
            if "purpose" in self._fields:
                options_of(self._fields["purpose"], None, None)
            _seconds(self._fields, "expires_after[seconds]", *OPENAI_KEEP)
        else:
            options_of(self._fields.get("purpose") or USUAL_PURPOSE, None, None)
            _seconds(self._fields, "expires_in_seconds", *_ANTHROPIC_KEEP)

    def options(self, dialect: str) -> FileOptions:
        """What the fields say; complete when `bytes` has ended. Raises Problem."""
        fields = self._fields
        if dialect == "anthropic":
            keep = _seconds(fields, "expires_in_seconds", *_ANTHROPIC_KEEP)
            usual = options_of(fields.get("purpose") or USUAL_PURPOSE, None, None)
            return FileOptions(usual.purpose, keep)
        return options_of(
            fields.get("purpose"),
            fields.get("expires_after[anchor]"),
            _seconds(fields, "expires_after[seconds]", *OPENAI_KEEP),
        )


def options_of(purpose: object, anchor: object, keep: float | None) -> FileOptions:
    """The options of OpenAI's fields. Raises Problem."""
    if purpose not in PURPOSES:
        raise expected("purpose", f"one of {', '.join(PURPOSES)}")
    if anchor not in (None, "created_at"):
        raise expected("expires_after[anchor]", "created_at")
    if anchor is not None and keep is None:
        raise expected("expires_after[seconds]", "a number of seconds beside the anchor")
    if keep is None and purpose == "batch":
        keep = _BATCH_DAYS * 86400.0
    return FileOptions(str(purpose), keep)


def _seconds(fields: dict[str, str], name: str, least: int, most: int) -> float | None:
    text = fields.get(name)
    if text is None:
        return None
    if not _SECONDS(text) or not least <= int(text) <= most:
        raise expected(name, f"seconds from {least} to {most}")
    return float(text)
