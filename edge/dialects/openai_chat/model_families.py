"""What some families of models want of a history, told by their names.

Sources: Mistral's API (ids of nine letters and digits; after a tool's result only the assistant may
speak; no member it does not know), and the guides to tool use of those who want their thinking back
between two calls.
"""

import re
from base64 import b32encode
from hashlib import sha256

from edge.dialects import tool_names

_MISTRAL = re.compile(r"mi[sx]tral|ministral|magistral|devstral|codestral|pixtral|voxtral")
_REPLAYED = re.compile(r"deepseek|kimi|moonshot|minimax|glm|qwen|mimo")
_NINE = re.compile(r"[a-zA-Z0-9]{9}")


def wants_thinking(model: str) -> bool:
    """Whether the thinking of earlier turns goes back, as `reasoning_content`."""
    return _REPLAYED.search(model.lower()) is not None


def user_may_follow_tool(model: str) -> bool:
    """Whether a message of the user may stand directly behind a tool's result."""
    return _MISTRAL.search(model.lower()) is None


def refuses_unknown(model: str) -> bool:
    """Whether members that are only some servers' own are an error."""
    return _MISTRAL.search(model.lower()) is not None


def call_id(id_: str, model: str) -> str:
    """The id of a call as `model` takes it; the same for the same id."""
    if user_may_follow_tool(model):
        return tool_names.call_id(id_, "openai")
    if _NINE.fullmatch(id_):
        return id_
    return b32encode(sha256(id_.encode("utf-8", "surrogatepass")).digest()).decode()[:9]
