"""Upstream that runs one client process per request."""

import asyncio
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
    RequestBody,
    TimedOut,
    UpstreamFailure,
)

from .input import STOP_REQUESTS, ClientRequest, UnsupportedRequest, read_request
from .message import MessageBuilder
from .output import OutputReader, VendorRefusal, encode_event, refusal
from .pool import ProcessPool
from .process import Process
from .program import Program

_LARGEST_BODY = 64 << 20
_STREAM: list[Header] = [(b"content-type", b"text/event-stream; charset=utf-8")]
_JSON: list[Header] = [(b"content-type", b"application/json")]


class ClaudeCLIUpstream:
    """An `Upstream` for POST /v1/messages; any other request is answered 404.

    processes, waiting, prewarm: see `ProcessPool`.
    first: seconds until the model begins to answer. At most half of them are spent waiting for a
        client, so that there is time to try another target.
    idle: seconds between two reads of its output. total: seconds for a whole request.
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

        Raises ConnectFailed when the client is missing or none is free in time, SignedOut when it
        is not signed in.
        Cancelling ends the client.
        """
        path = request.target.partition(b"?")[0]
        if request.method != b"POST" or not path.endswith(b"/messages"):
            return WholeAnswer.refused(refusal(404, "this endpoint does not exist"))
        try:
            body = await _whole(request.body)
            client_request = (
                await run_in_thread(partial(read_request, body))
                if is_large(body)
                else read_request(body)
            )
            del body
        except UnsupportedRequest as unsupported:
            return WholeAnswer.refused(refusal(400, str(unsupported)))
        until = asyncio.get_running_loop().time() + self._total
        turn: ClientTurn | None = None
        try:
            async with asyncio.timeout(self._first) as limit:
                turn = await self._start_turn(client_request)
                if not await turn.configure() and turn.prewarmed:  # it died while it was idle
                    turn.close()
                    turn = await self._start_turn(client_request)
                    await turn.configure()
                await turn.ask()
            if client_request.stream:
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

    async def _start_turn(self, client_request: ClientRequest) -> "ClientTurn":
        patience = self._first / 2
        try:
            async with asyncio.timeout(patience) as limit:
                process = await self.pool.take()
        except TimeoutError:
            if limit.expired():
                raise ConnectFailed(f"no client was free within {patience:g} s") from None
            raise
        return ClientTurn(process, self.pool, client_request, idle=self._idle)

    async def aclose(self) -> None:
        """End every client and refuse new requests."""
        await self.pool.aclose()


async def _whole(body: RequestBody) -> bytes:
    if body is None or isinstance(body, bytes):
        return body or b""
    parts = bytearray()
    async for part in body:
        parts += part
        if len(parts) > _LARGEST_BODY:
            raise Malformed(f"the request body is larger than {_LARGEST_BODY} bytes")
    return bytes(parts)


class ClientTurn:
    """One request and the client process that answers it."""

    def __init__(
        self, process: Process, pool: ProcessPool, client_request: ClientRequest, *, idle: float
    ) -> None:
        self._process = process
        self.pool = pool
        self._request = client_request
        self._idle = idle
        self._output = OutputReader(client_request.tools)
        self._events: list[Raw] = []
        self._failure: VendorRefusal | UpstreamFailure | None = None

    @property
    def prewarmed(self) -> bool:
        """Whether its client was prewarmed."""
        return self._process.prewarmed

    async def configure(self) -> bool:
        """Send the settings; False when the client has exited. Raises UpstreamFailure."""
        client_request, output = self._request, self._output
        try:
            await self._process.write(b"".join(client_request.controls.values()))
            while not output.answered.issuperset(client_request.controls):
                await self._read_events()
        except Disconnected as gone:
            self._failure = ConnectFailed(f"the client failed at start: {gone.reason}")
            return False
        return True

    async def ask(self) -> None:
        """Send history and question; return with the first event.

        Raises VendorRefusal and UpstreamFailure.
        """
        if self._failure is not None:
            raise self._failure
        client_request, output, process = self._request, self._output, self._process
        # One by one, since an assistant turn would overtake the user's.
        for line in client_request.history:
            taken = output.taken
            await process.write(line.data)
            while line.uuid not in output.answered if line.uuid else output.taken == taken:
                await self._read_events()
        taken = output.taken
        await process.write(client_request.question)
        while not self._events:
            await self._read_events()
            if output.taken != taken:  # the client accepted it without calling the model
                raise refusal(400, "messages: the last one has no content for the model")
        with suppress(Disconnected):  # the next read raises it
            await process.write(STOP_REQUESTS)

    async def _read_events(self) -> None:
        """Read the next output lines. Raises a failure once the events before it are read."""
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
        """All available events, at least one; [] after the last."""
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
    """A `Response` that streams the events."""

    status = 200

    def __init__(self, turn: ClientTurn, until: float, total: float) -> None:
        self.headers = _STREAM.copy()
        self._turn = turn
        self._until = until
        self._total = total
        self._over = False

    async def read(self) -> bytes:
        """The next events. Raises UpstreamFailure."""
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
        """End the client."""
        self._over = True
        self._turn.close()


class WholeAnswer:
    """A `Response` with a complete body."""

    def __init__(self, status: int, body: bytes, headers: list[Header]) -> None:
        self.status = status
        self.headers = [*headers, (b"content-length", b"%d" % len(body))]
        self._body = body

    @classmethod
    def refused(cls, refused: VendorRefusal) -> "WholeAnswer":
        """The response for an error of the vendor."""
        return cls(refused.status, refused.body, refused.headers)

    async def read(self) -> bytes:
        """The body at the first call, then b""."""
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        """No effect: the process has already ended."""
