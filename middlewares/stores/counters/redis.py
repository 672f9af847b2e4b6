"""Counters in Redis, for any number of processes: one script for one decision.

Keys are `penstock:{WHO}:rates`, `:slots` and `:money`; the braces keep what belongs to one
principal in one slot of a cluster. A script about a key and its team touches two slots, which a
cluster refuses. Every key has an expiry. The scripts, in the folder `lua`, say what is in
them. Redis 5 or later; its clock decides, unless the caller tells a time, so that processes whose
clocks differ agree.

An account that Redis has lost, or that is of another Redis' data, is unknown to `reserve`, and
stays so until every live process has reported what it holds of it: see `redis_workers`.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from time import time
from typing import Any, TypeVar

from middlewares.limits import Budget, Level
from middlewares.shared import Shared
from middlewares.stores.errors import (
    AccountUnsettled,
    AnswerLost,
    CountersRefused,
    CountersUnavailable,
)
from middlewares.stores.redis_client import Part, RedisLink
from middlewares.stores.redis_scripts import (
    ADMIT,
    CHARGE,
    CONVERT,
    DROP_HOLD,
    INVALIDATE,
    ONCE,
    PUT_HOLDS,
    READ_ACCOUNT,
    RENEW,
    RESERVE,
    RESTORE,
    SCRIPTS,
)

from .balance import short_of_both
from .base import (
    AHEAD,
    LIFETIME,
    RENEWAL,
    AccountStatus,
    Check,
    Hold,
    InsufficientFunds,
    Spent,
    TeamAccount,
    TeamClaim,
    Unknown,
    Verdict,
)
from .redis_form import (
    HEAD,
    START,
    StoredAccount,
    admit_command,
    charge_command,
    ended_command,
    levels_of,
    money_key,
    read,
    records,
    release_command,
    reserve_command,
    slots_key,
    verdict_of,
)
from .redis_workers import PATIENCE, QUARANTINE, Workers

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_TAKE_BACK = 10_000
"""Calls without an answer that are remembered, to be taken back."""
_SPLIT = "CROSSSLOT"
"""What a cluster says of a script over keys in several slots (Redis, cluster specification)."""
_AT_ONCE = 200
"""Leases or holds in one script, which keeps all others waiting."""


class RedisCounters(Shared):
    """`Counters` that all processes share which use the same database of the same Redis.

    url: `redis://`, `rediss://` or `unix://`. timeout: seconds to wait for an answer.
    connect_timeout: seconds for a connection. clock: Unix seconds; None asks Redis.
    quarantine: seconds after Redis was emptied before accounts are restored.
    Raises ValueError for a URL it cannot use.
    """

    __slots__ = ("_clock", "_doubtful", "_holds", "_leases", "_link", "_renewing", "workers")

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.15,
        connect_timeout: float = 2.0,
        clock: Callable[[], float] | None = None,
        quarantine: float = QUARANTINE,
    ) -> None:
        self._link = RedisLink(
            url,
            scripts=SCRIPTS,
            timeout=timeout,
            connect_timeout=connect_timeout,
            connected=self._connected,
            once=ONCE,
            identified=True,
        )
        self.workers = Workers(
            self._link,
            url,
            report=self._report,
            renew=self.renew,
            connect_timeout=connect_timeout,
            quarantine=quarantine,
        )
        self._clock = clock
        self._holds: dict[tuple[str, str], Hold] = {}
        self._leases: set[tuple[str, str]] = set()
        self._doubtful: deque[tuple[str, str, bool]] = deque(maxlen=_TAKE_BACK)
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._renewing is None:
            await self._link.start()
            await self.workers.start()
            self._renewing = asyncio.create_task(self._renew())

    async def aclose(self) -> None:
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
            await self.workers.aclose()
            await self._link.aclose()

    @property
    def up(self) -> bool:
        """Whether Redis is connected."""
        return self._link.up

    @property
    def losses(self) -> int:
        """How often Redis has lost what it counted."""
        return self.workers.losses

    def _connected(self) -> None:
        self.workers.connected()
        self.renew()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            self.renew()

    def renew(self) -> None:
        """Let the leases and holds of this process live for another `LIFETIME`.

        What was lost is made again, and what calls without an answer may have taken is given back.
        Happens every `RENEWAL`, and when Redis may have lost it: with a new connection or epoch.
        """
        if not self._link.up:
            return
        leases: defaultdict[str, list[str]] = defaultdict(list)
        for who, lease in self._leases:
            leases[who].append(lease)
        for who, names in leases.items():
            for some in _some(names):
                self._send(RENEW, slots_key(who), self._time, LIFETIME, *some)
        holds: defaultdict[str, list[Hold]] = defaultdict(list)
        for hold in self._holds.values():
            holds[hold.account].append(hold)
        for account, those in holds.items():
            self._renew_holds(account, those)
        for _ in range(len(self._doubtful)):
            self._take_back(*self._doubtful.popleft())

    def _renew_holds(self, account: str, holds: Sequence[Hold]) -> None:
        for some in _some(holds):
            self._send(PUT_HOLDS, money_key(account), self._time, LIFETIME, 0, *records(some))

    async def _report(self, accounts: Collection[str]) -> None:
        """Renew what is held of these accounts, and wait until Redis has it."""
        # Answers come in order: with this one, all that was reserved before is in `_holds`.
        await self._link.call(b"PING")
        holds: defaultdict[str, list[Hold]] = defaultdict(list)
        for hold in self._holds.values():
            if hold.account in accounts:
                holds[hold.account].append(hold)
        await asyncio.gather(
            *[
                self._call(PUT_HOLDS, account, self._time, LIFETIME, 0, *records(some))
                for account, those in holds.items()
                for some in _some(those)
            ]
        )

    def _take_back(self, who: str, name: str, money: bool) -> None:
        """Reverse what may have been done, now or once there is a connection."""
        if money:
            if (who, name) not in self._holds and not self._send(DROP_HOLD, money_key(who), name):
                self._doubtful.append((who, name, money))
        elif (who, name) not in self._leases and not self._link.send_packed(
            None, release_command(who, name)
        ):
            self._doubtful.append((who, name, money))

    @property
    def _clocked(self) -> float | None:
        """Unix seconds, or None: Redis takes its own."""
        return None if self._clock is None else self._clock()

    @property
    def _time(self) -> Part:
        """The same as a part of a command."""
        return b"" if self._clock is None else self._clock()

    async def _call(self, script: bytes, account: str, *arguments: Part) -> Any:
        """Run a script over an account. Raises CountersUnavailable, and CountersRefused when it
        cannot work with what it finds there: then that is gone, to be restored."""
        asked = (b"EVALSHA", script, 1, money_key(account), *arguments)
        try:
            try:
                return await self._link.call(*asked)
            except AnswerLost:
                if script in ONCE:
                    raise
                return await self._link.call(*asked)
        except CountersRefused as refused:
            self._forget(account, refused)
            raise

    def _forget(self, account: str, refused: CountersRefused) -> None:
        """Counters are a cache: what no script can read any more is made again from the ledger."""
        logger.error("rebuilding the counters of account %s: %s", account, refused)
        self._link.send(b"DEL", money_key(account))

    def _send(self, script: bytes, key: bytes, *arguments: Part) -> bool:
        return self._link.send(b"EVALSHA", script, 1, key, *arguments)

    # Rates and slots

    async def admit(
        self,
        who: str,
        checks: Sequence[Check],
        *,
        slots: int = 0,
        lease: str = "",
        now: float | None = None,
        team: TeamClaim | None = None,
    ) -> Verdict:
        try:
            answer = await self._ask(who, checks, slots, lease, True, now, team)
        except (CountersUnavailable, asyncio.CancelledError):
            if slots:
                self._take_back(who, lease, False)
            if team is not None and team.slots:
                self._take_back(team.who, lease, False)
            raise
        verdict = verdict_of(checks, team, answer)
        if verdict.admitted:
            if slots:
                self._leases.add((who, lease))
            if team is not None and team.slots:
                self._leases.add((team.who, lease))
        return verdict

    def _ask(
        self,
        who: str,
        checks: Sequence[Check],
        slots: int,
        lease: str,
        take: bool,
        now: float | None,
        team: TeamClaim | None = None,
    ) -> asyncio.Future[Any]:
        time = self._clocked if now is None else now
        packed = admit_command(who, checks, slots, lease, time, team, take=take)
        return self._link.call_packed(ADMIT, packed)

    def release(self, who: str, lease: str) -> None:
        self._leases.discard((who, lease))
        self._take_back(who, lease, False)

    def charge(self, who: str, check: Check, now: float | None = None) -> None:
        time = self._clocked if now is None else now
        self._link.send_packed(CHARGE, charge_command(who, check, time))

    async def levels(
        self, who: str, checks: Sequence[Check], *, now: float | None = None
    ) -> tuple[tuple[Level, ...], int]:
        try:
            answer = await self._ask(who, checks, 0, "", False, now)
        except AnswerLost:  # nothing was taken
            answer = await self._ask(who, checks, 0, "", False, now)
        return levels_of(checks, answer), int(HEAD.unpack_from(answer)[2])

    # Money

    async def reserve(
        self,
        account: str,
        hold: str,
        amount: int,
        least: int,
        budget: Budget,
        now: float,
        team: TeamAccount | None = None,
    ) -> Hold | InsufficientFunds | Unknown:
        if amount <= 0:
            return Hold(account, hold, 0, "windows", now)
        accounts = (account,) if team is None else (account, team.account)
        packed = reserve_command(
            account,
            hold,
            amount,
            least,
            budget,
            now,
            team,
            time=self._clocked,
            epoch=self.workers.epoch,
        )
        try:
            answer = await self._link.call_packed(RESERVE, packed)
        except AnswerLost:
            return Unknown(account)  # it is another Redis, which knows no account yet
        except CountersRefused as refused:
            if _SPLIT in str(refused):
                raise CountersRefused(
                    "the budget of a team needs a Redis that is not a cluster: the account of the"
                    f" key and that of the team are in different slots ({refused})"
                ) from None
            for each in accounts:
                self._forget(each, refused)
            return Unknown(account)
        except (CountersUnavailable, asyncio.CancelledError):
            for each in accounts:
                self._take_back(each, hold, True)
            raise
        if isinstance(answer, bytes):
            return self._reserved(account, hold, answer, amount, now)
        if isinstance(answer, int):
            return Unknown(accounts[answer - 1])
        if isinstance(answer[0], list):
            mine = StoredAccount(answer[0])
            if team is None:
                return mine.short(amount, least, budget, now)
            theirs = StoredAccount(answer[1])
            return short_of_both(amount, least, mine, budget, theirs, team.budget, now)
        made = self._reserved(account, hold, answer[0], amount, now)
        if team is not None:
            made.team = self._reserved(team.account, hold, answer[1], amount, now)
        return made

    def _reserved(self, account: str, hold: str, packed: bytes, amount: int, now: float) -> Hold:
        if not packed:
            return Hold(account, hold, amount, "other", now)
        made = self._holds[account, hold] = read(account, hold, packed)
        return made

    def resize(self, hold: Hold, amount: int) -> None:
        hold.amount = amount = max(0, amount)
        hold.tight = False
        key = hold.account, hold.id
        if amount or key in self._holds:
            self._holds[key] = hold
            self._link.send_packed(PUT_HOLDS, ended_command(hold, self._clocked))

    def drop(self, hold: Hold) -> None:
        hold.amount = 0
        self._holds.pop((hold.account, hold.id), None)
        self._take_back(hold.account, hold.id, True)

    async def convert(self, holds: Sequence[Hold]) -> list[Hold]:
        accounts: defaultdict[str, list[Hold]] = defaultdict(list)
        for hold in holds:
            accounts[hold.account].append(hold)
        # A renewal in between must not recreate a hold that was just converted.
        mine = [
            hold for hold in holds if self._holds.pop((hold.account, hold.id), None) is not None
        ]
        parts = [(account, some) for account, those in accounts.items() for some in _some(those)]
        try:
            answers = await asyncio.gather(
                *[self._converted(account, some) for account, some in parts]
            )
        except BaseException:
            self._holds.update(((hold.account, hold.id), hold) for hold in mine)
            raise
        return [
            hold
            for (_, some), answer in zip(parts, answers, strict=True)
            for hold, found in zip(some, answer, strict=True)
            if found == 48  # "0"
        ]

    async def _converted(self, account: str, holds: Sequence[Hold]) -> bytes:
        """A character for each: whether it was found. Not, where that cannot be known: then the
        account is restored from the ledger, which has their rows."""
        try:
            answer: bytes = await self._call(CONVERT, account, *records(holds))
        except (CountersRefused, AnswerLost):
            return b"0" * len(holds)
        return answer

    async def status(self, account: str, budget: Budget, now: float) -> AccountStatus | None:
        try:
            fields = StoredAccount(await self._call(READ_ACCOUNT, account, self._time, 0))
        except CountersRefused:
            return None
        if fields.known != self.workers.epoch:
            return None
        if fields.ahead(budget, now):
            await self.invalidate(account)
            return None
        return fields.status(budget, now, fields.holds)

    async def restore(self, account: str, spent: Spent, settled: Sequence[str], seen: int) -> bool:
        windows: list[Part] = []
        for name, start in spent.starts.items():
            windows += (name, START.pack(start), spent.spent.get(name, 0))
        answer = await self._call(
            RESTORE,
            account,
            self._time,
            LIFETIME,
            seen,
            spent.credits,
            self.workers.epoch,
            (time() if self._clock is None else self._clock()) + AHEAD,
            len(spent.starts),
            *windows,
            *settled,
        )
        return bool(answer)

    async def version(self, account: str) -> tuple[int, tuple[str, ...]]:
        """See `AccountCounters`. Waits until every live process has reported its holds of a lost
        account; raises AccountUnsettled if that takes too long."""
        try:
            async with asyncio.timeout(PATIENCE):
                while (fields := await self._whole(account)) is None:
                    pass
        except TimeoutError:
            raise AccountUnsettled(
                "Redis has lost this account, and not every worker has reported what it holds of it"
            ) from None
        return fields.version, tuple(fields.holds)

    async def _whole(self, account: str) -> StoredAccount | None:
        """The account with all that is held of it; None when it was lost again meanwhile, or the
        connection was."""
        workers = self.workers
        epoch = await workers.settled()
        try:
            await self._report((account,))
        except AnswerLost:
            return None
        fields = StoredAccount(await self._call(READ_ACCOUNT, account, self._time, 1))
        if fields.whole != epoch:
            if not await workers.gather(account, epoch):
                return None
            fields = StoredAccount(
                await self._call(READ_ACCOUNT, account, self._time, 1, fields.born, epoch)
            )
        # Asked last: an epoch that goes on was not over when the account was looked at.
        if fields.whole != epoch or await workers.meet() != epoch:
            return None
        return fields

    async def invalidate(self, account: str) -> None:
        with suppress(CountersRefused):  # it is forgotten, which is as good
            await self._call(INVALIDATE, account)


def _some(everything: Sequence[_T]) -> Iterable[Sequence[_T]]:
    for at in range(0, len(everything), _AT_ONCE):
        yield everything[at : at + _AT_ONCE]
