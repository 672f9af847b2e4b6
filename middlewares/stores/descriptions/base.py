"""A cache of texts that describe media, by owner, with a lease for each text that is being made.

A key of one owner says nothing about another's: neither its text nor the time it takes.
"""

from collections.abc import Collection, Mapping
from typing import Protocol


class DescriptionStore(Protocol):
    """Descriptions. Times are Unix seconds; every method may raise StoreUnavailable."""

    async def find(self, owner: str, keys: Collection[str], now: float) -> Mapping[str, str]:
        """The texts that this owner has for `keys` and that are not too old."""
        ...

    async def claim(self, owner: str, key: str, token: str, now: float, until: float) -> bool:
        """Claim a key that has no text, until `until`. False while another holder has it."""
        ...

    async def renew(self, owner: str, key: str, token: str, until: float) -> None:
        """Extend a claim."""
        ...

    async def save(self, owner: str, key: str, token: str, text: str, now: float) -> None:
        """Store the text of a claimed key, and remove the least recently used of too many."""
        ...

    async def release(self, owner: str, key: str, token: str) -> None:
        """Give up a claim without a text."""
        ...

    async def purge(self, now: float) -> int:
        """Remove what is too old. Returns how many."""
        ...
