"""Exchanges as the router leaves them."""

from typing import Any

from edge.endpoints import BY_NAME
from middlewares import Exchange


def exchange_at(endpoint: str, **fields: Any) -> Exchange:
    """An exchange of the endpoint of that name."""
    row = BY_NAME[endpoint]
    dialect = fields.pop("dialect", row.dialect or "openai")
    return Exchange(endpoint=endpoint, row=row, dialect=dialect, **fields)
