"""One connection to Redis that many calls share: what is asked in one turn of the event loop goes
out in one write, and answers come back in order.

It is our own as redis-py's asyncio client takes five times the processor time for a command, and 27
times where 32 are asked at once: `python -m bench.redis_micro`.

An answer that is late ends the whole connection: after it, answers could not be matched to
calls. A call that finds no connection fails at once, it never waits for one, but for this:

A connection that breaks is made again at once, and for as long as an answer may take its calls wait
for the new one. There they are sent again, those without an answer too, if a second run changes
nothing (all but `once`) and if it leads to the same Redis; the others fail with `AnswerLost`.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

from hiredis import Reader, ReplyError, pack_command

from middlewares.backoff import Backoff
from middlewares.dns import lookup, shown
from middlewares.shared import Shared

from .errors import AnswerLost, CountersRefused, CountersUnavailable
from .redis_address import Address

logger = logging.getLogger(__name__)

Part = bytes | str | int | float
Future = asyncio.Future[Any]
PendingCalls = tuple[Future | None, Part | None, bytes]
"""A call: who waits for it, if anybody does, the script or source that it runs, if any, and its
command as it is written."""
Waiting = tuple[Future | None, Part | None, bytes, float]
"""The same, and when it was asked, by the loop's clock."""

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_QUIET = 60.0
"""Seconds between two lines about commands that were refused."""
_AT_FAULT = re.compile(
    r"WRONGTYPE|not an integer|not a valid (?:float|integer)|out of range|would overflow"
    r"|invalid expire time|increment would produce|attempt to |data string too short"
    r"|malformed number|bad argument|CROSSSLOT"
)
"""What Redis says when a value or a key of a command or a script is at fault, not the server."""


_BY_NAME, _BY_SOURCE = b"EVALSHA", b"EVAL"


def bulk(value: bytes) -> bytes:
    """A part of a command as it is written (RESP, bulk strings)."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def script_call(script: bytes) -> bytes:
    """The first two parts of a command that runs a script, as they are written."""
    return bulk(_BY_NAME) + bulk(script)


def _packed(parts: tuple[Part, ...]) -> tuple[Part | None, bytes]:
    """A call of these parts, without who waits for it."""
    script = parts[1] if parts[0] in (_BY_NAME, _BY_SOURCE) else None
    return script, pack_command(parts)  # type: ignore[arg-type]  # its stub allows one part


_RUN = re.compile(rb"^run_id:([0-9A-Za-z]+)", re.MULTILINE)


class _Wire(asyncio.Protocol):
    """A connection: what was asked on it, oldest first, and one timer for the oldest."""

    def __init__(self, link: "RedisLink", patience: float) -> None:
        self._link = link
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.waiting: deque[Waiting] = deque()
        self._repeated: Waiting | None = None
        self.lost = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def ask(self, future: Future | None, script: Part | None, packed: bytes) -> None:
        out = self._out
        if not out:
            self._loop.call_soon(self._write)
        out.append(packed)
        now = self._loop.time()
        self.waiting.append((future, script, packed, now))
        if self._timer is None:
            self._watch(now + self._patience)

    def repeat(self, calls: Iterable[PendingCalls]) -> None:
        """Ask, before anything else, what was asked on a connection before."""
        for future, script, packed in calls:
            if future is None or not future.done():
                self.ask(future, script, packed)
                self._repeated = self.waiting[-1]

    def ready(self, patience: float) -> None:
        """All that was asked has been answered; from now on wait no longer than this."""
        self._patience = patience
        if self._timer is not None:  # of the greeting, which may take longer
            self._timer.cancel()
            self._timer = None

    def _write(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _watch(self, due: float) -> None:
        self._due = due
        self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self.waiting:
            return
        now = self._loop.time()
        due = self.waiting[0][3] + self._patience
        if now < due:
            self._watch(due)
        elif now - self._due > self._patience / 4:
            # Not Redis was late but this process: what has come is not read yet.
            self._watch(now + self._patience / 4)
        else:
            self.end("an answer is late")

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        waiting = self.waiting
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                future, _, _, _ = call = waiting.popleft()
                if isinstance(reply, ReplyError):
                    self._refused(call, str(reply))
                elif future is not None and not future.done():
                    future.set_result(reply)
        except Exception as error:  # whatever spoke there was not Redis
            self.end(f"an answer that cannot be understood: {error!r}")

    def _refused(self, call: Waiting, reason: str) -> None:
        future, script, packed, _ = call
        source = None if script is None else self._link.scripts.get(script)
        if source is not None and reason.startswith("NOSCRIPT"):
            by_name = script_call(cast(bytes, script))
            by_source = bulk(_BY_SOURCE) + bulk(source)
            self.ask(future, source, packed.replace(by_name, by_source, 1))
            return
        if "READONLY" in reason:  # also in the midst of what a script's error says
            # Its name may lead to the new primary. Nothing was done.
            self.waiting.appendleft(call)
            self.end("READONLY, it is a replica now", broken=True)
            return
        reason = reason.partition(", with args")[0]  # a command it does not know: it may be AUTH
        if future is None:
            self._link.complain(reason)
        elif not future.done():
            kind = CountersRefused if _AT_FAULT.search(reason) else CountersUnavailable
            future.set_exception(kind(f"Redis refuses: {reason}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.end(str(error) if error else "it has closed the connection", broken=True)

    def end(self, reason: str, *, broken: bool = False) -> None:
        """Have every waiting call fail, or try again where the connection broke. Idempotent."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self.waiting = self.waiting, deque()
        calls = [call[:3] for call in waiting]
        if self._link.gone(self, reason) and broken:
            times = [call is self._repeated for call in waiting]
            first = times.index(True) + 1 if True in times else 0
            self._link.again(calls[first:])
            del calls[first:]  # what is left is not asked a third time
        fail(calls, CountersUnavailable, f"Redis does not answer: {reason}")
        if self._transport is not None:
            self._transport.abort()


