"""An event loop in which time passes only when everybody waits, and then at once.

def test_an_hour() -> None:
    async def main() -> None:
        await asyncio.sleep(3600)
    simulate(main())
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = 1_800_000_000.0
"""Unix seconds at which a simulated loop begins."""


class _Leaping(selectors.SelectSelector):
    """Waits for nothing: moves the clock of the loop on to when the next timer is due."""

    loop: "SimulatedLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everything waits, and nothing is going to happen")
        if timeout > 0:
            self.loop.now += timeout
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """now: seconds since the loop was made."""

    def __init__(self) -> None:
        selector = _Leaping()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def simulate(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a loop of its own."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def unix() -> float:
    """Unix seconds in the running loop."""
    return EPOCH + asyncio.get_running_loop().time()
