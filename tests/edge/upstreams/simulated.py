"""Requests to the simulator, and raw HTTP to its server, for the tests of the simulator."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from edge.upstreams import Request
from edge.upstreams.simulator import Controls, SimulatedAnswer, SimulatorServer, answer
from tests.waiting import DEADLINE

CHAT = b"/v1/chat/completions"
MESSAGES = b"/v1/messages"
RESPONSES = b"/v1/responses"
WEATHER: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
    "required": ["city"],
}
CHAT_TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": WEATHER}}
    for name in ("weather", "forecast")
]
MESSAGES_TOOLS = [{"name": name, "input_schema": WEATHER} for name in ("weather", "forecast")]

RESPONSES_TOOLS = [
    {"type": "function", "name": name, "parameters": WEATHER, "strict": False}
    for name in ("weather", "forecast")
]


def chat(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    """A body of POST /v1/chat/completions with one user message."""
    return {"model": "sim-1", "messages": [{"role": "user", "content": text}], **fields}


def messages(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    """A body of POST /v1/messages with one user message."""
    return {"max_tokens": 1000, **chat(text, **fields)}


def responses(said: str = "Hello", /, **fields: Any) -> dict[str, Any]:
    """A body of POST /v1/responses with one user message."""
    return {"model": "sim-1", "input": [{"role": "user", "content": said}], **fields}


def post(target: bytes, body: dict[str, Any] | bytes, x_sim: bytes = b"") -> Request:
    """A POST of `body`; `x_sim` is the header of that name, if any."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = ((b"content-type", b"application/json"),)
    return Request(b"POST", target, (*headers, (b"x-sim", x_sim)) if x_sim else headers, data)


def ask(request: Request, defaults: Controls | None = None) -> SimulatedAnswer:
    """The answer, without any I/O."""
    assert isinstance(request.body, bytes)
    return answer(
        request.method, request.target, request.headers, request.body, defaults or Controls()
    )


def whole(found: SimulatedAnswer) -> bytes:
    """All bytes of the body of an answer."""
    return b"".join(data for _, data in found.steps)


def ask_json(request: Request) -> Any:
    """The JSON of an unstreamed answer with status 200."""
    found = ask(request)
    assert found.status == 200, whole(found)
    return json.loads(whole(found))


def events(body: bytes) -> list[Any]:
    """The data of each event of a stream, decoded; `[DONE]` as text."""
    found = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                data = line[6:]
                found.append("[DONE]" if data == b"[DONE]" else json.loads(data))
    return found


def wire(request: Request, *, close: bool = True) -> bytes:
    """The request as HTTP/1.1."""
    assert isinstance(request.body, bytes)
    lines = [b"%s %s HTTP/1.1" % (request.method, request.target), b"host: simulator"]
    lines += [b"%s: %s" % pair for pair in request.headers]
    lines.append(b"content-length: %d" % len(request.body))
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.body


@asynccontextmanager
async def connect(
    server: SimulatorServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A raw connection to the server, closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(server: SimulatorServer, request: Request) -> tuple[int, bytes, bool]:
    """Status, body, and whether the body came to its end."""
    async with connect(server) as (reader, writer):
        writer.write(wire(request))
        return await read_answer(reader)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """As `exchange`, from a connection on which a request has been sent."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    body = bytearray()
    try:
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body += await reader.readexactly(length)
    except asyncio.IncompleteReadError as cut:
        return status, bytes(body + cut.partial), False
    return status, bytes(body), True


async def until(true: Callable[[], bool]) -> None:
    """Wait for what only the operating system can bring about; TimeoutError after 5 s."""
    async with asyncio.timeout(DEADLINE):
        while not true():
            await asyncio.sleep(0.005)
