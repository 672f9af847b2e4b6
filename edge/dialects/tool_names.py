"""Ids of calls and names of tools, within the limits of each dialect.

Valid ids and names pass unchanged. Others are mapped, never cut, and deterministically, so that a
call, its result and its definition still match without any state.
Sources: Anthropic API, "tool use" (both alphabets, 64); OpenAI API, chat (ids of 40) and responses
(call ids of 64).
"""

import re
from base64 import b32encode
from collections.abc import Iterable
from hashlib import sha256

_ALPHABET = re.compile(r"[a-zA-Z0-9_-]+")
_ID_LENGTH = {"openai": 40, "responses": 64, "anthropic": 256}
_ID_PREFIX = {"openai": "call_", "responses": "call_", "anthropic": "toolu_"}
_NAME_LENGTH = 64
_KEPT = 55


def call_id(id_: str, dialect: str) -> str:
    """`id_`, not empty, within the limits of `dialect` ("openai", "responses", "anthropic")."""
    if len(id_) <= _ID_LENGTH[dialect] and _ALPHABET.fullmatch(id_):
        return id_
    return _ID_PREFIX[dialect] + _digest(id_)


def new_call_id(seed: str, dialect: str) -> str:
    """A new id, the same for the same seed."""
    return _ID_PREFIX[dialect] + _digest(seed)


def tool_name(name: str, taken: Iterable[str] = ()) -> str:
    """`name` within the limits of every dialect: at most 64 letters, digits, `_` and `-`.

    A name that is too long or has other characters keeps its first 55 and gets a digest, and so
    does one that is already `taken`.
    """
    if len(name) <= _NAME_LENGTH and _ALPHABET.fullmatch(name) and name not in taken:
        return name
    legal = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:_KEPT]
    return f"{legal}_{sha256(name.encode()).hexdigest()[:8]}"


def _digest(text: str) -> str:
    return b32encode(sha256(text.encode("utf-8", "surrogatepass")).digest()).decode()[:24]
