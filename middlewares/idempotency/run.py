"""One idempotency key in this process, from its first request to its end.

Theory of operation. An `IdempotentRun` has its own task and belongs to no client; the clients that
sent its key follow its recording. Its phases:

    claiming    asks the store, in one atomic step, whether the key is free
    executed    it was: the app runs, and its answer is recorded and streamed
    waiting     another process runs the app: the store is polled until the answer is there
    ended       stored, replayed, refused or failed; or `restart`: followers start a new run

The run renews its mark in the store while the app runs. At the end the answer replaces the mark, or
the mark is released.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Literal, TypeVar

import msgspec

from middlewares.asgi import ASGIApp, Message, Scope
from middlewares.backoff import Backoff
from middlewares.disconnects import ignore_server_end
from middlewares.exchange import Outcome, exchange_of
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.outage import Outage
from middlewares.stores.replays.base import KeptAnswer, ReplayEntry, ReplayStore, RunMark

from .recording import Follower, Recording, RecordingMemory

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Refusal = Literal["", "mismatch", "large", "lost", "stopped"]
"""Why followers get no answer: the key has another fingerprint; the answer is too large to be
stored; the store does not report it; the process stops."""

PATIENCE = 2.0
"""Seconds a request waits for the store at most; the store itself has a tighter limit."""
_REST = 5.0
"""Seconds between two questions to a store that does not answer."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two polls of another process's run."""


class ReplayShield:
    """A `ReplayStore` with a timeout, and a pause after it did not answer."""

    __slots__ = ("_outage", "_until", "store")

    def __init__(self, store: ReplayStore) -> None:
        self.store = store
        self._outage = Outage(
            _log,
            "cannot store idempotency keys",
            "idempotency keys are stored again",
            level=logging.WARNING,
        )
        self._until = 0.0

    async def ask(self, question: Callable[[ReplayStore], Awaitable[_T]]) -> _T:
        """Ask the store. Raises StoreUnavailable; logs the begin and the end of an outage."""
        if self._outage.on:
            now = monotonic()
            if now < self._until:
                raise StoreUnavailable("it did not answer a moment ago")
            self._until = now + _REST  # only this call waits to see whether it is back
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await question(self.store)
        except (StoreUnavailable, TimeoutError) as raised:
            self._until = monotonic() + _REST
            self._outage.failed(raised)
            raise StoreUnavailable(str(raised)) from None
        self._outage.worked()
        return answer

    async def renew(self, mark: RunMark) -> None:
        """Renew a mark. A failure is ignored: the next renewal is soon enough."""
        with suppress(StoreUnavailable):
            await self.ask(lambda store: store.renew(mark))

    async def release(self, mark: RunMark) -> None:
        """Release a mark. A failure is ignored: a mark expires."""
        with suppress(StoreUnavailable):
            await self.ask(lambda store: store.release(mark))

    async def keep(self, mark: RunMark, answer: KeptAnswer, seconds: float) -> bool:
        """Store an answer; whether that worked."""
        try:
            return await self.ask(lambda store: store.keep(mark, answer, seconds))
        except StoreUnavailable:
            return False


