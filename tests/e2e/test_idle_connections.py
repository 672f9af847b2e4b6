"""An upstream that closes connections which were used: who notices, and what is sent twice."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .conftest import Figures, Start
from .wire import CHAT, ask, chat

HOW = ("native", "httpx")
ANSWER = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)


class Closing:
    """An upstream. Of the model `idle-*` it closes a connection a moment after each answer, as if
    it had been idle for too long; of `read-*`, when it has read the second request on it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        before = 0
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                self.asked[body["messages"][0]["content"]] += 1
                if before and body["model"].startswith("read"):
                    return
                before += 1
                writer.write(REPLY)
                if body["model"].startswith("idle"):
                    await asyncio.sleep(0.0005 * (sum(self.asked.values()) % 5))
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def closing() -> AsyncIterator[Closing]:
    upstream = Closing()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield upstream


def document(url: str, *, unanswered: bool) -> dict[str, Any]:
    """A model of each kind over each transport."""
    names = [f"{kind}-{how}" for kind in ("idle", "read") for how in HOW]
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [
            {
                "name": name,
                "dialect": "openai",
                "base_url": f"{url}/v1",
                "transport": name.partition("-")[2],
            }
            for name in names
        ],
        "models": [{"id": name, "targets": [f"{name}/{name}"]} for name in names],
        "fallback": {"retry_unanswered": unanswered, "retries": 0},
        "breaker": {"min_failures": 100_000},
    }


@pytest.mark.parametrize("unanswered", [True, False])
async def test_closed_idle_connections_cost_no_request_unless_it_may_have_been_read(
    start: Start, unanswered: bool, figures: Figures
) -> None:
    """No upstream sees a request twice where that is forbidden."""
    async with closing() as upstream:
        gateway = await asyncio.to_thread(start, document(upstream.url, unanswered=unanswered))

        async def statuses(kind: str, how: str, count: int) -> Counter[int]:
            found: Counter[int] = Counter()
            for number in range(count):
                body = chat(f"{kind} {how} {number}", f"{kind}-{how}")
                found[(await ask(gateway.url, CHAT, body, gateway.bearer)).status] += 1
            return found

        for how in HOW:
            idle, read = await statuses("idle", how, 60), await statuses("read", how, 20)
            figures(f"{how}: closed while idle {dict(idle)}, closed after reading {dict(read)}")
            if unanswered:
                assert idle == {200: 60}
                assert read == {200: 20}
            else:
                assert set(idle) <= {200, 502}  # the end and the request may cross
                assert idle[200] >= 30
                assert read == {200: 10, 502: 10}
        twice = [name for name, times in upstream.asked.items() if times > 1]
        assert all(times <= 2 for times in upstream.asked.values())
        assert bool(twice) == unanswered
