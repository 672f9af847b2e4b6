"""What each target was found not to take, so that the requests after begin with it corrected."""

from collections.abc import Callable, Iterable
from time import monotonic

from middlewares.bounded_map import BoundedMap
from middlewares.exchange import Target

from .change import Correction


class Learned:
    """Lasting changes by target, for `keep` seconds each; then the target is asked again as ever.

    most: targets that are remembered; beyond, the one that was learnt of longest ago is forgotten.
    each: changes of one target. clock: seconds.
    """

    def __init__(
        self,
        *,
        keep: float = 3600.0,
        most: int = 1000,
        each: int = 16,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._keep = keep
        self._each = each
        self._clock = clock
        self._targets: BoundedMap[Target, dict[Correction, float]] = BoundedMap(most)

    def __bool__(self) -> bool:
        """Whether anything is remembered."""
        return bool(self._targets)

    def of(self, target: Target) -> tuple[Correction, ...]:
        """The changes to make before `target` is asked."""
        known = self._targets.get(target)
        if known is None:
            return ()
        now = self._clock()
        for change in [change for change, until in known.items() if until <= now]:
            del known[change]
        if not known:
            del self._targets[target]
        return tuple(known)

    def add(self, target: Target, changes: Iterable[Correction]) -> None:
        """Remember those of `changes` that last: with them `target` has answered."""
        lasting = [change for change in changes if change.lasting]
        if not lasting:
            return
        known = self._targets.get(target, {})
        until = self._clock() + self._keep
        for change in lasting:
            if len(known) < self._each:
                known[change] = until
        self._targets.put(target, known)
