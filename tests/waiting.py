"""Waiting for what only the operating system can bring about."""

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], bool], *, within: float = 30.0) -> None:
    """Until `true` is. Raises TimeoutError after `within` seconds: only a failing test waits so
    long."""
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.005)
