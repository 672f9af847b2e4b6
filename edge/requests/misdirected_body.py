"""Bodies of one endpoint that clients send to the path of another."""

from collections.abc import Collection


def speaks_responses(names: Collection[str]) -> bool:
    """Some clients send the body of another endpoint to the chat path (Cursor does)."""
    return "input" in names and "messages" not in names
