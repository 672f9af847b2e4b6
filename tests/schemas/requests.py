"""What goes to an upstream, held against the request types of its vendor's SDK."""

from collections.abc import Collection
from functools import cache
from typing import Any, Literal

from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)

from .rules import ANYTHING, NAME, record
from .surfaces import decode
from .validators import Checker, schema_of

RequestDialect = Literal["chat", "messages", "responses"]

_KINDS: dict[RequestDialect, Any] = {
    "chat": CompletionCreateParamsNonStreaming | CompletionCreateParamsStreaming,
    "messages": MessageCreateParamsNonStreaming | MessageCreateParamsStreaming,
    "responses": ResponseCreateParamsNonStreaming | ResponseCreateParamsStreaming,
}

_NEEDED = {
    "chat": record({"model": NAME, "messages": ANYTHING}),
    "messages": record({"model": NAME, "messages": ANYTHING}),
    "responses": record({"model": NAME, "input": ANYTHING}),
}
"""Responses may do without them when a template of the vendor's is named, which we never do."""


def check_request(dialect: RequestDialect, value: Any, *, extensions: Collection[str] = ()) -> Any:
    """Hold a request, as JSON or bytes, against the vendor's parameters, and give it back decoded.

    A key that the vendor does not know is refused at any depth, but for those in `extensions`:
    names that servers take in fact, such as `reasoning_content`. They are not looked into.

    Raises AssertionError with the JSON path and what was expected there.
    """
    if isinstance(value, bytes):
        value = decode(value, dialect)
    for checker in _checkers(dialect):
        checker.refuse(dialect, _without(value, frozenset(extensions)))
    return value


@cache
def _checkers(dialect: RequestDialect) -> tuple[Checker, Checker]:
    return Checker(schema_of(_KINDS[dialect], closed=True)), Checker(_NEEDED[dialect])


def _without(value: Any, names: frozenset[str]) -> Any:
    if not names:
        return value
    if isinstance(value, dict):
        return {k: _without(item, names) for k, item in value.items() if k not in names}
    return [_without(item, names) for item in value] if isinstance(value, list) else value
