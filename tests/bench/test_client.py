"""What the load generator asks for, and what it does not take for an answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from bench.client import Connection, Reply, Target
from edge.upstreams.simulator import SimulatorServer, serve
from tests.waiting import DEADLINE


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    server = await serve("127.0.0.1", 0)
    yield server
    await server.aclose()


async def ask(
    target: Target, *, tokens: int, rate: float = 0, words: str = ""
) -> tuple[Reply, int]:
    """One exchange and the number of events in its answer."""
    events = 0

    def count(more: int) -> None:
        nonlocal events
        events += more

    loop = asyncio.get_running_loop()
    done: asyncio.Future[Reply] = loop.create_future()
    _, connection = await loop.create_connection(lambda: Connection(count), *target.address)
    request, expected = target.request(7, tokens=tokens, rate=rate)
    if words:
        filler = b"[[sim " + words.encode() + b"]]"
        head, _, body = request.partition(b"\r\n\r\n")
        content = body.replace(b"again and again.", b"again. " + filler)
        length = f"content-length: {len(body)}".encode()
        head = head.replace(length, f"content-length: {len(content)}".encode())
        request = head + b"\r\n\r\n" + content
    connection.send(request, expected, done.set_result)
    reply = await asyncio.wait_for(done, DEADLINE)
    connection.close()
    return reply, events


def test_a_request_names_its_own_length_word_and_headers() -> None:
    target = Target("http://127.0.0.1:99/v1/chat/completions", "m", {"authorization": "Bearer k"})
    request, expected = target.request(3, tokens=5, rate=50)
    head, _, content = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:99\r\n")
    assert b"\r\nauthorization: Bearer k" in head
    assert f"\r\ncontent-length: {len(content)}".encode() in head
    body = json.loads(content)
    assert body["stream"] is True
    assert expected.word in content
    assert expected.word != target.request(4, tokens=5, rate=50)[1].word


@pytest.mark.parametrize("before", ["chat", "messages", "responses"])
@pytest.mark.parametrize("after", ["chat", "messages", "responses"])
def test_endpoint_of_another_dialect_is_on_the_same_server(before: str, after: str) -> None:
    paths = {"chat": "chat/completions", "messages": "messages", "responses": "responses"}
    found = Target(f"http://h:1/v1/{paths[before]}", "m").speaking(after)
    assert found.url == f"http://h:1/v1/{paths[after]}"
    assert found.dialect == after


async def test_a_plain_answer_is_accepted(simulator: SimulatorServer) -> None:
    target = Target(f"{simulator.url}/v1/chat/completions", "sim-1")
    reply, _ = await ask(target, tokens=20)
    assert reply.fault() == ""
    assert reply.sent <= reply.first <= reply.ended


async def test_events_of_a_stream_are_counted(simulator: SimulatorServer) -> None:
    target = Target(f"{simulator.url}/v1/chat/completions", "sim-1")
    reply, events = await ask(target, tokens=10, rate=1000)
    assert reply.fault() == ""
    assert events == b"".join(reply.body).count(b"\n\n") >= 12  # role, 10 tokens, stop, [DONE]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("fault=status:503", "status 503"),
        ("fault=cut:4", "connection lost"),
        ("fault=error-event:4", "tokens of 10"),
        ("fault=empty", "0 tokens of 10"),
    ],
)
async def test_a_wrong_answer_is_a_fault(
    simulator: SimulatorServer, words: str, fault: str
) -> None:
    target = Target(f"{simulator.url}/v1/chat/completions", "sim-1")
    reply, _ = await ask(target, tokens=10, rate=1000, words=words)
    assert fault in reply.fault()


def altered(change: Callable[[bytes], bytes]) -> Reply:
    """A reply with a good stream, changed."""
    _, expected = Target("http://h/v1/chat/completions", "m").request(1, tokens=2, rate=50)
    body = b"data: " + expected.word + b"\n\ndata: " + expected.word + b"\n\ndata: [DONE]\n\n"
    reply = Reply(expected)
    reply.status = 200
    reply.body.append(change(body))
    return reply


def test_another_connections_answer_is_a_fault() -> None:
    assert altered(bytes).fault() == ""
    assert "tokens of 2" in altered(lambda body: body.replace(b"00001", b"00002")).fault()
    assert "tokens of 2" in altered(lambda body: body + body).fault()
    assert "wrong end" in altered(lambda body: body[:-8]).fault()
