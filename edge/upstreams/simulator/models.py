"""GET /v1/models and /v1/models/ID. Every other model name works too."""

from typing import Any
from urllib.parse import unquote

import msgspec

from middlewares.exchange import Dialect

from .chat import CREATED

SEEING = "sim-eye"
"""Models whose names start so always say which media they see."""
MODELS = ("sim-1", "sim-2", "sim-embed")
_encode = msgspec.json.Encoder().encode


def body(path: str, dialect: Dialect) -> bytes:
    """The list, or the one model whose id is the rest of the path."""
    wanted = unquote(path.rpartition("/models")[2].lstrip("/"))
    describe = _anthropic if dialect == "anthropic" else _openai
    if wanted:
        return _encode(describe(wanted))
    data = [describe(name) for name in MODELS]
    if dialect != "anthropic":
        return _encode({"object": "list", "data": data})
    ends = {"first_id": MODELS[0], "last_id": MODELS[-1], "has_more": False}
    return _encode({"data": data, **ends})


def _openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "SimProvider"}


def _anthropic(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
    }
