"""A raw HTTP/1.1 client, to see every byte and to do what no library does."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tests.waiting import DEADLINE

from .program import Gateway

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
ANTHROPIC = {"anthropic-version": "2023-06-01"}


class Reply(msgspec.Struct):
    """A response. whole: whether its framing came to its end."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    whole: bool = False
    head: bytes = b""

    def header(self, name: str) -> str:
        """The value of a header that must be there once."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) == 1, f"{name}: {values}"
        return values[0]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of either envelope."""
        found: dict[str, Any] = self.json()["error"]
        return found


class Line:
    """One connection. A test may cut, delay or leave out anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Reply:
        """The next response head that is final."""
        async with asyncio.timeout(DEADLINE):
            block = await self.reader.readuntil(b"\r\n\r\n")
        start, *lines = block[:-4].decode("latin-1").split("\r\n")
        status = int(start.split(" ")[1])
        if status == 100:
            return await self.head()
        headers = [(name.lower(), value) for name, _, value in (x.partition(": ") for x in lines)]
        return Reply(status, headers, head=block)

    async def parts(self, reply: Reply) -> AsyncIterator[bytes]:
        """The body in the pieces in which it comes; `reply.whole` tells how it ended."""
        headers = dict(reply.headers)
        async with asyncio.timeout(DEADLINE):
            try:
                if headers.get("transfer-encoding") == "chunked":
                    while size := int(await self.reader.readuntil(b"\r\n"), 16):
                        yield await self.reader.readexactly(size)
                        await self.reader.readexactly(2)
                    await self.reader.readexactly(2)
                elif "content-length" in headers:
                    yield await self.reader.readexactly(int(headers["content-length"]))
                elif reply.status not in (204, 304):
                    yield await self.reader.read()
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            reply.whole = True

    async def reply(self, *, bodyless: bool = False) -> Reply:
        """The next response with its body."""
        reply = await self.head()
        if bodyless:
            reply.whole = True
            return reply
        async for part in self.parts(reply):
            reply.body += part
        return reply


@asynccontextmanager
async def line(url: str, **options: Any) -> AsyncIterator[Line]:
    """A connection to the origin of `url`."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, **options)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def request(
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    *,
    method: str = "",
    host: str = "penstock.test",
) -> bytes:
    """A request as HTTP/1.1; a body that is no bytes goes as JSON."""
    method = method or ("GET" if body is None else "POST")
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines += ["content-type: application/json", f"content-length: {len(data)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


async def ask(
    url: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **options: Any
) -> Reply:
    """One request on a connection of its own."""
    async with line(url) as connection:
        await connection.send(request(path, body, headers, **options))
        return await connection.reply(bodyless=options.get("method") == "HEAD")


async def read_on(
    url: str,
    path: str,
    body: Any,
    headers: dict[str, str],
    *,
    until: bytes,
    then: Callable[[], Awaitable[None]],
) -> Reply:
    """A stream of which so much has come when `then` happens, and then the rest of it."""
    async with line(url) as connection:
        await connection.send(request(path, body, headers))
        reply = await connection.head()
        seen = False
        async for part in connection.parts(reply):
            reply.body += part
            if not seen and until in reply.body:
                seen = True
                await then()
        return reply


def chat(text: str = "Hello", model: str = "sim-1", **fields: Any) -> dict[str, Any]:
    """A body of a conversation that both dialects take."""
    conversation = [{"role": "user", "content": text}]
    return {"model": model, "max_tokens": 200_000, "messages": conversation, **fields}


def events(body: bytes) -> list[Any]:
    """The data of each event of a stream, decoded; `[DONE]` as text."""
    found: list[Any] = []
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        for text in block.split("\n"):
            if text.startswith("data: "):
                data = text[6:]
                found.append(data if data == "[DONE]" else json.loads(data))
    return found


def text_of(body: bytes) -> str:
    """The text of a stream in any dialect, by its deltas."""
    text = ""
    for event in events(body):
        if not isinstance(event, dict):
            continue
        kind = event.get("type")
        for choice in event.get("choices", ()):
            text += choice.get("text") or choice.get("delta", {}).get("content") or ""
        if kind == "content_block_delta":
            text += event["delta"].get("text", "")
        if kind == "response.output_text.delta":
            text += event["delta"]
    return text


def bearer(key: str) -> dict[str, str]:
    """The header that signs a request with a key."""
    return {"authorization": f"Bearer {key}"}


async def once(connection: Line, path: str, body: Any, headers: dict[str, str]) -> Reply:
    """One request on an open connection."""
    await connection.send(request(path, body, headers))
    return await connection.reply()


async def lines_to_both_workers(gateway: Gateway, stack: AsyncExitStack) -> list[Line]:
    """Connections of which both workers have some; the system deals them out."""
    lines: list[Line] = []
    async with asyncio.timeout(DEADLINE):
        while len(lines) < 8 or not _both_have_some(gateway, lines):
            connection = await stack.enter_async_context(line(gateway.url))
            await connection.send(request("/health"))
            assert (await connection.reply()).status == 200
            lines.append(connection)
    return lines


def _both_have_some(gateway: Gateway, lines: list[Line]) -> bool:
    ours = {one.writer.get_extra_info("sockname")[1] for one in lines}
    holders = [
        worker
        for worker in gateway.workers
        if ours & {there.raddr.port for there in worker.net_connections() if there.raddr}
    ]
    return len(holders) == 2


def refuses(port: int) -> bool:
    """Whether no new connection to a port is accepted. One that is kept waiting is not refused."""
    with suppress(TimeoutError):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionError:
            return True
    return False
