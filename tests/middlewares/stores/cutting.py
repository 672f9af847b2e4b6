"""A server of the tests' own in front of Redis, which cuts connections at a chosen moment."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp(
    serve: Serve,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """A server of our own. Gives its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Cutting:
    """Passes on to a Redis. A connection that asks for `word` is cut when that is carried out, and
    its answers are never seen, for so many `times`; then `after` is the Redis that it leads to."""

    def __init__(self, path: str, after: str = "") -> None:
        self.path = path
        self.after = after or path
        self.word = b""
        self.times = 1
        self.cuts = 0

    def cut_at(self, word: bytes) -> None:
        """Cut once, at the next that has this word."""
        self.word, self.times = word, self.cuts + 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(self.path)
        doomed = False

        async def answers() -> None:
            while data := await inner_reader.read(65536):
                if doomed:
                    return
                writer.write(data)

        answering = asyncio.create_task(answers())
        try:
            while data := await reader.read(65536):
                doomed = bool(self.word) and self.word in data and self.cuts < self.times
                inner_writer.write(data)
                if doomed:
                    await answering
                    self.cuts += 1
                    self.path = self.after
                    return
        finally:
            answering.cancel()
            inner_writer.close()
