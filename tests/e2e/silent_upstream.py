"""An upstream that falls silent before or in the middle of its answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(delta: dict[str, Any]) -> bytes:
    """One event of a stream, in a chunk of its own."""
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    made = {"id": "1", "object": "chat.completion.chunk", "created": 1, "choices": [choice]}
    event = b"data: " + json.dumps({**made, "model": "m"}).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


@asynccontextmanager
async def silent_upstream() -> AsyncIterator[str]:
    """Its URL. The model `none` is silent before any answer, `some` after a word; `flood` never
    ends."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            model = json.loads(await reader.readexactly(length))["model"]
            if model != "none":
                writer.write(HEAD + chunk({"role": "assistant", "content": ""}))
                writer.write(chunk({"content": "Hello"}))
            while model == "flood" and not over.is_set():
                writer.write(chunk({"content": "x" * 10_000}))
                await writer.drain()
            await over.wait()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        over.set()


def over_silent_upstream(url: str) -> dict[str, Any]:
    """The configuration of a gateway over it."""
    models = ("none", "some", "flood")
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "server": {"drain": "6s"},
        "upstreams": [{"name": "dead", "dialect": "openai", "base_url": url}],
        "models": [{"id": name, "targets": [f"dead/{name}"]} for name in models],
        "plans": [{"id": "one", "concurrency": 1, "on_excess": "throttle"}],
    }
