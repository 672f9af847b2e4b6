"""Waiting for what only the operating system can bring about."""

import asyncio
from collections.abc import Callable

DEADLINE = 120.0
"""Seconds any one wait may take. Only a failing test waits so long, so it is generous."""


async def until(true: Callable[[], bool], *, within: float = DEADLINE) -> None:
    """Until `true` is. Raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.005)
