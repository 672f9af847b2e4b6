"""Exchanges as the router leaves them."""

from typing import Any

from edge.endpoints import BY_NAME
from edge.routing.catalog import Catalog
from middlewares import Exchange


def exchange_at(endpoint: str, **fields: Any) -> Exchange:
    """An exchange of the endpoint of that name."""
    row = BY_NAME[endpoint]
    dialect = fields.pop("dialect", row.dialect or "openai")
    return Exchange(endpoint=endpoint, row=row, dialect=dialect, **fields)


def resolve(exchange: Exchange, catalog: Catalog) -> Exchange:
    """The same exchange, with the models that intake finds in `catalog`."""
    exchange.resolved = tuple(map(catalog.find, (exchange.model, *exchange.models)))
    return exchange
