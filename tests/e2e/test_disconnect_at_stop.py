"""Clients that leave in the moment in which the gateway stops: none of them is waited for.

Without connections the server ends at once. A task that listens later, or whose turn has not come,
does not hear then that its client has left. The drain is longer than any wait of a test: a gateway
that waits for one of these does not end in time.
"""

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import Any

import pytest

from .conftest import Start
from .ledger import rows
from .program import Gateway, until
from .silent_upstream import over_silent_upstream, silent_upstream
from .surfaces import SURFACES, Wish
from .wire import CHAT, Line, bearer, line, refuses, request

MANY = 150
"""More than Granian's thread takes turns at before it looks whether its work is done (61)."""


async def clients(gateway: Gateway, deployment: AsyncExitStack, narrow: str) -> list[Line]:
    """Streams under way, and all that can wait: for a first token or a plain answer, in line, for
    the end of an upload, for a reader that takes nothing."""
    opened: list[Line] = []

    async def ask(model: str, *, stream: bool = True, surface: str = "chat", key: str = "") -> None:
        by = SURFACES[surface]
        body = by.body("Hi", model, stream, Wish(limit=50))
        headers = {**by.headers, **(bearer(key) if key else gateway.bearer)}
        connection = await deployment.enter_async_context(line(gateway.url))
        await connection.send(request(by.path, body, headers))
        opened.append(connection)

    for surface in SURFACES:
        for model in ("some", "none"):
            await ask(model, surface=surface)
        await ask("none", stream=False, surface=surface)
    for _ in range(2):
        await ask("none", key=narrow)
        await ask("flood")
    for _ in range(MANY):
        await ask("some")
    upload = await deployment.enter_async_context(line(gateway.url))
    head = request(CHAT, b"", {**gateway.bearer, "content-type": "application/json"})
    await upload.send(head.replace(b"content-length: 0", b"content-length: 99") + b"{")
    return [*opened, upload]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_clients_that_leave_as_the_gateway_stops_are_not_waited_for(
    start: Start, when: str
) -> None:
    async with silent_upstream() as url, AsyncExitStack() as deployment:
        settings: dict[str, Any] = over_silent_upstream(url)
        gateway = await asyncio.to_thread(start, {**settings, "server": {"drain": "600s"}})
        narrow = await asyncio.to_thread(gateway.new_key, "narrow", plan="one")
        opened = await clients(gateway, deployment, narrow)
        count = len(opened)
        await asyncio.to_thread(until, lambda: gateway.in_flight() == count, what="all")
        body = SURFACES["chat"].body("Hi", "some", True, Wish(limit=50))
        last = await deployment.enter_async_context(line(gateway.url))
        await last.send(request(CHAT, body, gateway.bearer))
        asked = (await last.head()).header("x-request-id")
        if when == "after":
            gateway.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(until, lambda: refuses(gateway.port), what="a closed port")
        for connection in (*opened, last):
            connection.writer.transport.abort()
        if when == "before":
            gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.ended) == 0
    lines = [entry for entry in gateway.log if entry.get("path", "").startswith("/v1/")]
    assert len(lines) == count + 1
    by_outcome = [entry["outcome"] for entry in lines]
    assert by_outcome.count("hung_up") == count, set(by_outcome)
    (broken,) = [entry for entry in lines if entry["outcome"] != "hung_up"]
    assert (broken["outcome"], broken["status"]) == ("refused", 400)
    assert "Traceback" not in gateway.stderr
    assert asked in {row.id for row in await rows(gateway.sql)}
    assert not list((gateway.folder / "journal").glob("*.journal"))
