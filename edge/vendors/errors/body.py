"""Parse the error body of an upstream, whatever its shape.

Known shapes: OpenAI's and Anthropic's `{"error": {...}}`, Google's list of one, FastAPI's and
pydantic's `{"detail": [...]}`, `{"message": ...}`, `{"code", "msg"}`, `{"errors": [...]}`, a
provider's own body inside a reseller's (`error.metadata.raw`, JSON within a message), plain text.
Only members that describe an error are read: many servers repeat the request (`input`).
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import unquote

import msgspec

from edge.untyped_json import decode_any

from .retry_after import duration

_LONGEST = 2000
"""The most characters of one message, ten times those of a path. Some repeat a whole request."""
_MOST_TEXT = 4000
_MOST = 200
"""The most values that are read."""
_DEEPEST = 8
_MESSAGES = frozenset(
    (
        *("message", "msg", "Message", "error", "error_msg", "errorMessage", "error_message"),
        *("error_description", "detail", "description", "title", "status_msg", "raw"),
    )
)
_CODES = frozenset(
    (
        *("code", "type", "status", "reason", "error_code", "errorCode", "error_type"),
        *("Code", "__type", "status_code", "blockReason"),
    )
)
_WITHIN = frozenset(
    (
        *("details", "errors", "metadata", "innererror", "inner_error", "base_resp"),
        *("response", "body", "fieldViolations"),
    )
)
_PATHS = frozenset(("param", "field", "parameter"))
_SECONDS = frozenset(("retryDelay", "retry_after", "retryAfter", "retry_after_seconds"))
_PART = re.compile(r"[A-Za-z_][\w-]*")


class ErrorBody(msgspec.Struct):
    """The parsed error body.

    messages: the texts, outermost first. codes: its codes, types and reasons, in lower case.
    paths: of the request's members at fault, from members that name them.
    wait: seconds to wait, None without such a member. flagged: a moderation refused it.
    """

    messages: list[str]
    codes: set[str]
    paths: list[str]
    wait: float | None = None
    flagged: bool = False

    @property
    def text(self) -> str:
        """All messages that were read."""
        return "\n".join(self.messages)[:_MOST_TEXT]


def read_error(body: bytes) -> ErrorBody:
    """Parse `body`. Never raises; text that is no JSON becomes the message."""
    error = ErrorBody([], set(), [])
    text = body.decode("utf-8", "replace").lstrip("\ufeff").strip()
    try:
        value = decode_any(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = text[:_LONGEST]
    reading = _Reading(error)
    reading.read(value, 0)
    if not error.messages and error.wait is None:
        error.messages = [each[:_LONGEST] for each in islice(_texts(value, 0), _MOST)]
    return error


class _Reading:
    def __init__(self, error: ErrorBody) -> None:
        self._error = error
        self._left = _MOST

    def read(self, value: Any, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            return
        if isinstance(value, str):
            self._message(value, depth)
        elif isinstance(value, list):
            for each in value[:_MOST]:
                self.read(each, depth + 1)
        elif isinstance(value, dict):
            for name, member in value.items():
                self._member(name, member, depth)

    def _member(self, name: str, value: Any, depth: int) -> None:
        error = self._error
        if name in _CODES and isinstance(value, str | int):
            error.codes.add(str(value)[: _LONGEST // 10].lower())
        elif name in _PATHS and isinstance(value, str):
            error.paths.append(value[: _LONGEST // 10])
        elif name == "loc" and isinstance(value, list):
            error.paths.append(_joined(value)[: _LONGEST // 10])
        elif name == "reasons" and isinstance(value, list) and value:
            error.flagged = True
        elif name in _SECONDS:
            error.wait = duration(value)
        elif name == "retry_after_ms" and (wait := duration(value)) is not None:
            error.wait = wait / 1000
        elif name in _MESSAGES or (name in _WITHIN and not isinstance(value, str)):
            self.read(value, depth + 1)

    def _message(self, text: str, depth: int) -> None:
        text = text.strip()
        if text.startswith(("{", "[")):
            try:
                value = decode_any(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
            else:
                return self.read(value, depth + 1)
        if "%20" in text:  # xAI escapes some messages
            text = unquote(text)
        text = text[:_LONGEST].replace("\u2019", "'")
        if text and text not in self._error.messages:
            self._error.messages.append(text)


def _joined(loc: list[Any]) -> str:
    """A pydantic path in OpenAI's form; parts that are no name are pydantic's tags."""
    path = ""
    for part in loc:
        if isinstance(part, int) and path:
            path += f"[{part}]"
        elif isinstance(part, str) and _PART.fullmatch(part) and (path or part != "body"):
            path += f".{part}" if path else part
    return path


def _texts(value: Any, depth: int) -> Iterator[str]:
    """Every text of a body without known members."""
    if isinstance(value, str):
        yield value
    elif depth <= _DEEPEST:
        if isinstance(value, dict):
            value = [member for name, member in value.items() if name not in ("input", "ctx")]
        if isinstance(value, list):
            for each in value[:_MOST]:
                yield from _texts(each, depth + 1)
