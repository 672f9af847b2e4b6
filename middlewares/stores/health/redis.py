"""Circuit breakers shared between processes, in Redis.

    penstock:{breakers}  =  a hash: [upstream, model] -> [state, level, until, wait until, owner,
                            lease, version], times in milliseconds of Redis' clock

One script sends the changes of this process and returns the shared state: once per period, and at
once after a change. No request waits for it. States in the answer:

    "o"   open: it opens here too, for the time left
    "c"   closed, kept for processes that do not know yet: it closes here too
    "-"   only a `retry-after` is known

One process makes the probe of a broken target. The first process with a request for it asks for
leave when the probe is due, sends that request elsewhere, and has leave with Redis' answer, until
another process asks and sees it unused for `lease`. Two may probe at once when leave has just
changed hands (for one period at most), when a request has no other target, when Redis was away, and
when the owner has been silent for `lease`. The breakers allow that: each counts only its own probe.

While Redis is away each process continues with its own state. What it closed meanwhile, the others
find out by their own probes.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex

import msgspec

from middlewares.exchange import Target
from middlewares.shared import Shared
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.outage import Outage
from middlewares.stores.redis_client import Part, RedisLink
from middlewares.stores.redis_scripts import BREAKERS, SCRIPTS

from .breakers import Breakers, News

logger = logging.getLogger(__name__)

KEY = b"penstock:{breakers}"

_BETWEEN = 0.02
"""Least seconds between two calls."""

_PATIENCE = 1.0


class SharedBreakers(Shared):
    """Shares the state of `breakers` with other processes through Redis.

    period: seconds between two calls. lease: seconds for which leave to probe is not given to
    another process. keep: seconds that the hash outlives the last change; half of it, a target.
    most: targets in the hash. shared: whether a target is shared; called only when it fails. It
    should exclude names that clients make up: each call reads all that is shared.
    Raises ValueError for a URL that is not Redis'.
    """

    def __init__(
        self,
        breakers: Breakers,
        url: str,
        *,
        period: float = 0.5,
        lease: float = 2.0,
        keep: float = 1200.0,
        most: int = 10_000,
        shared: Callable[[Target], bool] = lambda target: True,
    ) -> None:
        self._breakers = breakers
        self._shared = shared
        self._period = period
        self._keep_for = int(keep * 1000)
        self._most = most
        self._lease = int(max(lease, 4 * period) * 1000)
        self._name = token_hex(8)
        self._link = RedisLink(url, scripts={BREAKERS: SCRIPTS[BREAKERS]}, timeout=_PATIENCE)
        self.unsent: dict[Target, set[News]] = {}
        """Changes that have not been sent to Redis yet."""
        self._probing: set[Target] = set()
        self.seen: dict[Target, bytes] = {}
        """Versions in the last answer of Redis."""
        self._awake = asyncio.Event()
        self._outage = Outage(
            logger,
            "circuit breakers are not shared, each process has its own",
            "circuit breakers are shared again",
            level=logging.WARNING,
        )
        self._synchronized = False
        """Whether Redis has answered since the start or the last outage."""
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the shared state; without Redis, begin with none."""
        if self._keeping is None:
            await self._link.start()
            self._breakers.share(self._on_news)
            await self._synchronize()
            self._keeping = asyncio.create_task(self._keep())

    async def aclose(self) -> None:
        """Stop sharing. Idempotent."""
        keeping, self._keeping = self._keeping, None
        if keeping is None:
            return
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        self._breakers.alone = True
        self._breakers.share(lambda target, news: None)
        self._synchronized = False
        await self._link.aclose()

    def _on_news(self, target: Target, news: News) -> None:
        """Queue a change. Called on the request path when a target fails."""
        if self._outage.on:
            return  # after the outage all broken targets are sent
        if not self._shared(target):
            self._breakers.grant_probe(target, True)  # no other process could make the probe
            return
        known = self.unsent.get(target)
        if known is None:
            known = self.unsent[target] = set()
        if news == "opened":
            known.discard("closed")
        elif news == "closed":
            known.discard("opened")
        known.add(news)
        self._awake.set()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_BETWEEN)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._period):
                    await self._awake.wait()
            self._awake.clear()
            await self._synchronize()

    async def _synchronize(self) -> None:
        """Send changes and take over the shared state."""
        self._renew()
        news, self.unsent = self.unsent, {}
        parts = [part for target, kinds in news.items() for part in self._written(target, kinds)]
        try:
            answer = await self._link.call(
                b"EVALSHA",
                BREAKERS,
                1,
                KEY,
                self._name,
                self._keep_for,
                self._lease,
                self._most,
                *parts,
            )
        except CountersUnavailable as error:
            self._lost(error)
            return
        self._outage.worked()
        returned, self._synchronized = not self._synchronized, True
        self._breakers.alone = False
        known = [entry for entry in map(_read, answer) if entry is not None]
        self._adopt(known)
        if returned:
            self._catch_up(known)

    def _renew(self) -> None:
        """Renew the lease of probes under way here."""
        self._probing.update(target for target, kinds in self.unsent.items() if "wanted" in kinds)
        for target in list(self._probing):
            if self._breakers.shared_state(target).probing:
                self.unsent.setdefault(target, set()).add("wanted")
            else:
                self._probing.discard(target)

    def _written(self, target: Target, kinds: set[News]) -> tuple[Part, ...]:
        state = self._breakers.shared_state(target)
        change = "-"
        if "opened" in kinds and state.level:
            change = "o"
        elif "closed" in kinds and not state.level:
            change = "c"
        return (
            msgspec.json.encode((target.upstream, target.model)),
            change,
            state.level,
            _milliseconds(state.pause),
            _milliseconds(state.deferred) if "deferred" in kinds else -1,
            1 if "wanted" in kinds and state.level else 0,
        )

    def _lost(self, error: CountersUnavailable) -> None:
        self._outage.failed(error)
        self._synchronized = False
        self._breakers.alone = True
        self.unsent.clear()
        self._probing.clear()

    def _adopt(self, known: list["_Known"]) -> None:
        breakers, seen = self._breakers, self.seen
        self.seen = {}
        for entry in known:
            target = entry.target
            if target in self.unsent:  # a change made here is newer than the answer
                if target in seen:
                    self.seen[target] = seen[target]
                continue
            self.seen[target] = entry.version
            if seen.get(target) != entry.version:
                breakers.adopt_deferral(target, entry.deferred / 1000)
                if entry.state == b"o":
                    breakers.adopt_open(target, entry.level, entry.pause / 1000)
                elif entry.state == b"c":
                    breakers.adopt_closed(target)
            breakers.grant_probe(target, entry.mine)

    def _catch_up(self, known: list["_Known"]) -> None:
        """Send broken targets that Redis does not know; those closed by others stay closed."""
        open_there = {entry.target for entry in known if entry.state == b"o"}
        for target in self._breakers.broken():
            if target not in open_there and self._shared(target):
                self.unsent[target] = {"opened", "deferred"}
                self._awake.set()


class _Known(msgspec.Struct, frozen=True):
    """An entry of the answer. pause, deferred: milliseconds left."""

    target: Target
    state: bytes
    level: int
    pause: int
    deferred: int
    mine: bool
    version: bytes


def _read(entry: list[bytes | int]) -> _Known | None:
    """Decode an entry; None for one of another program."""
    try:
        field, state, level, pause, deferred, mine, version = entry
        target = Target(*msgspec.json.decode(field, type=tuple[str, str]))  # type: ignore[arg-type]
        fields = (target, state, level, pause, deferred, bool(mine), version)
        return msgspec.convert(dict(zip(_Known.__struct_fields__, fields, strict=True)), _Known)
    except (ValueError, msgspec.MsgspecError):
        return None


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000 + 0.999)
