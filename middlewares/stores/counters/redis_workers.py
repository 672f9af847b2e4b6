"""The live workers of one Redis, and what each has to tell before a lost account is known again.

Theory of operation. What an account has spent is in the ledger; what is held of it is known to the
workers that hold it, and Redis has the sum. When Redis loses an account (FLUSHALL, eviction, a
restart, a failover), the sum is right again only when every live worker has reported its part. So:

    epoch    a random name in Redis (`lua/register_worker.lua`). It is lost with the data, and a
             Redis with another `run_id` begins a new one: its data may be a copy that is too old.
             An account is known in the epoch in which it was restored, and in no other.
    beat     each worker registers every `BEAT` seconds, and counts as alive for `LEASE` seconds.
             A new epoch is `QUARANTINE` seconds old before an account is restored in it, so that
             every worker has registered; those that a worker has seen alive before are waited for
             also when they have not.
    gather   before an account is restored that Redis has lost, or never had, the other live workers
             are asked to renew what they hold of it. Each answers when Redis has confirmed that.

A worker that is silent for `LEASE` seconds is not waited for. It may be dead; then its rows come
from its journal. When it comes back it renews all it holds before it does anything else.

Questions and answers are lists in Redis, one for each worker, which it waits for on a connection of
its own:

    penstock:{workers}        the hash of `lua/register_worker.lua`
    penstock:{workers}:ID     "?" account NUL token NUL asker, or "!" token NUL worker
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from secrets import token_hex

from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.redis_client import RedisLink
from middlewares.stores.redis_scripts import REGISTER_WORKER

_log = logging.getLogger(__name__)

KEY = b"penstock:{workers}"

BEAT = 0.25
"""Seconds between two signs of life."""
LEASE = 3.0
"""Seconds after its last sign of life for which a worker is waited for."""
QUARANTINE = 1.0
"""Seconds after Redis was emptied, or this worker registered, before accounts are restored."""
PATIENCE = LEASE + QUARANTINE + 1.0
"""Seconds that a request may wait for an account to be restored."""
_AGAIN = 0.5
"""Seconds after which a question is asked again."""
_KEPT = 10
"""Seconds that questions to a worker are kept."""
_LISTEN = 1
"""Seconds for which Redis is asked to wait for a question."""
_AT_ONCE = 500


class Workers:
    """This worker among those that share a Redis.

    link: the connection for commands, identified. url: of the same Redis. report: renews what is
    held of some accounts, and returns when Redis has it. renew: begins to renew everything.
    quarantine: seconds; see above. Raises ValueError for a URL it cannot use.
    """

    def __init__(
        self,
        link: RedisLink,
        url: str,
        *,
        report: Callable[[Collection[str]], Awaitable[None]],
        renew: Callable[[], None],
        connect_timeout: float = 2.0,
        quarantine: float = QUARANTINE,
    ) -> None:
        self._link = link
        self._ear = RedisLink(url, timeout=_LISTEN + 2.0, connect_timeout=connect_timeout)
        self._report = report
        self._renew = renew
        self._quarantine = quarantine
        self.id = token_hex(8)
        self.epoch = b""
        """The epoch of Redis as it was last seen; empty while none is known."""
        self._run = b""
        self.losses = 0
        """How often Redis has lost what it counted, as far as this worker has seen."""
        self._was = b""
        self._settled_at = 0.0
        self.others: frozenset[bytes] = frozenset()
        """The other live workers, as they were last seen."""
        self._blocks = True
        self._awake = asyncio.Event()
        self._waiting: dict[bytes, _Gathering] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Register, and from now on tell and listen. Does not fail when Redis does not answer."""
        if not self._tasks:
            with suppress(CountersUnavailable):
                await self.meet()
            self._tasks = [
                asyncio.create_task(self._beat(), name="workers-beat"),
                asyncio.create_task(self._listen(), name="workers-listen"),
            ]

    async def aclose(self) -> None:
        """Be counted as gone. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            await self._ear.aclose(at_once=True)  # it waits for questions
            with suppress(CountersUnavailable):
                await self._ask(leaves=True)

    def connected(self) -> None:
        """There is a new connection. To another Redis: nothing is known of it yet."""
        if self._link.run != self._run or not self._run:
            self.epoch = b""
        self._awake.set()

    # Epochs

    async def meet(self) -> bytes:
        """Register now; returns the epoch. Raises CountersUnavailable."""
        run = self._link.run
        epoch, age, there, *others = await self._ask()
        if run != self._link.run:
            raise CountersUnavailable("Redis has changed in between")
        self._run = run
        self.others = frozenset(others)
        if epoch != self.epoch or not there:
            if self._was not in (b"", epoch):
                self.losses += 1
                # It recovers by itself, and an outage before it has been logged.
                _log.info("Redis lost its counters; restoring accounts from the ledger")
            self.epoch = self._was = epoch
            left = self._quarantine if not there else self._quarantine - float(age)
            self._settled_at = asyncio.get_running_loop().time() + left
            self._renew()
        return epoch

    async def _ask(self, *, leaves: bool = False) -> list[bytes]:
        answer: list[bytes] = await self._link.call(
            b"EVALSHA",
            REGISTER_WORKER,
            1,
            KEY,
            self.id,
            LEASE,
            self._link.run,
            token_hex(8),
            self.epoch,
            b"1" if leaves else b"0",
            *self.others,
        )
        return answer

    async def settled(self) -> bytes:
        """The epoch, once it is old enough for accounts to be restored in it."""
        loop = asyncio.get_running_loop()
        while True:
            if not self.epoch:
                await self.meet()
            left = self._settled_at - loop.time()
            if left <= 0:
                return self.epoch
            await asyncio.sleep(min(left, BEAT))

    async def _beat(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._awake.wait()
            self._awake.clear()
            try:
                await self.meet()
            except CountersUnavailable:
                pass  # callers get the error; the failover logs the outage
            except Exception:
                _log.exception("cannot send the heartbeat of this worker")

    # Questions and answers

    async def gather(self, account: str, epoch: bytes) -> bool:
        """Have the others renew what they hold of an account; False when the epoch is another now.

        Waits until each has, or is not alive any more. Raises CountersUnavailable.
        """
        if await self.meet() != epoch:
            return False
        left = set(self.others)
        if not left:
            return True
        token = token_hex(8).encode()
        gathering = self._waiting[token] = _Gathering(left)
        question = b"\0".join((b"?" + account.encode(), token, self.id.encode()))
        try:
            while gathering.left:
                for worker in gathering.left:
                    self._tell(worker, question)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_AGAIN):
                        await gathering.done.wait()
                        break
                if await self.meet() != epoch:
                    return False
                gathering.left &= self.others
        finally:
            del self._waiting[token]
        return True

    def _tell(self, worker: bytes, *messages: bytes) -> None:
        key = _list_of(worker)
        self._link.send(b"RPUSH", key, *messages)
        self._link.send(b"EXPIRE", key, _KEPT)

    async def _listen(self) -> None:
        await self._ear.start()
        while True:
            try:
                await self._heard(await self._messages())
            except CountersUnavailable:
                await asyncio.sleep(BEAT)
            except Exception:
                _log.exception("cannot answer a request of another worker")
                await asyncio.sleep(BEAT)

    async def _messages(self) -> list[bytes]:
        """What has come, after a while nothing. Raises CountersUnavailable."""
        ear, key = self._ear, _list_of(self.id.encode())
        first: list[bytes] = []
        if self._blocks:
            try:
                got = await ear.call(b"BLPOP", key, _LISTEN)
            except CountersUnavailable:
                if ear.up:  # refused, as some users and proxies are: then Redis is polled
                    self._blocks = False
                raise
            if got is None:
                return []
            first = [got[1]]
        else:
            await asyncio.sleep(BEAT)
        more: list[bytes] = await ear.call(b"LRANGE", key, 0, _AT_ONCE - 1)
        if more:
            await ear.call(b"LTRIM", key, len(more), -1)
        return first + more

    async def _heard(self, messages: list[bytes]) -> None:
        questions: dict[bytes, list[bytes]] = {}
        accounts: set[str] = set()
        for message in messages:
            kind, parts = message[:1], message[1:].split(b"\0")
            if kind == b"!" and len(parts) == 2:
                gathering = self._waiting.get(parts[0])
                if gathering is not None:
                    gathering.reported(parts[1])
            elif kind == b"?" and len(parts) == 3:
                accounts.add(parts[0].decode(errors="surrogateescape"))
                answer = b"!" + parts[1] + b"\0" + self.id.encode()
                questions.setdefault(parts[2], []).append(answer)
        if accounts:
            await self._report(accounts)
            for asker, answers in questions.items():
                self._tell(asker, *answers)


class _Gathering:
    """A question that workers have not answered yet."""

    def __init__(self, left: set[bytes]) -> None:
        self.left = left
        self.done = asyncio.Event()

    def reported(self, worker: bytes) -> None:
        self.left.discard(worker)
        if not self.left:
            self.done.set()


def _list_of(worker: bytes) -> bytes:
    return KEY + b":" + worker
