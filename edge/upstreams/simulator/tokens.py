"""The simulator's tokenizer: word pieces of up to six characters, with the space before them."""

import re

_PIECE = re.compile(r"\s*\w{1,6}|\s*[^\w\s]{1,3}|\s+")


def pieces(text: str) -> list[str]:
    """The tokens of `text`; joined they are `text` again."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """How many tokens `text` has."""
    return sum(1 for _ in _PIECE.finditer(text))
