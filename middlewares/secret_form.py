"""The form of API keys: how text that holds one is recognised, whatever the keys begin with."""

import re

RANDOM_LENGTH = 43
"""Random characters of a key, digits and ASCII letters: 62^43 is a little more than 2^256."""
_LONGEST_PREFIX = 60

_MINTED = re.compile(
    rf"([A-Za-z][A-Za-z0-9_-]{{0,{_LONGEST_PREFIX - 2}}}[_-])([0-9A-Za-z]{{{RANDOM_LENGTH}}})"
)
_IN_TEXT = re.compile(rf"(?<=[0-9A-Za-z_-][_-])[0-9A-Za-z]{{{RANDOM_LENGTH}}}(?![0-9A-Za-z])")
_LEAST_RUN = 32
SECRET_RUN = re.compile(
    r"(?<![0-9A-Za-z])(?!(?:[0-9a-f]+|[0-9A-F]+)(?![0-9A-Za-z]))(?!([0-9A-Za-z])\1{15})"
    rf"[0-9A-Za-z]{{{_LEAST_RUN},}}"
)
"""Digits and letters in a row that may be the random part of a key, or most of it. Hexadecimal
digests and ids are not."""


def parts_of(secret: str) -> tuple[str, str] | None:
    """What a whole key begins with, and its random part; None for other text."""
    match = _MINTED.fullmatch(secret)
    return None if match is None else (match[1], match[2])


def names_key(text: str) -> bool:
    """Whether `text` has a whole key in it."""
    return len(text) > RANDOM_LENGTH and _IN_TEXT.search(text) is not None


def may_hold_key(text: str) -> bool:
    """Whether `text`, which is to be shown, may have a key or most of one in it, of this gateway
    or of a vendor. Names few that are none."""
    return "sk-" in text or (len(text) >= _LEAST_RUN and SECRET_RUN.search(text) is not None)
