"""Request corrections that are remembered for each target and path."""

from collections.abc import Callable, Iterable
from time import monotonic

from middlewares.bounded_map import BoundedMap
from middlewares.exchange import Target

from .change import Correction


class LearnedCorrections:
    """Lasting corrections by target and path. Each is forgotten after `ttl` seconds.

    What a target refuses in images, it may need in speech: so the path is part of the key.

    max_targets: targets with a path that are remembered; beyond, the oldest one is forgotten.
    max_per_target: corrections of one of them. clock: seconds.
    """

    def __init__(
        self,
        *,
        ttl: float = 3600.0,
        max_targets: int = 1000,
        max_per_target: int = 16,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._ttl = ttl
        self._max_per_target = max_per_target
        self._clock = clock
        self._targets: BoundedMap[tuple[Target, bytes], dict[Correction, float]]
        self._targets = BoundedMap(max_targets)

    def __bool__(self) -> bool:
        """Whether anything is remembered."""
        return bool(self._targets)

    def of(self, target: Target, path: bytes) -> tuple[Correction, ...]:
        """The corrections to make in requests to `target`. path: without a query."""
        known = self._targets.get((target, path))
        if known is None:
            return ()
        now = self._clock()
        for change in [change for change, until in known.items() if until <= now]:
            del known[change]
        if not known:
            del self._targets[target, path]
        return tuple(known)

    def add(self, target: Target, path: bytes, changes: Iterable[Correction]) -> None:
        """Remember the lasting ones of `changes`, with which `target` has answered."""
        lasting = [change for change in changes if change.lasting]
        if not lasting:
            return
        known = self._targets.get((target, path), {})
        until = self._clock() + self._ttl
        for change in lasting:
            if len(known) < self._max_per_target:
                known[change] = until
        self._targets.put((target, path), known)
