"""Requirements of model families on a history, known by the model's name.

Sources: Mistral's API (ids of nine letters and digits; only the assistant may follow a tool result;
unknown members are refused), and the tool-use guides of vendors that require earlier thinking
between two calls.
"""

import re
from base64 import b32encode
from functools import lru_cache
from hashlib import sha256

from edge.dialects import tool_names

_MISTRAL = re.compile(r"mi[sx]tral|ministral|magistral|devstral|codestral|pixtral|voxtral")
_REPLAYED = re.compile(r"deepseek|kimi|moonshot|minimax|glm|qwen|mimo")
_MODELS = 256
_NINE = re.compile(r"[a-zA-Z0-9]{9}")


@lru_cache(_MODELS)
def wants_thinking(model: str) -> bool:
    """Whether the thinking of earlier turns is sent, as `reasoning_content`."""
    return _REPLAYED.search(model.lower()) is not None


@lru_cache(_MODELS)
def user_may_follow_tool(model: str) -> bool:
    """Whether a user message may directly follow a tool result."""
    return _MISTRAL.search(model.lower()) is None


@lru_cache(_MODELS)
def refuses_unknown(model: str) -> bool:
    """Whether the server refuses unknown members."""
    return _MISTRAL.search(model.lower()) is not None


def call_id(id_: str, model: str) -> str:
    """The id of a call within `model`'s limits; the same for the same id."""
    if user_may_follow_tool(model):
        return tool_names.call_id(id_, "openai")
    if _NINE.fullmatch(id_):
        return id_
    return b32encode(sha256(id_.encode("utf-8", "surrogatepass")).digest()).decode()[:9]
