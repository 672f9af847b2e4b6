"""What processes tell each other of broken places, in Redis.

    penstock:{breakers}  =  a hash: [upstream, model] -> [state, level, until, told, owner, lease,
                            version], times in milliseconds of Redis' clock

One script both tells what is new here and answers with everything that is known: once in a period,
and as soon as there is news. No request waits for it. What a process hears it adopts:

    "o"   opened: so is it here, for as long as is left
    "c"   closed, kept for those who have not heard: so is it here
    "-"   nothing is known but that it asked to be left alone

The probe of a broken place is made by one process. The first that has a request for it, once it is
time, asks for leave, sends that request elsewhere, and has leave when Redis has answered; until
another asks that cannot see it used for `lease`. Two may probe at once where a place has just
changed hands (for a period, at most), where no other place is left for a request, where Redis has
been away, and where a probe's process has not been heard of for `lease`. The breakers bear that:
each counts only its own.

While Redis is away each process knows what it knows, and goes on with that; what it has closed
meanwhile, others find out for themselves.
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
"""Seconds between two calls, however much news there is."""

_PATIENCE = 1.0


class SharedBreakers(Shared):
    """Has `breakers` know what those of other processes know, by Redis.

    period: seconds between two exchanges. lease: seconds for which leave to probe is not given to
    another. keep: seconds for which the hash outlives the last news; half of it, a place in it.
    most: places in the hash. shared: whether others are to know of a place; asked where there is
    trouble. Of names that clients make up none should: each exchange reads all that is known.
    Raises ValueError for a URL that is none of Redis.
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
        shared: Callable[[Target], bool] = lambda place: True,
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
        """What Redis has not been sent yet."""
        self._probing: set[Target] = set()
        self.seen: dict[Target, bytes] = {}
        """What Redis knew of when it last answered, by its versions."""
        self._awake = asyncio.Event()
        self._outage = Outage(
            logger,
            "circuit breakers are not shared, each process has its own",
            "circuit breakers are shared again",
            level=logging.WARNING,
        )
        self._met = False
        """Whether Redis has answered since the start or the last outage."""
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Hear what there is to hear, or, without Redis, begin alone."""
        if self._keeping is None:
            await self._link.start()
            self._breakers.share(self._heard)
            await self._meet()
            self._keeping = asyncio.create_task(self._keep())

    async def aclose(self) -> None:
        """From now on this process is alone. Idempotent."""
        keeping, self._keeping = self._keeping, None
        if keeping is None:
            return
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        self._breakers.alone = True
        self._breakers.share(lambda place, news: None)
        self._met = False
        await self._link.aclose()

    def _heard(self, place: Target, news: News) -> None:
        """On the request path, where there is trouble."""
        if self._outage.on:
            return  # when Redis is back, what is broken then is told
        if not self._shared(place):
            self._breakers.let(place, True)  # there is nobody to leave the probe to
            return
        known = self.unsent.get(place)
        if known is None:
            known = self.unsent[place] = set()
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
            await self._meet()

    async def _meet(self) -> None:
        """Tell and hear."""
        self._renew()
        news, self.unsent = self.unsent, {}
        told = [part for place, kinds in news.items() for part in self._written(place, kinds)]
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
                *told,
            )
        except CountersUnavailable as error:
            self._lost(error)
            return
        self._outage.worked()
        returned, self._met = not self._met, True
        self._breakers.alone = False
        known = [entry for entry in map(_read, answer) if entry is not None]
        self._adopt(known)
        if returned:
            self._catch_up(known)

    def _renew(self) -> None:
        """Keep leave for the probes that are under way here."""
        self._probing.update(place for place, kinds in self.unsent.items() if "wanted" in kinds)
        for place in list(self._probing):
            if self._breakers.standing(place).probing:
                self.unsent.setdefault(place, set()).add("wanted")
            else:
                self._probing.discard(place)

    def _written(self, place: Target, kinds: set[News]) -> tuple[Part, ...]:
        standing = self._breakers.standing(place)
        change = "-"
        if "opened" in kinds and standing.level:
            change = "o"
        elif "closed" in kinds and not standing.level:
            change = "c"
        return (
            msgspec.json.encode((place.upstream, place.model)),
            change,
            standing.level,
            _milliseconds(standing.pause),
            _milliseconds(standing.told) if "told" in kinds else -1,
            1 if "wanted" in kinds and standing.level else 0,
        )

    def _lost(self, error: CountersUnavailable) -> None:
        self._outage.failed(error)
        self._met = False
        self._breakers.alone = True
        self.unsent.clear()
        self._probing.clear()

    def _adopt(self, known: list["_Known"]) -> None:
        breakers, seen = self._breakers, self.seen
        self.seen = {}
        for entry in known:
            place = entry.place
            if place in self.unsent:  # what has happened here since is newer than the answer
                if place in seen:
                    self.seen[place] = seen[place]
                continue
            self.seen[place] = entry.version
            if seen.get(place) != entry.version:
                breakers.hear_told(place, entry.told / 1000)
                if entry.state == b"o":
                    breakers.hear_open(place, entry.level, entry.pause / 1000)
                elif entry.state == b"c":
                    breakers.hear_closed(place)
            breakers.let(place, entry.mine)

    def _catch_up(self, known: list["_Known"]) -> None:
        """Tell what Redis should know and does not; what others closed meanwhile stays closed."""
        open_there = {entry.place for entry in known if entry.state == b"o"}
        for place in self._breakers.broken():
            if place not in open_there and self._shared(place):
                self.unsent[place] = {"opened", "told"}
                self._awake.set()


class _Known(msgspec.Struct, frozen=True):
    """An entry of the answer; pause and told: milliseconds that are left."""

    place: Target
    state: bytes
    level: int
    pause: int
    told: int
    mine: bool
    version: bytes


def _read(entry: list[bytes | int]) -> _Known | None:
    """None for what cannot be read: somebody else wrote it."""
    try:
        field, state, level, pause, told, mine, version = entry
        place = Target(*msgspec.json.decode(field, type=tuple[str, str]))  # type: ignore[arg-type]
        fields = (place, state, level, pause, told, bool(mine), version)
        return msgspec.convert(dict(zip(_Known.__struct_fields__, fields, strict=True)), _Known)
    except (ValueError, msgspec.MsgspecError):
        return None


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000 + 0.999)
