"""The descriptor budget, and refusals when descriptors are used up."""

import asyncio
import logging
import os
import resource
from errno import EMFILE
from typing import Any
from unittest.mock import AsyncMock

import pytest

from edge.config.load import parse
from edge.runtime import descriptors
from edge.runtime.admission import Admission, AdmissionMiddleware
from edge.runtime.descriptors import FEWEST_SPARE, OF_A_CLIENT, RESERVE, DescriptorBudget
from edge.upstreams import ConnectFailed, OutOfDescriptors, Request
from edge.upstreams.http import upstream_for
from edge.upstreams.http1.pools import Pools
from middlewares import ErrorsMiddleware, Exchange
from middlewares.asgi import Receive, Scope, Send
from middlewares.exchange import Dialect
from tests import asgi

PLAIN = parse({})


@pytest.mark.parametrize("limit", [128, 256, 1000, 1024, 4096, 20_000, 65_536, 1 << 20])
def test_budget_of_any_limit_keeps_the_reserve(limit: int) -> None:
    room = DescriptorBudget.of(limit, PLAIN)
    assert room.connections + room.upstreams + RESERVE == min(limit, descriptors.MOST)
    assert room.streams < room.connections  # who is refused has to be accepted
    assert room.streams < room.upstreams


@pytest.mark.parametrize(("limit", "streams"), [(256, 72), (1024, 435), (20_000, 9824)])
def test_budget_gives_each_request_two_descriptors(limit: int, streams: int) -> None:
    assert DescriptorBudget.of(limit, PLAIN).streams == streams


@pytest.mark.parametrize(
    ("http2", "most", "streams", "connections"),
    [(True, 256, 19_584, 256), (False, 256, 256, 256), (True, 15_000, 9824, 10_016)],
)
def test_budget_of_few_connections_leaves_the_others_to_upstreams(
    http2: bool, most: int, streams: int, connections: int
) -> None:
    settings = parse({"server": {"http2": http2, "max_connections": most}})
    room = DescriptorBudget.of(20_000, settings)
    assert (room.streams, room.connections) == (streams, connections)
    assert room.connections + room.upstreams + RESERVE == 20_000
    assert room.streams < room.upstreams
    assert str(room).endswith(
        f"enough for {streams} open requests per worker, on {connections} connections of clients"
    )


def test_budget_keeps_pipes_of_the_claude_program() -> None:
    settings = parse({"upstreams": [{"name": "c", "dialect": "claude-cli", "max_processes": 10}]})
    fewer = (
        DescriptorBudget.of(1024, PLAIN).upstreams - DescriptorBudget.of(1024, settings).upstreams
    )
    assert abs(fewer - 10 * OF_A_CLIENT / 2) <= 3


def test_budget_of_low_limit_raises_with_the_needed_number() -> None:
    least = RESERVE + FEWEST_SPARE + 2
    assert DescriptorBudget.of(least, PLAIN).streams == 1
    with pytest.raises(
        OSError, match=f"{least - 1} file descriptors are too few: at least {least}"
    ):
        DescriptorBudget.of(least - 1, PLAIN)


@pytest.mark.parametrize("says_size", [True, False])
def test_left_counts_open_descriptors(monkeypatch: pytest.MonkeyPatch, says_size: bool) -> None:
    monkeypatch.setattr(descriptors, "SAYS_SIZE", says_size and descriptors.SAYS_SIZE)
    descriptors.counted.cache_clear()
    before = descriptors.left()
    opened = [os.dup(2) for _ in range(7)]
    descriptors.counted.cache_clear()
    try:
        assert descriptors.left() == before - 7
    finally:
        for each in opened:
            os.close(each)
    assert before < resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Opened:
    """An app that says how it was called, behind admission with `open` requests inside."""

    def __init__(self, most: int) -> None:
        self.open = 0
        self.calls = 0
        self.dialect: Dialect = "openai"
        self.admission = Admission(most, lambda: self.open)
        self.endpoint = "chat.completions"
        layer = AdmissionMiddleware(self.inner, admission=self.admission, free=("admin",))
        self.app = ErrorsMiddleware(layer, brand="Penstock")

    async def inner(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def named(self, scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).dialect = self.dialect
        Exchange.of(scope).endpoint = self.endpoint
        await self.app(scope, receive, send)

    async def ask(self, dialect: Dialect = "openai") -> asgi.Recorded:
        self.dialect = dialect
        return await asgi.request(self.named, "POST", "/v1/chat/completions", json={})


async def test_admission_refuses_beyond_the_bound_and_admits_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "edge.runtime.admission")
    opened = Opened(10)
    for opened.open in (1, 10):
        assert (await opened.ask()).status == 200
    for opened.open in (11, 12, 11):
        refused = await opened.ask()
        assert refused.status == 503
        assert refused.header("retry-after") == "1"
        assert refused.header("connection") == "close"
    assert (await opened.ask("anthropic")).status == 529
    opened.open = 10
    assert (await opened.ask()).status == 200
    assert len(caplog.records) == 1  # it is not over: the next one may be refused
    opened.open = 9
    assert (await opened.ask()).status == 200
    assert opened.calls == 4
    assert opened.admission.refused == 4
    assert [record.getMessage() for record in caplog.records] == [
        "10 requests are open and no file descriptors are left: refusing further ones",
        "file descriptors are available again; 4 requests were refused",
    ]


async def test_admission_free_endpoint_is_admitted_and_not_counted() -> None:
    opened = Opened(10)
    opened.open, opened.endpoint = 11, "admin"
    assert (await opened.ask()).status == 200
    assert opened.admission.refused == 0


class Held:
    """An HTTP server that counts its connections, and answers at once."""

    def __init__(self) -> None:
        self.now = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.now -= 1
            writer.close()


@pytest.mark.parametrize("transport", ["native", "httpx"])
async def test_pools_idle_connections_give_way_to_other_upstreams(
    transport: Any,
) -> None:
    servers = [Held(), Held()]
    pools = Pools(4)
    listening = [await asyncio.start_server(held, "127.0.0.1", 0) for held in servers]
    urls = [f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}" for one in listening]
    upstreams = [upstream_for(url, transport=transport, pools=pools) for url in urls]

    async def ask(n: int, times: int) -> None:
        """That many at once, so that each needs a connection of its own."""
        request = Request(b"GET", b"/")
        answers = await asyncio.gather(*(upstreams[n].open(request) for _ in range(times)))
        for answer in answers:
            while await answer.read():
                pass

    try:
        await ask(0, 3)
        assert servers[0].now == 3
        await ask(1, 3)
        async with asyncio.timeout(60):
            while servers[0].now + servers[1].now > 4:
                await asyncio.sleep(0.01)
        assert servers[1].now == 3
    finally:
        for upstream in upstreams:
            await upstream.aclose()
        for one in listening:
            one.close()


async def test_transport_without_descriptors_names_them_and_not_the_upstream() -> None:
    lookup = AsyncMock(side_effect=OSError(EMFILE, "Too many open files"))
    upstream = upstream_for("http://example.test", lookup=lookup)
    with pytest.raises(OutOfDescriptors, match="no file descriptor for a connection") as raised:
        await upstream.open(Request(b"GET", b"/"))
    assert isinstance(raised.value, ConnectFailed)
    await upstream.aclose()
