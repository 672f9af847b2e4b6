"""Ledger rows for tests."""

from itertools import count
from typing import Any

from middlewares.stores.ledger.base import Entry

_numbers = count(1)


def use(**fields: Any) -> Entry:
    """A row of a request, with an id and a time that no other has."""
    number = next(_numbers)
    made: dict[str, Any] = {
        "id": f"req_{number:08d}",
        "account": "key_1",
        "at": 1000.0 + number,
        "ended_at": 1001.0 + number,
        "model": "m",
        "cost": 7,
        **fields,
    }
    return Entry(**made)


def credit(granted: int, **fields: Any) -> Entry:
    return use(kind="credit", granted=granted, cost=0, model="", **fields)
