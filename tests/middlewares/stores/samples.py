"""Keys and teams for tests."""

from itertools import count
from typing import Any

from middlewares.stores import Key, digest, mint, prefix
from middlewares.stores.teams.base import TeamRecord

_numbers = count(1)


def new_key(**fields: Any) -> tuple[Key, str]:
    """A key not yet in any store, and its secret."""
    secret = mint("Penstock")
    number = next(_numbers)
    made = {
        "id": f"key_{number}",
        "digest": digest(secret),
        "prefix": prefix(secret),
        "created_at": float(number),
        **fields,
    }
    return Key(**made), secret


def new_team(**fields: Any) -> TeamRecord:
    """A team not yet in any store."""
    number = next(_numbers)
    return TeamRecord(**{"id": f"team_{number}", "created_at": float(number), **fields})
