"""Where conversations were answered last: what a store of that must do, and the one in memory.

What is kept makes answers cheaper and keeps signatures readable; no answer depends on it. So no
store of it ever raises, and what one has lost is only not known any more.
"""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Generic, Protocol, TypeVar

import msgspec

from middlewares._shared import Shared

T = TypeVar("T")


class Bond(msgspec.Struct, frozen=True, array_like=True):
    """Where a conversation was answered last.

    target: "upstream/its-model"; maker: fingerprint of what answers there.
    since: the message from which on everything that only one maker can read is this one's.
    """

    target: str
    maker: str
    since: int = 0


class Bonds(Protocol):
    """Bonds by the key of a conversation, each for a while after it was last kept."""

    async def start(self) -> None:
        """Connect. Returns in bounded time, whether there is a connection or not."""
        ...

    async def aclose(self) -> None:
        """Let go. Idempotent."""
        ...

    async def find(self, key: str) -> Bond | None:
        """What is known. Never raises, and returns in bounded time."""
        ...

    def keep(self, key: str, bond: Bond) -> None:
        """The conversation was answered there. Waits for nobody."""
        ...


class Recent(Generic[T]):
    """What was put under a key, for `seconds`; of more than `most`, those asked for last."""

    __slots__ = ("_clock", "_known", "_most", "_seconds")

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]) -> None:
        if most < 1 or not seconds > 0:
            raise ValueError(f"most {most}, keep {seconds}: expected at least 1, for a while")
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._known: OrderedDict[str, tuple[T, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> T | None:
        """What is there."""
        known = self._known.get(key)
        if known is None:
            return None
        if known[1] <= self._clock():
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return known[0]

    def put(self, key: str, value: T, until: float | None = None) -> None:
        """From now on, and for `seconds`, or until then."""
        self._known[key] = (value, self._clock() + self._seconds if until is None else until)
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)


class MemoryBonds(Shared):
    """`Bonds` of one process, forgotten when it ends.

    most: conversations, at most; those longest unheard of go first. keep: seconds after the last
    answer. clock: seconds.
    """

    __slots__ = ("_recent",)

    def __init__(
        self, *, most: int = 100_000, keep: float = 3600.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._recent: Recent[Bond] = Recent(most, keep, clock)

    def __len__(self) -> int:
        """How many conversations are known, those included whose time is over."""
        return len(self._recent)

    async def start(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""

    async def find(self, key: str) -> Bond | None:
        return self._recent.get(key)

    def keep(self, key: str, bond: Bond) -> None:
        self._recent.put(key, bond)
