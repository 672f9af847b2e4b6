"""What becomes of one idempotency key in this process, from the first request to its end.

Theory of operation. A `IdempotentRun` is a task of its own and belongs to no client; those who
have sent its key follow its recording. It goes through these phases:

    claiming    the store is asked, in one atomic step, whether the key is free
    made        it was: the app runs, and its answer is recorded while it is passed on
    waiting     another process makes the answer: the store is asked now and then, until it is kept
    ended       kept, recalled, refused, failed; or `again`: whoever follows starts anew

Its mark in the store is renewed while the app runs, and taken away or replaced by the answer at the
end, however that comes.
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
from middlewares.disconnects import listen_apart
from middlewares.exchange import Outcome, exchange_of
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.outage import Outage
from middlewares.stores.replays.base import KeptAnswer, ReplayEntry, ReplayStore, RunMark

from .recording import Follower, Recording, RecordingMemory

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Refusal = Literal["", "mismatch", "large", "lost", "stopped"]
"""Why those who follow get no answer: the key is another request's; the answer is too large to be
given twice; the store does not tell what became of it; we stop."""

PATIENCE = 2.0
"""Seconds a request may wait for the store, which bounds itself more tightly."""
_REST = 5.0
"""Seconds a store that did not answer is left alone."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two looks at what another process does."""


class ReplayShield:
    """The store, asked within bounds, and left alone for a while when it does not answer."""

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
        """Raises StoreUnavailable; logs when that begins and when it is over."""
        if self._outage.on:
            now = monotonic()
            if now < self._until:
                raise StoreUnavailable("it did not answer a moment ago")
            self._until = now + _REST  # this one asks whether it is back; nobody else waits
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
        """As far as it goes: the next time is soon enough."""
        with suppress(StoreUnavailable):
            await self.ask(lambda store: store.renew(mark))

    async def release(self, mark: RunMark) -> None:
        """As far as it goes: a mark ends by itself."""
        with suppress(StoreUnavailable):
            await self.ask(lambda store: store.release(mark))

    async def keep(self, mark: RunMark, answer: KeptAnswer, seconds: float) -> bool:
        """Whether it is kept."""
        try:
            return await self.ask(lambda store: store.keep(mark, answer, seconds))
        except StoreUnavailable:
            return False