def fail(calls: Iterable[PendingCalls], kind: type[CountersUnavailable], reason: str) -> None:
    """Tell those who wait."""
    for future, _, _ in calls:
        if future is not None and not future.done():
            future.set_exception(kind(reason))


class RedisLink(Shared):
    """Calls to Redis, and the connection for them, which it makes again when it breaks.

    scripts: Lua sources by SHA1 in hex as bytes; they are loaded with each connection, and a call
    of one that Redis has forgotten is repeated with its source.
    timeout: seconds for an answer. connect_timeout: seconds for a connection to be ready.
    most: calls that may wait. connected: called with each new connection, when what was under way
    on the one before has been asked again. once: scripts and sources that must not run twice.
    identified: ask each connection which Redis it leads to, see `run`.
    """

    def __init__(
        self,
        url: str,
        *,
        scripts: Mapping[Part, bytes] | None = None,
        timeout: float = 0.15,
        connect_timeout: float = 2.0,
        most: int = 20_000,
        connected: Callable[[], None] = lambda: None,
        once: Container[Part] = (),
        identified: bool = False,
    ) -> None:
        self._address = Address(url)
        self.scripts: Mapping[Part, bytes] = scripts or {}
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._most = most
        self._connected = connected
        self._once = once
        self._identified = identified
        self.run = b""
        """`run_id` of the Redis at the other end; empty if not asked for or not answered."""
        self._wire: _Wire | None = None
        self._parked: list[PendingCalls] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self.reason = "not connected yet"
        """Why there is no connection."""
        self._step = "connection"
        self._keeping: asyncio.Task[None] | None = None
        self._tried: asyncio.Event | None = None
        self._complained = -_QUIET

    @property
    def up(self) -> bool:
        """Whether there is a connection. It may be broken without anybody having noticed."""
        return self._wire is not None

    async def start(self) -> None:
        """Connect, and from then on stay connected. Returns after the first try, good or bad."""
        if self._keeping is None:
            self._tried = asyncio.Event()
            self._keeping = asyncio.create_task(self._keep(self._tried))
            await self._tried.wait()

    async def aclose(self, *, at_once: bool = False) -> None:
        """Wait for what was asked, as long as one call may take, and disconnect. Idempotent.

        at_once: do not wait.
        """
        keeping, self._keeping = self._keeping, None
        if keeping is None:
            return
        wire = self._wire
        if wire is not None and wire.waiting and not at_once:
            last: Future = asyncio.get_running_loop().create_future()
            wire.ask(last, *_packed((b"PING",)))
            with suppress(CountersUnavailable):
                await last
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping

    def call(self, *parts: Part) -> Future:
        """Ask. Raises CountersUnavailable, now or when it is awaited."""
        return self.call_packed(*_packed(parts))

    def send(self, *parts: Part) -> bool:
        """Ask, and want no answer. False when there is no connection, and nothing was sent."""
        return self.send_packed(*_packed(parts))

    def call_packed(self, script: Part | None, packed: bytes) -> Future:
        """As `call`, with a command as it is written. script: the one it runs (`script_call`)."""
        wire = self._wire
        if wire is None:
            return self._park(script, packed)
        if len(wire.waiting) >= self._most:
            raise CountersUnavailable("too many calls wait for Redis")
        future: Future = wire._loop.create_future()
        wire.ask(future, script, packed)
        return future

    def send_packed(self, script: Part | None, packed: bytes) -> bool:
        """As `send`, with a command as it is written. script: the one it runs (`script_call`)."""
        wire = self._wire
        if wire is None:
            if self._parked is None or len(self._parked) >= self._most:
                return False
            self._parked.append((None, script, packed))
            return True
        if len(wire.waiting) >= self._most:
            return False
        wire.ask(None, script, packed)
        return True

    def complain(self, reason: str) -> None:
        """Log, once in a while, that a background command was refused."""
        now = asyncio.get_running_loop().time()
        if now - self._complained >= _QUIET:
            self._complained = now
            logger.warning("Redis refuses a command: %s", reason)

    def gone(self, wire: _Wire, reason: str) -> bool:
        """Called by a connection that has ended; says whether it was the one in use."""
        if self._wire is not wire:
            return False
        self._wire = None
        self.reason = reason
        return self._keeping is not None

    # The moment between a connection that broke and the next

    def again(self, calls: Iterable[PendingCalls]) -> None:
        """Called by a connection that broke: what was under way waits for the next one, which is
        being made. What must not run twice fails."""
        parked: list[PendingCalls] = []
        lost: list[PendingCalls] = []
        for call in calls:
            (lost if call[1] is not None and call[1] in self._once else parked).append(call)
        fail(lost, AnswerLost, f"the connection to Redis was lost: {self.reason}")
        self._parked = parked
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self._timeout, self._give_up)

    def _park(self, script: Part | None, packed: bytes) -> Future:
        """A call that finds no connection. Raises CountersUnavailable where none is expected."""
        if self._parked is None or len(self._parked) >= self._most:
            raise CountersUnavailable(f"Redis does not answer: {self.reason}")
        future: Future = asyncio.get_running_loop().create_future()
        self._parked.append((future, script, packed))
        return future

    def _unparked(self) -> list[PendingCalls]:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        parked, self._parked = self._parked, None
        return parked or []

    def _give_up(self) -> None:
        fail(self._unparked(), CountersUnavailable, f"Redis does not answer: {self.reason}")

    def _take_over(self, wire: _Wire, run: bytes) -> None:
        """The connection that is used from now on."""
        same, self.run = run == self.run, run
        self._wire = wire
        parked = self._unparked()
        if not same:
            fail(parked, AnswerLost, "the connection to Redis leads to another one now")
            return
        wire.repeat(parked)

    async def _keep(self, tried: asyncio.Event) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        wire: _Wire | None = None
        try:
            while True:
                try:
                    async with asyncio.timeout(self._connect_timeout):
                        wire, run = await self._connect()
                    if wire.lost.done():
                        raise CountersUnavailable(wire.lost.result())
                except (OSError, CountersUnavailable) as error:
                    # TimeoutError and SSLError are OSErrors.
                    self.reason = str(error) or f"{self._step} timed out"
                    self._give_up()
                    tried.set()
                    await asyncio.sleep(backoff.pause())
                    continue
                self._take_over(wire, run)
                self._connected()
                tried.set()
                backoff.reset()
                await asyncio.shield(wire.lost)
        finally:
            self._give_up()
            if wire is not None:
                wire.end("closed")

    async def _dial(self, wire: _Wire) -> None:
        """Connect by TCP, to one address after another. Raises OSError."""
        loop, where = asyncio.get_running_loop(), self._address
        self._step = f"name lookup of {where.host}"
        found = await lookup(where.host, where.port)
        self._step = f"connection to {where.host}"
        name = where.host if where.tls else None
        for left, one in enumerate(found, 1 - len(found)):
            try:
                await loop.create_connection(
                    lambda: wire, shown(one), where.port, ssl=where.tls, server_hostname=name
                )
                return
            except OSError:
                if not left:
                    raise

    async def _connect(self) -> tuple[_Wire, bytes]:
        """A connection that may be used, and `run` of it."""
        loop = asyncio.get_running_loop()
        where = self._address
        wire = _Wire(self, self._connect_timeout)
        try:
            if where.path:
                await loop.create_unix_connection(lambda: wire, where.path)
            else:
                await self._dial(wire)
            asked = []
            loading = [(b"SCRIPT", b"LOAD", source) for source in self.scripts.values()]
            for command in (*where.greeting(), *loading, (b"PING",)):
                asked.append(loop.create_future())
                wire.ask(asked[-1], *_packed(command))
            await asyncio.gather(*asked)
            run = await self._run_of(wire) if self._identified else b""
        except BaseException:
            wire.end("no connection")
            raise
        wire.ready(self._timeout)
        return wire, run

    async def _run_of(self, wire: _Wire) -> bytes:
        """Empty if not answered: there are proxies, and users without permission."""
        reply: Future = asyncio.get_running_loop().create_future()
        wire.ask(reply, *_packed((b"INFO", b"server")))
        try:
            found = _RUN.search(await reply)
        except CountersUnavailable:
            if wire.lost.done():
                raise
            return b""
        return found[1] if found else b""
