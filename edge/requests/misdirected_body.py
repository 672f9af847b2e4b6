"""Recognise bodies of one endpoint that clients send to the path of another."""

from collections.abc import Collection


def speaks_responses(names: Collection[str]) -> bool:
    """Whether a body at the Chat path is one of Responses, as Cursor sends it."""
    return "input" in names and "messages" not in names
