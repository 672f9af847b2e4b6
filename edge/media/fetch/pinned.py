"""Lookups of the fetcher: every address is checked, and only checked ones are connected to."""

from collections.abc import Callable

from middlewares.dns import Address, Lookup, LookupFailed, shown

from .addresses import refusal_of
from .links import Link, Refused
from .rules import FetchRules

Route = Callable[[list[Address]], list[Address]]
"""Where checked addresses are connected to."""


class Pinned(Lookup):
    """A lookup that answers with addresses which have been checked, whatever the name."""

    def __init__(self, addresses: list[Address]) -> None:
        super().__init__()
        self._addresses = addresses

    async def __call__(self, host: str, port: int) -> list[Address]:
        return self._addresses


async def pin(link: Link, rules: FetchRules, lookup: Lookup, route: Route) -> Pinned:
    """Look the host of `link` up once. Raises Refused unless every address may be fetched from."""
    try:
        addresses = await lookup(link.host, link.port)
    except LookupFailed as error:
        raise Refused("unresolved", str(error)) from None
    for address in addresses:
        why = refusal_of(shown(address), denied=rules.denied, allowed=rules.allowed)
        if why:
            raise Refused("refused", f"{link.host}: {why}")
    return Pinned(route(addresses))
