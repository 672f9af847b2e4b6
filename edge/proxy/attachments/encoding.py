"""Base64 of a file within the JSON around it, made piece by piece and held once."""

from base64 import b64encode
from collections.abc import AsyncIterable
from secrets import token_hex
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_PIECE = 3 << 16
"""Bytes that are encoded in one call; a multiple of three."""


def placeholder() -> str:
    """A text that stands for data in a part, which no caller can know."""
    return f"data-{token_hex(16)}"


def encoded_size(size: int) -> int:
    """Characters of `size` bytes in base64."""
    return (size + 2) // 3 * 4


async def with_base64(part: dict[str, Any], mark: str, pieces: AsyncIterable[bytes]) -> msgspec.Raw:
    """`part` as JSON, with the base64 of `pieces` in place of `mark`, which it has once."""
    head, found, tail = _encode(part).partition(mark.encode())
    if not found:
        raise ValueError("the part has no place for data")
    whole = bytearray(head)
    rest = b""
    async for piece in pieces:
        rest += piece
        end = len(rest) // 3 * 3
        for at in range(0, end, _PIECE):
            whole += b64encode(rest[at : min(at + _PIECE, end)])
        rest = rest[end:]
    whole += b64encode(rest)
    whole += tail
    return msgspec.Raw(whole)
