"""Check passwords one at a time in a thread, with few that wait."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

from .throttle import too_many

_QUEUE = 4
"""Attempts that wait for the one that is being checked."""
_POOL = ThreadPoolExecutor(max_workers=1, thread_name_prefix="password")


class PasswordCheck:
    """Checks passwords of one process. A hash takes 19 MiB and 32 ms, so there is one at a time."""

    def __init__(self) -> None:
        self._running = 0

    async def matches(self, hashed: str, password: str) -> bool:
        """Whether `password` has this hash. Raises Problem where too many wait already."""
        if self._running > _QUEUE:
            raise too_many(1)
        self._running += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(_POOL, compare, hashed, password)
        finally:
            self._running -= 1


def compare(hashed: str, password: str) -> bool:
    """Whether `password` has this hash; the thread runs it."""
    found: bool = import_module(f"{__package__}.password_hash").matches(hashed, password)
    return found


PASSWORDS = PasswordCheck()
"""That of this process."""
