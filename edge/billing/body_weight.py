"""What the token estimate of a body that is not decoded depends on, for the body or its pieces."""

from string import ascii_lowercase

from msgspec import Struct

from .learned_factors import PER_BYTE
from .media_tokens import MAX_MEDIA, media_in

_COMMON = (ascii_lowercase + " ").encode()
_OTHERS = bytes(one not in _COMMON for one in range(256))
"""A table for `bytes.translate`: 1 for all other bytes."""
_LEAST_COMMON, _LEAST_OTHER = 0.2, PER_BYTE
"""Minimum tokens per byte of small letters and spaces, and of all other bytes."""
_LEAST_WORD, _LEAST_LONG_WORDS = 6, 0.3
"""Small letters beyond `_LEAST_WORD` per other byte are not words and add this each."""
_SHORT = 64 << 10
"""Bytes up to which removing letters and spaces is quicker than marking the others."""
_PIECE = 1 << 20
"""Bytes counted per call."""


class BodyWeight(Struct, frozen=True):
    """The sum of two is the weight of both pieces together, up to `MAX_MEDIA` media.

    size: bytes. others, spaces: bytes that are neither small letters nor spaces, and spaces.
    tools: whether it has the member. file_ids: files that it names. media: its embedded media, with
    their bytes; media_tokens: their tokens and those of linked media.
    """

    size: int
    others: int
    spaces: int
    tools: bool
    file_ids: int
    media: int
    media_bytes: int
    media_tokens: int

    @property
    def measured(self) -> bool:
        """Whether a sum of weights has measured all media as one body would."""
        return self.media <= MAX_MEDIA

    @property
    def least(self) -> float:
        """Minimum tokens of its text, at most `PER_BYTE` per byte.

        It limits how far the learned factor of one text can lower the reservation of the next.
        """
        letters = self.size - self.others - self.spaces
        least = (self.size - self.others) * _LEAST_COMMON + self.others * _LEAST_OTHER
        beyond = max(0, letters - _LEAST_WORD * (self.others + self.spaces))
        return least + beyond * _LEAST_LONG_WORDS

    def __add__(self, other: "BodyWeight") -> "BodyWeight":
        """The weight of both."""
        return BodyWeight(
            self.size + other.size,
            self.others + other.others,
            self.spaces + other.spaces,
            self.tools or other.tools,
            self.file_ids + other.file_ids,
            self.media + other.media,
            self.media_bytes + other.media_bytes,
            self.media_tokens + other.media_tokens,
        )


def body_weight(piece: bytes) -> BodyWeight:
    """The weight of a piece of a body that ends between two values."""
    media, media_bytes, media_tokens = media_in(piece)
    others, spaces = (0, 0) if media_bytes else count_bytes(piece)
    return BodyWeight(
        len(piece),
        others,
        spaces,
        b'"tools"' in piece,
        piece.count(b'"file_id"'),
        media,
        media_bytes,
        media_tokens,
    )


def least_tokens(body: bytes) -> float:
    """`BodyWeight.least` of a body without media."""
    return BodyWeight(len(body), *count_bytes(body), False, 0, 0, 0, 0).least


def count_bytes(body: bytes) -> tuple[int, int]:
    """Bytes that are neither small letters nor spaces, and spaces."""
    size = len(body)
    if size <= _SHORT:
        return len(body.translate(None, _COMMON)), body.count(b" ")
    others = 0
    for at in range(0, size, _PIECE):
        piece = body if size <= _PIECE else body[at : at + _PIECE]
        others += piece.translate(_OTHERS).count(1)
    return others, body.count(b" ")
