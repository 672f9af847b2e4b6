"""A dashboard for each test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from .visits import Site

OpenSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def open_site() -> AsyncIterator[OpenSite]:
    """Opens dashboards with settings of their own, and closes them."""
    opened: list[Site] = []

    async def open_one(*args: Any, **document: Any) -> Site:
        site = await Site.open(*args, **document)
        opened.append(site)
        return site

    yield open_one
    for site in opened:
        await site.aclose()


@pytest.fixture
async def site(open_site: OpenSite) -> Site:
    """A dashboard at localhost."""
    return await open_site()
