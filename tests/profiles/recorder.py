"""A server in front of the simulator that passes every byte on, and keeps the requests it saw.

The tests of what a provider receives read `asked`. The simulator behind it answers, so an answer
is what a provider would have said to that very request.
"""

import asyncio
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Asked(NamedTuple):
    """A request. headers: by their names in small letters. body: None if it is no JSON."""

    path: str
    headers: Mapping[str, str]
    body: Any


class Recorder:
    """url: what a gateway asks in place of `simulator`. asked: requests as they came.

    once: words for the simulator that hold for the next request.
    """

    def __init__(self, simulator: str, controls: Mapping[str, str]) -> None:
        """controls: words for the simulator, by the model of the request."""
        self.url = ""
        self.asked: list[Asked] = []
        self.once = ""
        self._controls = controls
        self._simulator = simulator
        place = urlsplit(simulator)
        self._to = (place.hostname, place.port)

    def of_model(self, model: str) -> list[Asked]:
        """The requests for a model."""
        return [one for one in self.asked if (one.body or {}).get("model") == model]

    def release(self) -> None:
        """Let every answer go on that `fault=hold:N` holds."""
        httpx.get(f"{self._simulator}/release", trust_env=False).raise_for_status()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the gateway's."""
        from_there, to_there = await asyncio.open_connection(*self._to)
        back = asyncio.ensure_future(_pass_on(from_there, writer))
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                head = self._recorded(head, body)
                to_there.write(head + body)
                await to_there.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            back.cancel()
            to_there.close()
            writer.close()

    def _recorded(self, head: bytes, body: bytes) -> bytes:
        """The head to pass on."""
        start, *lines = head[:-4].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        content = None
        with suppress(ValueError):
            content = json.loads(body)
        self.asked.append(Asked(start.split(" ")[1], headers, content))
        words = self.once or self._controls.get((content or {}).get("model", ""), "")
        self.once = ""
        return head if not words else head[:-2] + f"x-sim: {words}\r\n\r\n".encode()


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()


@contextmanager
def recorder(simulator: str, controls: Mapping[str, str] | None = None) -> Iterator[Recorder]:
    """A running recorder, with a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    found = Recorder(simulator, controls or {})

    async def start() -> asyncio.Server:
        server = await asyncio.start_server(found.serve, "127.0.0.1", 0, limit=1 << 26)
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def stop() -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            await asyncio.wait([task])

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
