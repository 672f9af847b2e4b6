"""One gateway follows another on the same address, behind a real nginx; no client notices."""

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from .conftest import Figures, Start, over_http
from .nginx import Nginx
from .program import DEADLINE, Gateway, Program, release, until
from .wire import (
    ANTHROPIC,
    CHAT,
    MESSAGES,
    Reply,
    ask,
    chat,
    events,
    line,
    refuses,
    request,
    text_of,
)

STREAMS = 200
TOKENS = 70
WORDS = f"[[sim tokens={TOKENS} fault=hold:20]]"
"""They go on when one process has followed another."""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """The address, held by neither of the two, as systemd holds it."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=2048)) as held:
        yield held


class Crowd:
    """Streams that began before the change, and short requests all through it."""

    def __init__(self, url: str, gateway: Gateway) -> None:
        self._url = url
        self._bearer = gateway.bearer
        self.begun = asyncio.Semaphore(0)
        self.newcomers: list[Reply] = []
        self.over = False

    async def stream(self, number: int) -> Reply:
        """One long stream, in one dialect or the other."""
        async with line(self._url) as connection:
            if number % 2:
                body = chat(WORDS, "chat", stream=True)
                await connection.send(request(CHAT, body, self._bearer))
            else:
                headers = {**self._bearer, **ANTHROPIC}
                body = chat(WORDS, "claude", stream=True)
                await connection.send(request(MESSAGES, body, headers))
            reply = await connection.head()
            async for part in connection.parts(reply):
                if not reply.body:
                    self.begun.release()
                reply.body += part
            return reply

    async def come_and_go(self) -> None:
        """Short requests, one after the other, until it is over."""
        number = 0
        while not self.over:
            number += 1
            body = chat("[[sim tokens=3]]", "chat", stream=bool(number % 2))
            self.newcomers.append(await ask(self._url, CHAT, body, self._bearer))

    def more(self, number: int) -> Callable[[], bool]:
        """Whether so many more of them have been answered than now."""
        enough = len(self.newcomers) + number
        return lambda: len(self.newcomers) >= enough


def whole(reply: Reply) -> bool:
    """A long stream that had all its tokens, each once, and its proper end."""
    if reply.status != 200 or not reply.whole:
        return False
    found = events(reply.body)
    anthropic = found[-1] == {"type": "message_stop"}
    said = [
        event
        for event in found
        if isinstance(event, dict)
        and (
            event.get("type") == "content_block_delta"
            or any(choice["delta"].get("content") for choice in event.get("choices", ()))
        )
    ]
    return len(said) == TOKENS and (anthropic or found[-1] == "[DONE]")


async def test_a_restart_under_200_streams_breaks_none(
    start: Start, simulator: Program, listener: socket.socket, tmp_path: Path, figures: Figures
) -> None:
    document: dict[str, Any] = over_http(simulator.url)
    document["server"] = {"drain": "60s"}
    old = await asyncio.to_thread(start, document, listener=listener)
    assert old.port == listener.getsockname()[1]
    with Nginx(tmp_path, old.port) as nginx:
        crowd = Crowd(nginx.url, old)
        streams = [asyncio.create_task(crowd.stream(number)) for number in range(STREAMS)]
        async with asyncio.timeout(DEADLINE):
            for _ in streams:
                await crowd.begun.acquire()
        comers = [asyncio.create_task(crowd.come_and_go()) for _ in range(4)]
        shown = monotonic()
        old.process.send_signal(signal.SIGTERM)
        new = await asyncio.to_thread(start, document, folder=old.folder, listener=listener)
        took = monotonic() - shown
        assert not any(stream.done() for stream in streams)
        await asyncio.to_thread(release, simulator)
        await asyncio.to_thread(until, crowd.more(500), what="requests that the new one serves")
        crowd.over = True
        await asyncio.gather(*comers)
        replies = await asyncio.gather(*streams)
        status = await asyncio.to_thread(old.ended)
        complaints = nginx.errors
    assert status == 0
    assert [reply.status for reply in replies if not whole(reply)] == []
    assert len({text_of(reply.body) for reply in replies}) <= 2  # the same words in each dialect
    assert {(reply.status, reply.whole) for reply in crowd.newcomers} == {(200, True)}
    assert complaints == ""
    outcomes = [
        entry["outcome"]
        for gateway in (old, new)
        for entry in gateway.log
        if entry["event"] == "request"
    ]
    assert set(outcomes) == {"completed"}
    figures(
        f"{len(replies)} streams and {len(crowd.newcomers)} requests through nginx, none broken; "
        f"the new process was ready {took:.1f} s after SIGTERM"
    )


async def test_a_socket_that_was_handed_in_is_served_by_all_workers_and_outlives_them(
    start: Start, simulator: Program, listener: socket.socket, redis_server: Any
) -> None:
    document: dict[str, Any] = over_http(simulator.url)
    document["server"] = {"workers": 2}
    document["store"] = {"counters": redis_server.url()}
    gateway = await asyncio.to_thread(start, document, listener=listener)
    replies = [await ask(gateway.url, CHAT, chat(), gateway.bearer) for _ in range(10)]
    assert {reply.status for reply in replies} == {200}
    assert len(gateway.workers) == 2
    await asyncio.to_thread(gateway.stop)
    waiting = asyncio.create_task(ask(gateway.url, CHAT, chat(), gateway.bearer))
    new = await asyncio.to_thread(start, document, folder=gateway.folder, listener=listener)
    assert (await waiting).status == 200
    assert new.url == gateway.url


async def test_the_port_is_free_again_while_streams_run_to_their_end(
    start: Start, simulator: Program
) -> None:
    """Without a socket that was handed in there is a gap, but no longer than a start."""
    document: dict[str, Any] = over_http(simulator.url)
    document["server"] = {"drain": "60s"}
    old = await asyncio.to_thread(start, document)
    async with line(old.url) as connection:
        body = chat("[[sim tokens=50 fault=hold:20]]", "chat", stream=True)
        await connection.send(request(CHAT, body, old.bearer))
        reply = await connection.head()
        old.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: refuses(old.port), what="a closed port")
        again = {**document, "server": {"port": old.port}}
        new = await asyncio.to_thread(start, again, folder=old.folder)
        assert old.process.poll() is None
        assert (await ask(new.url, CHAT, chat(), old.bearer)).status == 200
        await asyncio.to_thread(release, simulator)
        async for part in connection.parts(reply):
            reply.body += part
        assert reply.whole
    assert await asyncio.to_thread(old.ended) == 0
