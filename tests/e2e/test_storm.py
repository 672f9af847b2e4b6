"""Clients that leave: their upstream connection is closed, and nothing of theirs stays behind."""

import asyncio
import random
import secrets
from collections import Counter
from contextlib import AsyncExitStack
from time import time

import msgspec

from .conftest import Start, over_http
from .program import Gateway, Program, quiet, stats, until
from .wire import ANTHROPIC, CHAT, MESSAGES, chat, line, request

MiB = 1 << 20
STREAMS, FEWER = 500, 150


class Client(msgspec.Struct):
    """One stream: its dialect, its canary, and when its client leaves, if at all."""

    number: int
    canary: str
    waits: float | None = None
    """Seconds after which the client leaves, whatever has come."""
    reads: int | None = None
    """Parts of the body after which it leaves."""
    slow: str = ""

    @property
    def leaves(self) -> bool:
        return self.waits is not None or self.reads is not None

    def request(self, gateway: Gateway) -> bytes:
        text = f"{self.canary} [[sim canary=1 tokens=30 rate=30 {self.slow}]]"
        if self.number % 2:
            return request(CHAT, chat(text, "chat", stream=True), gateway.bearer)
        headers = {**gateway.bearer, **ANTHROPIC}
        return request(MESSAGES, chat(text, "claude", stream=True), headers)


def crowd(seed: int, streams: int) -> list[Client]:
    """Half of them leave: before the head of the upstream, before the first token, within."""
    dice = random.Random(seed)
    clients = []
    for number in range(streams):
        client = Client(number, dice.randbytes(32).hex())
        phase = number % 6
        if phase == 0:
            client.slow, client.waits = "fault=slow-headers:3", dice.uniform(0, 2)
        elif phase == 1:
            client.slow, client.waits = "first=3", dice.uniform(0, 2)
        elif phase == 2:
            client.reads = dice.randint(1, 20)
        clients.append(client)
    return clients


async def play(client: Client, gateway: Gateway) -> bytes:
    """What a client saw until it left or the stream was over."""
    seen = b""
    async with line(gateway.url) as connection:
        await connection.send(client.request(gateway))
        if client.waits is not None:
            await asyncio.sleep(client.waits)
            return seen
        reply = await connection.head()
        assert reply.status == 200
        parts = 0
        async for part in connection.parts(reply):
            seen += part
            parts += 1
            if parts == client.reads:
                return seen
        assert reply.whole
    return seen


async def storm(gateway: Gateway, clients: list[Client]) -> None:
    seen = await asyncio.gather(*(play(client, gateway) for client in clients))
    canaries = [client.canary.encode() for client in clients]
    for client, body in zip(clients, seen, strict=True):
        own = body.count(client.canary.encode())
        others = [canary for canary in canaries if canary in body]
        assert others == ([client.canary.encode()] if own else [])
        if not client.leaves:
            assert own == 30
            assert body.endswith((b"data: [DONE]\n\n", b'data: {"type":"message_stop"}\n\n'))


SEEDS = (11, 12, 13, 14)
"""The first storms let the allocator grow to its size; the last two are compared."""


async def test_500_streams_of_which_half_are_left(
    start: Start, simulator: Program, full: bool
) -> None:
    crowds = [crowd(seed, STREAMS if full else FEWER) for seed in SEEDS]
    gateway = await asyncio.to_thread(start, over_http(simulator.url))
    (worker,) = gateway.workers
    sizes = []
    for clients in crowds:
        await storm(gateway, clients)
        await asyncio.to_thread(
            until, lambda: quiet(gateway, simulator), what="no stream open, none in flight"
        )
        sizes.append(worker.memory_info().rss)
    assert sizes[-1] - sizes[-2] < 4 * MiB
    stay = sum(not client.leaves for clients in crowds for client in clients)
    await asyncio.to_thread(
        until,
        lambda: outcomes(gateway)["completed"] >= stay and outcomes(gateway)["hung_up"] > stay // 2,
        what="a line for each whole stream, and for those that were left",
    )
    assert set(outcomes(gateway)) == {"completed", "hung_up"}


def outcomes(gateway: Gateway) -> Counter[str]:
    return Counter(entry["outcome"] for entry in gateway.log if entry["event"] == "request")


async def test_disconnect_reaches_the_upstream_within_a_second(
    start: Start, simulator: Program, promised: float
) -> None:
    gateway = await asyncio.to_thread(start, over_http(simulator.url))
    before = stats(simulator)
    each = 15
    words = {
        "head": "fault=slow-headers:60",  # waiting for the upstream's head
        "first": "first=60",  # its head has come, no token
        "stream": "tokens=9999 rate=20",  # streaming
        "plain": "first=60",  # not streamed at all
    }
    async with AsyncExitStack() as stack:
        streaming = []
        for phase, word in words.items():
            for number in range(each):
                connection = await stack.enter_async_context(line(gateway.url))
                text = f"{secrets.token_hex(8)} [[sim {word}]]"
                stream = phase != "plain"
                if number % 2:
                    body = chat(text, "chat", stream=stream)
                    await connection.send(request(CHAT, body, gateway.bearer))
                else:
                    body = chat(text, "claude", stream=stream)
                    await connection.send(request(MESSAGES, body, gateway.bearer))
                if phase == "stream":
                    streaming.append(connection)
        for connection in streaming:
            assert (await connection.head()).status == 200
        everyone = each * len(words)
        await asyncio.to_thread(
            until, lambda: stats(simulator)["running"] == everyone, what="all being answered"
        )
        left = time()
    await asyncio.to_thread(
        until, lambda: quiet(gateway, simulator), what="no stream open, none in flight"
    )
    after = stats(simulator)
    assert after["hangups"] - before["hangups"] == everyone
    noticed = after["last_hangups"][-everyone:]
    assert max(hangup["at"] for hangup in noticed) - left < promised
    assert {hangup["phase"] for hangup in noticed} == {"head", "body"}


async def test_a_client_that_leaves_during_its_upload(gateway: Gateway) -> None:
    whole = request(CHAT, chat("x" * 500_000), gateway.bearer)
    for _ in range(20):
        async with line(gateway.url) as connection:
            await connection.send(whole[:300_000])
    await asyncio.to_thread(until, lambda: gateway.in_flight() == 0, what="none in flight")
