"""The provider of large bodies and shapes counts what it is sent, and obeys the last order."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import httpx
import pytest

from bench.client import Connection, Expected, Reply, Target
from bench.growing import SIZES, Conversation, Dialect
from bench.provider import Provider, order, template, words_in
from bench.subjects import CHAT_SHAPES
from tests.waiting import DEADLINE


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with Provider() as provider:
        yield f"http://127.0.0.1:{provider.port}/v1"


async def ask(target: Target, request: bytes, expected: Expected) -> Reply:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Reply] = loop.create_future()
    _, connection = await loop.create_connection(
        lambda: Connection(lambda _: None), *target.address
    )
    connection.send(request, expected, done.set_result)
    reply = await asyncio.wait_for(done, DEADLINE)
    connection.close()
    return reply


@pytest.mark.parametrize("path", ["chat/completions", "messages"])
async def test_answer_has_the_last_word_and_the_number_of_marks(url: str, path: str) -> None:
    target = Target(f"{url}/{path}", "m")
    dialect: Dialect = "messages" if path == "messages" else "chat"
    words = (order(f"word-{each}-drow", 3) for each in count())
    for number, (body, marks) in enumerate(
        Conversation(dialect, "m", SIZES["10 kB"], 1).requests(words)
    ):
        word = f"word-{number}-drow".encode()
        whole = Expected(word, 3, b"}", f"marks-{marks}.".encode())
        assert (await ask(target, target.post(body), whole)).fault() == ""
        short = Expected(word, 3, b"}", f"marks-{marks + 1}.".encode())
        assert "without" in (await ask(target, target.post(body), short)).fault()


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        *(("chat/completions", shape) for shape in CHAT_SHAPES),
        ("messages", "messages: text"),
        ("messages", "messages: tool arguments"),
        ("responses", "responses: text"),
    ],
)
async def test_stream_of_each_shape_is_whole(url: str, path: str, shape: str) -> None:
    target = Target(f"{url}/{path}", "m")
    reply = await ask(target, *target.ordered(4, tokens=12, rate=2000, shape=shape))
    assert reply.fault() == ""
    body = b"".join(reply.body)
    assert body.count(b"\n\n") == len(template(shape, 12))
    assert words_in(shape, 12) == body.count(b"canary-00000004-yranac")


async def test_requests_without_an_order_are_answered(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for path in ("chat/completions", "messages", "responses"):
            answer = await client.post(f"{url}/{path}", json={"model": "m"})
            assert answer.json()["model"] == "sim-1"
        models = await client.get(f"{url}/models")
    assert models.json()["data"][0]["id"] == "sim-1"