class IdempotentRun:
    """The run of one key, started by `first` with the request of `scope`.

    executed: the app runs, or ran, for it. waiting: another process runs the app. restart: it came
    to nothing, and followers start a new run. error: what the app raised.
    """

    __slots__ = (
        "_error",
        "_exchange",
        "_first",
        "_marked",
        "_refused",
        "_scope",
        "_served",
        "_shield",
        "_task",
        "executed",
        "mark",
        "recording",
        "refusal",
        "restart",
        "waiting",
    )

    def __init__(
        self,
        mark: RunMark,
        shield: ReplayShield,
        first: Follower,
        scope: Scope,
        max_answer: int,
        memory: RecordingMemory,
        detached_timeout: float = inf,
    ) -> None:
        self.mark = mark
        self.recording = Recording(max_answer, memory, detached_timeout)
        self.executed = False
        self.waiting = False
        self.restart = False
        self.refusal: Refusal = ""
        self._error: BaseException | None = None
        self._first = first
        self._exchange = exchange_of(scope)
        if scope.get("extensions"):  # what they offer is message in messages that are not recorded
            scope = {**scope, "extensions": {}}
        self._refused: tuple[str, str] | None = None
        self._scope = scope
        self._served = ""
        self._shield = shield
        self._marked = False  # whether the mark may be in the store
        self._task: asyncio.Task[None] | None = None

    @property
    def error(self) -> BaseException | None:
        return self._error

    @property
    def served(self) -> str:
        """See `Exchange.served`."""
        return self._exchange.served if self.executed else self._served

    @property
    def refused(self) -> tuple[str, str]:
        """`Exchange.problem` and `Exchange.reason` as this run answered them, whatever followed."""
        if not self.executed:
            return "", ""
        return self._refused or (self._exchange.problem, self._exchange.reason)

    @property
    def outcome(self) -> Outcome:
        """See `Exchange.outcome`."""
        return self._exchange.outcome if self.executed else "completed"

    def begin(
        self, app: ASGIApp, body: list[Message], ttl: float, over: Callable[[], object]
    ) -> None:
        """Start. body: messages that the app receives. over: called at the end."""
        self._task = asyncio.get_running_loop().create_task(self._run(app, body, ttl, over))

    async def stop(self) -> None:
        """Cancel the run and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def leave(self, follower: Follower) -> None:
        """Remove a follower. A run that only waits ends with its last one."""
        follower.follow(None)
        if self.recording.followers:
            return
        self._error = None  # its traceback holds what refers to it
        if self.waiting and self._task is not None:
            self.restart = True  # for a follower that joins before the task ends
            self._task.cancel()

    async def _run(
        self, app: ASGIApp, body: list[Message], ttl: float, over: Callable[[], object]
    ) -> None:
        try:
            await self._claim(app, body, ttl)
        except asyncio.CancelledError:
            if not self.restart:
                self.refusal = "stopped"
            raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:
            if self.recording.followers:
                self._error = raised
            else:
                _log.exception(
                    "request %s failed after its client disconnected", self._exchange.request_id
                )
        finally:
            try:
                if self._marked:
                    await self._shield.release(self.mark)
            finally:
                if self.recording.abandoned and self.recording.start is None:
                    self.restart = True
                over()
                self.recording.end()

    async def _claim(self, app: ASGIApp, body: list[Message], ttl: float) -> None:
        recording = self.recording
        self._marked = True  # a cancelled claim may have set the mark
        try:
            found = await self._shield.ask(lambda store: store.claim(self.mark))
        except StoreUnavailable:
            found = None
        if found is None:
            if self._first not in recording.followers or self._first.disconnected:
                self.restart = True
            else:
                await self._execute(app, body, ttl)
            return
        self._marked = False
        if not self._settled(found) and recording.followers:
            await self._wait()

    def _settled(self, found: ReplayEntry) -> bool:
        """Whether the entry that was found ends this run."""
        if found.fingerprint != self.mark.fingerprint:
            self.refusal = "mismatch"
        elif found.answer is not None:
            answer = found.answer
            self._served = answer.served
            self.recording.fill(answer.status, answer.headers, answer.blocks)
        elif found.large:
            self.refusal = "large"
        else:
            return False
        return True

    async def _execute(self, app: ASGIApp, body: list[Message], ttl: float) -> None:
        """Run the app and store its answer."""
        recording = self.recording
        self.executed = True
        recording.notify()
        renewal = asyncio.get_running_loop().create_task(self._renew())
        try:
            ignore_server_end()  # the app may run without any client
            await app(self._scope, recording.receive(body), recording.send)
            self._refused = self.refused
            answer = self._answer()
            if answer is not None and await self._shield.keep(self.mark, answer, ttl):
                self._marked = False
        finally:
            renewal.cancel()
            await asyncio.wait((renewal,))

    def _answer(self) -> KeptAnswer | None:
        """The answer to store, if it may be stored."""
        recording = self.recording
        start = recording.start
        if start is None or not recording.whole or recording.large or start["status"] >= 400:
            return None
        if self.outcome not in ("", "completed"):
            return None
        headers = tuple(start["headers"])
        return KeptAnswer(start["status"], headers, recording.blocks(), self.served)

    async def _renew(self) -> None:
        """Renew the mark, at once when the answer became too large to be stored."""
        recording = self.recording
        pause = self._shield.store.lifetime / 3
        large = False
        while True:
            if large:
                await asyncio.sleep(pause)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        large = await recording.became_large.wait()
            await self._shield.renew(msgspec.structs.replace(self.mark, large=large))

    async def _wait(self) -> None:
        """Poll the store while another process runs the app."""
        self.waiting = True
        self.recording.notify()
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, factor=1.5)
        seen = monotonic()
        try:
            while True:
                await asyncio.sleep(backoff.pause())
                try:
                    found = await self._shield.ask(lambda store: store.find(self.mark.key))
                except StoreUnavailable:
                    if monotonic() - seen < self._shield.store.lifetime:
                        continue
                    self.refusal = "lost"
                    return
                seen = monotonic()
                if found is None:
                    self.restart = True
                    return
                if self._settled(found):
                    return
        finally:
            self.waiting = False
