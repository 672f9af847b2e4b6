"""What the target of an attempt takes besides data in the body."""

from msgspec import Struct

from edge.endpoints import Endpoint
from edge.proxy.translate import UPSTREAMS
from edge.upstreams.provider import Provider
from middlewares.exchange import Dialect, Exchange


class Destination(Struct, frozen=True):
    """A target: its dialect, whether it keeps files, and whether it fetches links."""

    dialect: Dialect
    files: bool
    fetches_urls: bool


def destination_of(exchange: Exchange, provider: Provider) -> Destination:
    """The destination of an attempt at `provider`: the caller's dialect where it speaks it."""
    row: Endpoint = exchange.row
    dialect = row.dialect if row.upstream_path else None
    if dialect not in provider.dialects:
        dialect = next((one for one in UPSTREAMS if one in provider.dialects), exchange.dialect)
    assert dialect is not None
    return Destination(dialect, provider.files, provider.fetches_urls)
