"""The client behind the upstream seam: a process for each request, and its answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

from msgspec import Raw

from edge.requests.body_limits import is_large
from edge.runtime.worker_thread import run_in_thread
from edge.upstreams import (
    ConnectFailed,
    Disconnected,
    Header,
    Malformed,
    Request,
    TimedOut,
    UpstreamFailure,
)

from .input import STOP_REQUESTS, ClientRequest, UnsupportedRequest, asking
from .message import MessageBuilder
from .output import OutputReader, VendorRefusal, encode_event, refusal
from .pool import ProcessPool
from .process import Process
from .program import Program

_LARGEST_BODY = 64 << 20
_STREAM: list[Header] = [(b"content-type", b"text/event-stream; charset=utf-8")]
_JSON: list[Header] = [(b"content-type", b"application/json")]


class ClaudeCLIUpstream:
    """An `UpstreamConfig` for POST /v1/messages; anything else is answered 404.

    processes, waiting, spare: see `ProcessPool`.
    first: seconds until the model begins to answer. At most half of them are spent waiting for a
        client: whoever waits for the answer has another place to try, or is told why.
    idle: seconds between two reads of its output; total: for a whole request.
    """

    def __init__(
        self,
        program: Program,
        *,
        processes: int = 5,
        waiting: int = 100,
        prewarm: int = 1,
        first: float = 120.0,
        idle: float = 120.0,
        total: float = 1800.0,
    ) -> None:
        self.pool = ProcessPool(program, processes=processes, waiting=waiting, prewarm=prewarm)
        self._first = first
        self._idle = idle
        self._total = total

    async def open(self, request: Request) -> "StreamedAnswer | WholeAnswer":
        """Return when the model begins to answer, or at the end of an unstreamed answer.

        Raises ConnectFailed where there is no client that is signed in, or none is free in time.
        Cancelling ends the client.
        """
        path = request.target.partition(b"?")[0]
        if request.method != b"POST" or not path.endswith(b"/messages"):
            return WholeAnswer.refused(refusal(404, "there is no such endpoint"))
        try:
            body = await _whole(request.body)
            asked = await run_in_thread(partial(asking, body)) if is_large(body) else asking(body)
            del body
        except UnsupportedRequest as unsupported:
            return WholeAnswer.refused(refusal(400, str(unsupported)))
        until = asyncio.get_running_loop().time() + self._total
        turn: ClientTurn | None = None
        try:
            async with asyncio.timeout(self._first) as limit:
                turn = await self._taken(asked)
                if not await turn.configure() and turn.prewarmed:  # it died while nobody looked
                    turn.close()
                    turn = await self._taken(asked)
                    await turn.configure()
                await turn.ask()
            if asked.stream:
                return StreamedAnswer(turn, until, self._total)
            async with asyncio.timeout_at(until):
                return WholeAnswer(200, await turn.whole(), _JSON)
        except BaseException as error:
            if turn is not None:
                turn.close()
            if isinstance(error, VendorRefusal):
                return WholeAnswer.refused(error)
            if isinstance(error, TimeoutError):
                if limit.expired():
                    raise TimedOut("first_byte", self._first, sent=True) from None
                raise TimedOut("total", self._total, sent=True) from None
            raise

    async def _taken(self, asked: ClientRequest) -> "ClientTurn":
        patience = self._first / 2
        try:
            async with asyncio.timeout(patience) as limit:
                process = await self.pool.take()
        except TimeoutError:
            if limit.expired():
                raise ConnectFailed(f"no client was free within {patience:g} s") from None
            raise
        return ClientTurn(process, self.pool, asked, idle=self._idle)

    async def aclose(self) -> None:
        """End every client and refuse new requests."""
        await self.pool.aclose()


async def _whole(body: bytes | AsyncIterator[bytes] | None) -> bytes:
    if body is None or isinstance(body, bytes):
        return body or b""
    parts = bytearray()
    async for part in body:
        parts += part
        if len(parts) > _LARGEST_BODY:
            raise Malformed(f"the request body is larger than {_LARGEST_BODY} bytes")
    return bytes(parts)


class ClientTurn:
    """One request with the client that answers it."""

    def __init__(
        self, process: Process, pool: ProcessPool, asked: ClientRequest, *, idle: float
    ) -> None:
        self._process = process
        self.pool = pool
        self._request = asked
        self._idle = idle
        self._output = OutputReader(asked.tools)
        self._events: list[Raw] = []
        self._failure: VendorRefusal | UpstreamFailure | None = None

    @property
    def prewarmed(self) -> bool:
        """Whether its client was started before it was needed."""
        return self._process.prewarmed

    async def configure(self) -> bool:
        """Tell it how to answer; False when it was gone. Raises UpstreamFailure."""
        asked, answering = self._request, self._output
        try:
            await self._process.write(b"".join(asked.controls.values()))
            while not answering.answered.issuperset(asked.controls):
                await self._read_events()
        except Disconnected as gone:
            self._failure = ConnectFailed(f"it does not work: {gone.reason}")
            return False
        return True

    async def ask(self) -> None:
        """Tell it what was said, and ask; return with the first event. Raises Refusal and
        UpstreamFailure."""
        if self._failure is not None:
            raise self._failure
        asked, answering, process = self._request, self._output, self._process
        for said in asked.said:  # one by one: the assistant's words would overtake the user's
            taken = answering.taken
            await process.write(said.line)
            while said.uuid not in answering.answered if said.uuid else answering.taken == taken:
                await self._read_events()
        taken = answering.taken
        await process.write(asked.asked)
        while not self._events:
            await self._read_events()
            if answering.taken != taken:  # as something that asks for no answer
                raise refusal(400, "messages: the last one says nothing to the model")
        with suppress(Disconnected):  # whoever reads on is told
            await process.write(STOP_REQUESTS)

    async def _read_events(self) -> None:
        """Read its next lines. Raises what they amount to, once the events before it are told."""
        if self._failure is not None:
            raise self._failure
        lines = await self._process.read()
        if not lines:
            raise Disconnected(await self._process.exit_reason(), sent=True)
        try:
            for line in lines:
                event = self._output.read_line(line)
                if event is not None:
                    self._events.append(event)
        except (VendorRefusal, UpstreamFailure) as failure:
            if not self._events:
                raise
            self._failure = failure

    async def events(self) -> list[Raw]:
        """The next events, all that are there; none after the last."""
        try:
            async with asyncio.timeout(self._idle) as limit:
                while not self._events and not self._output.complete:
                    await self._read_events()
        except TimeoutError:
            if limit.expired():
                raise TimedOut("idle", self._idle, sent=True) from None
            raise
        events, self._events = self._events, []
        if self._output.complete:
            self.close()
        return events

    async def whole(self) -> bytes:
        """The answer as one message."""
        message = MessageBuilder()
        while events := await self.events():
            for event in events:
                message.add(event)
        return message.body()

    def close(self) -> None:
        """End the client. Idempotent, never waits."""
        self.pool.release(self._process)


class StreamedAnswer:
    """A `Response`: the events as a stream."""

    status = 200

    def __init__(self, turn: ClientTurn, until: float, total: float) -> None:
        self.headers = _STREAM.copy()
        self._turn = turn
        self._until = until
        self._total = total
        self._over = False

    async def read(self) -> bytes:
        """Events as they come. Raises UpstreamFailure."""
        if self._over:
            return b""
        try:
            async with asyncio.timeout_at(self._until) as limit:
                events = await self._turn.events()
        except BaseException as error:
            self.close()
            if isinstance(error, VendorRefusal):
                return b"event: error\ndata: %b\n\n" % error.body
            if isinstance(error, TimeoutError) and limit.expired():
                raise TimedOut("total", self._total, sent=True) from None
            raise
        return b"".join(map(encode_event, events))

    def close(self) -> None:
        """End the client, which goes on for nobody."""
        self._over = True
        self._turn.close()


class WholeAnswer:
    """A `Response` that is all there."""

    def __init__(self, status: int, body: bytes, headers: list[Header]) -> None:
        self.status = status
        self.headers = [*headers, (b"content-length", b"%d" % len(body))]
        self._body = body

    @classmethod
    def refused(cls, refused: VendorRefusal) -> "WholeAnswer":
        """What a refusal looks like."""
        return cls(refused.status, refused.body, refused.headers)

    async def read(self) -> bytes:
        """The body, once."""
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """Nothing is held."""