class IdempotentRun:
    """One key under way, begun by `first` with the request of `scope`.

    made: the app runs, or ran, for it. waiting: another process makes the answer. again: it came to
    nothing, and whoever follows starts anew. error: what the app raised.
    """

    __slots__ = (
        "_error",
        "_exchange",
        "_first",
        "_marked",
        "_refused",
        "_scope",
        "_served",
        "_shelf",
        "_task",
        "again",
        "made",
        "mark",
        "recording",
        "refusal",
        "waiting",
    )

    def __init__(
        self,
        mark: RunMark,
        shelf: ReplayShield,
        first: Follower,
        scope: Scope,
        largest: int,
        space: RecordingMemory,
        alone: float = inf,
    ) -> None:
        self.mark = mark
        self.recording = Recording(largest, space, alone)
        self.made = False
        self.waiting = False
        self.again = False
        self.refusal: Refusal = ""
        self._error: BaseException | None = None
        self._first = first
        self._exchange = exchange_of(scope)
        if scope.get("extensions"):  # what they offer is said in messages that are not recorded
            scope = {**scope, "extensions": {}}
        self._refused: tuple[str, str] | None = None
        self._scope = scope
        self._served = ""
        self._shelf = shelf
        self._marked = False  # whether the mark may be in the store
        self._task: asyncio.Task[None] | None = None

    @property
    def error(self) -> BaseException | None:
        return self._error

    @property
    def served(self) -> str:
        """See `Exchange.served`."""
        return self._exchange.served if self.made else self._served

    @property
    def refused(self) -> tuple[str, str]:
        """See `Exchange.problem` and `Exchange.reason`: what was answered by this run, whatever
        became of the request afterwards."""
        if not self.made:
            return "", ""
        return self._refused or (self._exchange.problem, self._exchange.reason)

    @property
    def outcome(self) -> Outcome:
        """See `Exchange.outcome`."""
        return self._exchange.outcome if self.made else "completed"

    def begin(
        self, app: ASGIApp, body: list[Message], keep: float, over: Callable[[], object]
    ) -> None:
        """Start. body: what the app receives; keep: seconds; over: called when it has ended."""
        self._task = asyncio.get_running_loop().create_task(self._lead(app, body, keep, over))

    async def stop(self) -> None:
        """Cancel it, and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def leave(self, follower: Follower) -> None:
        """This one follows no more."""
        follower.follow(None)
        if self.recording.followers:
            return
        self._error = None  # its traceback holds what refers to it
        if self.waiting and self._task is not None:
            self.again = True  # for whom joins before it is gone
            self._task.cancel()

    async def _lead(
        self, app: ASGIApp, body: list[Message], keep: float, over: Callable[[], object]
    ) -> None:
        try:
            await self._decide(app, body, keep)
        except asyncio.CancelledError:
            if not self.again:
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
                    await self._shelf.release(self.mark)
            finally:
                if self.recording.abandoned and self.recording.start is None:
                    self.again = True
                over()
                self.recording.end()

    async def _decide(self, app: ASGIApp, body: list[Message], keep: float) -> None:
        recording = self.recording
        self._marked = True  # as far as one can know, if this is cancelled
        try:
            found = await self._shelf.ask(lambda store: store.claim(self.mark))
        except StoreUnavailable:
            found = None
        if found is None:
            if self._first not in recording.followers or self._first.left:
                self.again = True
            else:
                await self._make(app, body, keep)
            return
        self._marked = False
        if not self._settled(found) and recording.followers:
            await self._wait()

    def _settled(self, found: ReplayEntry) -> bool:
        """Whether what was found is what this comes to."""
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

    async def _make(self, app: ASGIApp, body: list[Message], keep: float) -> None:
        """Let the app answer, and keep what it answered."""
        recording = self.recording
        self.made = True
        recording.ring()
        renewal = asyncio.get_running_loop().create_task(self._renew())
        try:
            listen_apart()  # it may go on without any client
            await app(self._scope, recording.receive(body), recording.send)
            self._refused = self.refused
            answer = self._answer()
            if answer is not None and await self._shelf.keep(self.mark, answer, keep):
                self._marked = False
        finally:
            renewal.cancel()
            await asyncio.wait((renewal,))

    def _answer(self) -> KeptAnswer | None:
        """What is to be kept."""
        recording = self.recording
        start = recording.start
        if start is None or not recording.whole or recording.large or start["status"] >= 400:
            return None
        if self.outcome not in ("", "completed"):
            return None
        headers = tuple(start["headers"])
        return KeptAnswer(start["status"], headers, recording.blocks(), self.served)

    async def _renew(self) -> None:
        """Keep the mark alive, and tell others at once when they need not wait for an answer."""
        recording = self.recording
        pause = self._shelf.store.lifetime / 3
        told = False
        while True:
            if told:
                await asyncio.sleep(pause)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        told = await recording.became_large.wait()
            await self._shelf.renew(msgspec.structs.replace(self.mark, large=told))

    async def _wait(self) -> None:
        """Another process makes the answer."""
        self.waiting = True
        self.recording.ring()
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, factor=1.5)
        seen = monotonic()
        try:
            while True:
                await asyncio.sleep(backoff.pause())
                try:
                    found = await self._shelf.ask(lambda store: store.find(self.mark.key))
                except StoreUnavailable:
                    if monotonic() - seen < self._shelf.store.lifetime:
                        continue
                    self.refusal = "lost"
                    return
                seen = monotonic()
                if found is None:
                    self.again = True
                    return
                if self._settled(found):
                    return
        finally:
            self.waiting = False
