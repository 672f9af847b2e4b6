"""Caller-defined metadata of a request, in Chat and Responses.

Both take 16 pairs, names of 64 characters and values of 512 (OpenAI API reference, "metadata").
Messages has only `metadata.user_id`.
"""

from typing import Any

MOST_PAIRS = 16
LONGEST_NAME = 64
LONGEST_VALUE = 512


def openai_metadata(metadata: dict[str, Any] | None, dropped: list[str]) -> dict[str, str]:
    """The pairs that OpenAI's dialects accept; numbers and booleans as text. Others are noted."""
    taken: dict[str, str] = {}
    for name, value in (metadata or {}).items():
        text = _text(value)
        if text is not None and len(text) <= LONGEST_VALUE and len(name) <= LONGEST_NAME:
            taken[name] = text
            if len(taken) == MOST_PAIRS:
                break
    if metadata and len(taken) < len(metadata):
        dropped.append("`metadata`: some of its pairs")
    return taken


def user_of(metadata: dict[str, Any] | None, dropped: list[str]) -> str:
    """The `user_id` in `metadata`, "" without one. Other members are noted as dropped."""
    user = (metadata or {}).get("user_id")
    known = isinstance(user, str)
    if metadata and len(metadata) > known:
        dropped.append("`metadata`")
    return str(user) if known else ""


def _text(value: Any) -> str | None:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    return None
