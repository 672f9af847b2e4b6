"""An upstream that answers as a script says, byte for byte, and remembers what it was asked.

The model's name in the request chooses the script, so one upstream and one gateway serve a whole
table of tests at once.
"""

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

Wire = Literal["chat", "messages", "responses", "embeddings"]
ENDS: Mapping[str, Wire] = {
    "/chat/completions": "chat",
    "/messages": "messages",
    "/responses": "responses",
    "/embeddings": "embeddings",
}
JSON = MappingProxyType({"content-type": "application/json"})
SSE = MappingProxyType({"content-type": "text/event-stream"})


HOLD = b""
"""In place of a piece: wait until the test has released the model."""
CUT = b"\0cut"
"""In place of a piece: the connection breaks."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a script, for requests that it fits.

    wire, streamed: the request's; None fits all. turn: the n-th request of the model, from 1.
    if_member: only if the request has this top-level member.
    pieces: the body; each is flushed alone, `HOLD` waits, and `CUT` breaks off.
    """

    wire: Wire | None = None
    streamed: bool | None = None
    turn: int | None = None
    if_member: str | None = None
    status: int = 200
    headers: Mapping[str, str] = JSON
    pieces: Sequence[bytes]

    def fits(self, request: "Asked", turn: int) -> bool:
        """Whether it answers this request."""
        return (
            self.wire in (None, request.wire)
            and self.streamed in (None, bool(request.body.get("stream")))
            and self.turn in (None, turn)
            and (self.if_member is None or self.if_member in request.body)
        )


class Asked(msgspec.Struct, frozen=True):
    """One request as it came. target: path and query. names of headers are lower case."""

    target: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    wire: Wire | None


class ScriptedUpstream:
    """The server. url: its base URL, version included. asked: requests by model, as they came.
    closed: by model, how many answers the gateway has closed while they were held."""

    def __init__(
        self,
        port: int,
        scripts: Mapping[str, Sequence[Answer]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.asked: dict[str, list[Asked]] = defaultdict(list)
        self.closed: dict[str, int] = defaultdict(int)
        self._scripts = scripts
        self._loop = loop
        self._released: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def release(self, model: str) -> None:
        """Let answers of this model go on behind `HOLD`. From any thread."""
        self._loop.call_soon_threadsafe(lambda: self._released[model].set())

    async def held(self, asked: Asked, reader: asyncio.StreamReader) -> None:
        """Until `release` of the model that was asked for. Raises ConnectionError if the gateway
        closes the connection meanwhile."""
        model = str(asked.body.get("model"))
        released = asyncio.ensure_future(self._released[model].wait())
        ended = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((released, ended), return_when=asyncio.FIRST_COMPLETED)
            if not released.done():
                self.closed[model] += 1
                raise ConnectionError
        finally:
            released.cancel()
            ended.cancel()

    def answer(self, asked: Asked) -> Answer:
        """The first answer of the model's script that fits."""
        model = str(asked.body.get("model"))
        self.asked[model].append(asked)
        turn = len(self.asked[model])
        for answer in self._scripts.get(model, ()):
            if answer.fits(asked, turn):
                return answer
        return Answer(status=404, pieces=[b'{"error":{"message":"the script has no answer"}}'])


async def _serve(
    upstream: ScriptedUpstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            start, *lines = head[:-4].decode("latin-1").split("\r\n")
            pairs = (line.partition(": ") for line in lines)
            headers = {name.lower(): value for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            target = start.split(" ")[1]
            path = urlsplit(target).path
            wire = next((wire for end, wire in ENDS.items() if path.endswith(end)), None)
            asked = Asked(target, headers, json.loads(body), wire)
            answer = upstream.answer(asked)
            said = {**answer.headers, "transfer-encoding": "chunked"}
            out = [f"HTTP/1.1 {answer.status} Scripted"]
            out += [f"{name}: {value}" for name, value in said.items()]
            writer.write("\r\n".join([*out, "", ""]).encode())
            for piece in answer.pieces:
                if piece == HOLD:
                    await upstream.held(asked, reader)
                elif piece == CUT:
                    raise ConnectionError
                else:
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
                    await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@contextmanager
def scripted_upstream(
    scripts: Mapping[str, Sequence[Answer]],
) -> Iterator[ScriptedUpstream]:
    """Serve `scripts`, by model, from a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    made: list[ScriptedUpstream] = []

    async def start() -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _serve(made[0], reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        made.append(ScriptedUpstream(server.sockets[0].getsockname()[1], scripts, loop))
        return server

    async def stop(server: asyncio.Server) -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            await asyncio.wait([task])

    def run(what: Callable[[], Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what(), loop).result(30)

    server = run(start)
    try:
        yield made[0]
    finally:
        run(lambda: stop(server))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


def frames(*data: Any, event: bool = False, done: bool = False) -> list[bytes]:
    """Events of a stream, one piece each. Text goes as it is, anything else as JSON.

    event: with an `event:` line that names the frame's `type`. done: with `[DONE]` at the end.
    """
    made = []
    for each in data:
        text = each if isinstance(each, str) else json.dumps(each, separators=(",", ":"))
        name = f"event: {each['type']}\n" if event else ""
        made.append(f"{name}data: {text}\n\n".encode())
    return [*made, b"data: [DONE]\n\n"] if done else made
