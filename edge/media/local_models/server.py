"""Requests from frames, answers to frames."""

import asyncio
import os
import signal
import socket
from contextlib import suppress

from edge.media.decode.sandbox import Sandbox, cores
from edge.upstreams.local_media.frames import (
    PIECE,
    WINDOW,
    AnyFrame,
    Body,
    Cancel,
    Data,
    Done,
    FrameReader,
    Head,
    More,
    Open,
    Ready,
    Sent,
    encode,
)
from middlewares.problem import Problem

from .call import Refusal
from .chat import converse
from .listening import transcribe
from .speech import speak

_READ = 256 << 10
_LARGEST_BODY = 64 << 20
_STATUS = {"invalid_media": 400, "upstream_unavailable": 503}
"""By kind of problem of the sandbox."""


class FramedCall:
    """A `Call` of which the body and the answer are frames."""

    def __init__(self, server: "Server", opened: Open) -> None:
        self.path = opened.path
        self.content_type = opened.content_type
        self.body = b""
        self.begun = False
        self.whole = asyncio.Event()
        self.window = asyncio.Semaphore(WINDOW)
        self.task: asyncio.Task[None] | None = None
        self._id = opened.id
        self._server = server
        self._parts = bytearray()

    def add(self, data: bytes) -> None:
        """Take a piece of the body; what is too long is not kept, and refused later."""
        if len(self._parts) <= _LARGEST_BODY:
            self._parts += data

    def end_body(self) -> None:
        """The body is complete."""
        self.body = bytes(self._parts)
        self._parts.clear()
        self.whole.set()

    async def head(self, content_type: str, status: int = 200) -> None:
        """See `Call.head`."""
        self.begun = True
        await self._server.send(Head(self._id, status, content_type))

    async def send(self, data: bytes) -> None:
        """See `Call.send`."""
        for at in range(0, len(data), PIECE):
            await self.window.acquire()
            await self._server.send(Data(self._id, data[at : at + PIECE]))


class Server:
    """Serves the requests of one worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._calls: dict[int, FramedCall] = {}
        self._sandbox = Sandbox(cores())

    async def run(self) -> None:
        """Serve until the worker closes the socket."""
        frames = FrameReader()
        await self.send(Ready())
        while data := await self._reader.read(_READ):
            for frame in frames.read(data):
                self._take(frame)

    async def send(self, frame: AnyFrame) -> None:
        """Send a frame; waits while the worker does not read."""
        self._writer.write(encode(frame))
        await self._writer.drain()

    def _take(self, frame: AnyFrame) -> None:
        if isinstance(frame, Open):
            call = self._calls[frame.id] = FramedCall(self, frame)
            call.task = asyncio.create_task(self._serve(frame.id, call))
            return
        call_ = self._calls.get(frame.id)
        if call_ is None:
            return
        match frame:
            case Body(data=data):
                call_.add(data)
            case Sent():
                call_.end_body()
            case More():
                call_.window.release()
            case Cancel() if call_.task is not None:
                call_.task.cancel()

    async def _serve(self, id_: int, call: FramedCall) -> None:
        failed = False
        try:
            await call.whole.wait()
            await self._answer(call)
        except Refusal as refusal:
            failed = await _refuse(call, refusal)
        except Problem as problem:
            status = _STATUS.get(problem.kind, 501)
            failed = await _refuse(
                call,
                Refusal(
                    status,
                    problem.message or problem.kind,
                    code=problem.kind,
                    param=problem.param or "",
                ),
            )
        except Exception as error:
            said = f"The local model failed: {type(error).__name__}."
            failed = await _refuse(call, Refusal(500, said))
        finally:
            self._calls.pop(id_, None)
        with suppress(OSError):
            await self.send(Done(id_, failed))

    async def _answer(self, call: FramedCall) -> None:
        if len(call.body) > _LARGEST_BODY:
            raise Refusal(413, f"Expected a body of at most {_LARGEST_BODY} bytes.")
        if call.path == "/audio/speech":
            await speak(call)
        elif call.path == "/audio/transcriptions":
            await transcribe(call, self._sandbox)
        elif call.path == "/chat/completions":
            await converse(call, self._sandbox)
        else:
            raise Refusal(404, "The local models have no such endpoint.")


async def _refuse(call: FramedCall, refusal: Refusal) -> bool:
    """Answer with an error; True if an answer had begun, which breaks off."""
    if call.begun:
        return True
    await call.head("application/json", refusal.status)
    await call.send(refusal.body())
    return False


async def _serve(connection: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    with suppress(OSError):
        await Server(reader, writer).run()
    os._exit(0)  # models that run are not waited for


def main() -> None:
    """Serve the worker at the other end of standard input."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker handles them, and closes the socket
    connection = socket.socket(fileno=os.dup(0))
    connection.setblocking(False)
    asyncio.run(_serve(connection))
