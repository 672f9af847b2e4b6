"""The simulator's server as HTTP, its wheel, and its command."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from urllib.request import urlopen

import msgspec
import pytest
import uvloop

from edge.upstreams import Request
from edge.upstreams.simulator import Bounds, Controls, SimulatorServer, serve
from edge.upstreams.simulator.timer_wheel import TICK, TimerWheel
from tests.edge.upstreams.simulated import (
    CHAT,
    MESSAGES,
    RESPONSES,
    chat,
    connect,
    events,
    exchange,
    messages,
    post,
    read_answer,
    responses,
    until,
    wire,
)
from tests.waiting import DEADLINE


@pytest.fixture
async def server() -> AsyncIterator[SimulatorServer]:
    bounds = Bounds(headers=4096, body=65536, answers=8, answer_bytes=1 << 20)
    async with SimulatorServer(bounds=bounds) as running:
        yield running


async def test_a_connection_is_used_again(server: SimulatorServer) -> None:
    async with connect(server) as (reader, writer):
        for request in (
            post(CHAT, chat()),
            post(CHAT, chat(stream=True)),
            post(MESSAGES, messages()),
        ):
            writer.write(wire(request, close=False))
            status, body, complete = await read_answer(reader)
            assert (status, complete) == (200, True)
            assert body
        assert server.stats.accepted == 1
        assert server.stats.requests == 3


async def test_pipelined_requests_are_answered_in_order(server: SimulatorServer) -> None:
    async with connect(server) as (reader, writer):
        texts = ["one [[sim first=0.03]]", "two", "three"]
        writer.write(b"".join(wire(post(CHAT, chat(text)), close=False) for text in texts))
        for word in ("one", "two", "three"):
            _, body, _ = await read_answer(reader)
            assert f"You said: {word}" in json.loads(body)["choices"][0]["message"]["content"]


async def test_a_request_in_single_bytes(server: SimulatorServer) -> None:
    async with connect(server) as (reader, writer):
        for byte in wire(post(CHAT, chat("slowly"))):
            writer.write(bytes([byte]))
            await writer.drain()
        status, body, _ = await read_answer(reader)
        assert status == 200
        assert b"slowly" in body


async def test_a_request_body_in_chunks_after_a_continue(server: SimulatorServer) -> None:
    async with connect(server) as (reader, writer):
        data = json.dumps(chat("in chunks")).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        for part in (data[:7], data[7:]):
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        writer.write(b"0\r\n\r\n")
        _, body, _ = await read_answer(reader)
        assert b"in chunks" in body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx-long: " + b"x" * 5000, 431),
        (b"GET /" + b"x" * 5000, 431),
        (wire(post(CHAT, b"x" * 70000)), 413),
    ],
)
async def test_a_request_out_of_bounds_is_refused_and_the_connection_closed(
    server: SimulatorServer, sent: bytes, status: int
) -> None:
    async with connect(server) as (reader, writer):
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        assert int(head.split(b" ")[1]) == status
        assert await reader.read() == b""
    await until(lambda: server.stats.connections == 0)


async def test_a_body_larger_than_the_header_bound_is_fine(server: SimulatorServer) -> None:
    status, _, complete = await exchange(server, post(CHAT, chat("word " * 9000)))
    assert (status, complete) == (200, True)


async def test_head_has_no_body(server: SimulatorServer) -> None:
    async with connect(server) as (reader, writer):
        writer.write(b"HEAD /v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answered = await reader.read()
        assert answered.startswith(b"HTTP/1.1 405 ")
        assert answered.endswith(b"\r\n\r\n")


async def test_stats_tell_what_is_going_on(server: SimulatorServer) -> None:
    async with connect(server) as (reader, writer):
        writer.write(wire(post(CHAT, chat("Hi [[sim fault=stall:1]]", stream=True))))
        await reader.readuntil(b"\n\n\r\n")
        _, body, _ = await exchange(server, Request(b"GET", b"/stats", (), b""))
        stats = json.loads(body)
        assert stats["requests"] == stats["running"] == stats["streams"] == 1
        assert stats["connections"] == 2
    await until(lambda: server.stats.hangups == 1)
    _, body, _ = await exchange(server, Request(b"GET", b"/stats", (), b""))
    stats = json.loads(body)
    assert stats["running"] == stats["streams"] == 0
    (hangup,) = stats["last_hangups"]
    assert hangup["target"] == "/v1/chat/completions"
    assert 0 <= stats["now"] - hangup["at"] < 60


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_held_answer_goes_on_when_it_is_released(
    server: SimulatorServer, streamed: bool
) -> None:
    async with connect(server) as (reader, writer):
        held = chat("Hi [[sim tokens=9 fault=hold:4]]", stream=streamed)
        writer.write(wire(post(CHAT, held)))
        body = b""
        if streamed:
            while body.count(b"data: ") < 4:
                body += await reader.readuntil(b"\n\n\r\n")
        await until(lambda: server.stats.running == 1)
        assert body.count(b"data: ") == (4 if streamed else 0)
        status, _, _ = await exchange(server, Request(b"GET", b"/release", (), b""))
        assert status == 200
        body += await reader.read()
        assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n" if streamed else b"}")
    assert server.stats.hangups == server.stats.running == 0


async def test_stats_sum_up_what_whole_answers_used(server: SimulatorServer) -> None:
    """As their own usage says, streamed or not; what broke, or was refused, used nothing."""
    text = "one two three four [[sim tokens=7 cached=2 written=1"
    _, plain, _ = await exchange(server, post(CHAT, chat(f"{text}]]")))
    reported = json.loads(plain)["usage"]
    assert reported["completion_tokens"] == 7
    for stream in (False, True):
        await exchange(server, post(CHAT, chat(f"{text}]]", stream=stream)))
        for fault in ("status:500", "overflow", "empty", "garbage", "error-event:1", "cut:1"):
            await exchange(server, post(CHAT, chat(f"{text} fault={fault}]]", stream=stream)))
    await exchange(server, post(MESSAGES, {**messages(f"{text}]]", stream=True), "model": "other"}))
    _, body, _ = await exchange(server, Request(b"GET", b"/stats", (), b""))
    each = {
        "input": reported["prompt_tokens"] - 3,
        "cache_read": 2,
        "cache_write": 1,
        "output": 7,
    }
    assert json.loads(body)["used"] == {
        "sim-1": {"answers": 3, **{kind: 3 * tokens for kind, tokens in each.items()}},
        "other": {"answers": 1, **each},
    }


async def test_stats_tell_what_broken_answers_have_reported(server: SimulatorServer) -> None:
    """Messages tells its input first; the others tell all at the end, or nothing."""
    bodies = {CHAT: chat, MESSAGES: messages, RESPONSES: responses}
    for model, (target, body) in zip(("chat", "claude", "resp"), bodies.items(), strict=True):
        for fault in ("status:500", "cut:0", "cut:1", "cut:4", "end:99", "stall:1"):
            text = f"one two three four [[sim tokens=7 cached=2 fault={fault}]]"
            fields = {"stream_options": {"include_usage": True}} if target == CHAT else {}
            asked = post(target, {**body(text, stream=True), "model": model, **fields})
            if fault != "stall:1":
                await exchange(server, asked)
                continue
            async with connect(server) as (reader, writer):
                writer.write(wire(asked))
                await reader.readuntil(b"data: ")
    await until(lambda: server.stats.running == 0)
    whole = server.stats.seen["chat"]
    assert (whole.requests, whole.cache_read, whole.output) == (6, 2, 7)
    reported = {"input": whole.input, "cache_read": 2, "cache_write": 0, "output": 7}
    assert msgspec.to_builtins(server.stats.seen["resp"]) == {"requests": 6, **reported}
    begun = {kind: 4 * tokens for kind, tokens in reported.items()} | {"output": 7 + 3}
    assert msgspec.to_builtins(server.stats.seen["claude"]) == {"requests": 6, **begun}


async def test_a_client_that_does_not_read_pauses_only_its_own_stream(
    server: SimulatorServer,
) -> None:
    async with connect(server) as (reader, writer):
        more_than_sockets_hold = f"{'x' * 8000} [[sim canary=1 tokens=3000]]"
        writer.write(wire(post(CHAT, chat(more_than_sockets_hold, stream=True))))
        await until(lambda: server.stats.paused == 1)
        status, _, complete = await exchange(server, post(CHAT, chat("another", stream=True)))
        assert (status, complete) == (200, True)
        assert server.stats.paused == 1
        _, body, complete = await read_answer(reader)
        assert complete
        assert len(events(body)) == 3000 + 3
    await until(lambda: server.stats.connections == 0)
    assert server.stats.paused == server.stats.running == server.stats.hangups == 0


async def test_streams_side_by_side_do_not_mix(server: SimulatorServer) -> None:
    async def canary(number: int) -> None:
        word = f"{number:064d}"
        text = f"{word} [[sim canary=1 tokens=20 rate=500]]"
        _, body, complete = await exchange(server, post(CHAT, chat(text, stream=True)))
        assert complete
        texts = [c["choices"][0]["delta"].get("content") for c in events(body)[:-1]]
        assert [text for text in texts if text] == [word + " "] * 20

    await asyncio.gather(*(canary(number) for number in range(50)))


async def test_kept_answers_are_bounded_and_right(server: SimulatorServer) -> None:
    for _ in range(2):
        for number in range(20):
            request = post(CHAT, chat(f"number {number}"))
            _, body, _ = await exchange(server, request)
            assert f"number {number}\n" in json.loads(body)["choices"][0]["message"]["content"]
    assert server.stats.requests == 40
    assert server.recent[-1].body == request.body


async def test_headers_that_steer_are_part_of_what_an_answer_is_kept_under(
    server: SimulatorServer,
) -> None:
    body = chat()
    assert (await exchange(server, post(CHAT, body)))[0] == 200
    assert (await exchange(server, post(CHAT, body, x_sim=b"fault=status:503")))[0] == 503
    assert (await exchange(server, post(CHAT, body)))[0] == 200


async def test_closing_breaks_what_is_open() -> None:
    server = await serve(dated=True)
    assert server.controls == Controls(dated=True)
    async with connect(server) as (reader, writer):
        writer.write(wire(post(CHAT, chat("Hi [[sim fault=stall:1]]", stream=True))))
        await reader.readuntil(b"\n\n\r\n")
        await server.aclose()
        assert await reader.read() == b""
    assert server.stats.hangups == server.stats.running == 0
    with pytest.raises(RuntimeError):
        _ = server.port


async def test_serve_refuses_controls_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="colour"):
        await serve(colour="red")


class Bell:
    """Notes when it is called, and asks for the next of its times."""

    def __init__(self, times: list[float]) -> None:
        self.times = times
        self.called: list[float] = []
        self.done = asyncio.Event()

    def due(self, now: float) -> float:
        self.called.append(now)
        if self.times:
            return self.times.pop(0)
        self.done.set()
        return 0.0


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_wheel_calls_in_order_and_never_early(new_loop: object) -> None:
    async def turn() -> None:
        loop = asyncio.get_running_loop()
        wheel = TimerWheel(loop)
        start = loop.time()
        asked = [start + gap for gap in (0.010, 0.011, 0.020, 0.020)]
        bells = [Bell(list(asked[1:])) for _ in range(3)]
        for bell in bells:
            wheel.add(bell, asked[0])
        late = Bell([])
        early = Bell([])
        gone = Bell([])
        wheel.add(late, start + 0.05)
        wheel.add(early, start + 0.001)
        wheel.add(gone, start + 0.03)
        wheel.remove(gone, start + 0.03)
        await asyncio.wait_for(late.done.wait(), DEADLINE)
        assert not gone.called
        assert early.called[0] <= bells[0].called[0] <= late.called[0]
        for bell in bells:
            assert bell.done.is_set()
            assert all(called >= when for called, when in zip(bell.called, asked, strict=True))
        never = Bell([])
        wheel.add(never, loop.time() + TICK)
        wheel.close()
        after = asyncio.Event()
        loop.call_later(5 * TICK, after.set)
        await after.wait()
        assert not never.called

    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        runner.run(turn())


async def test_the_command_serves_and_sees_clients_leave_until_it_is_asked_to_stop() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge.upstreams.simulator", "--port", "0", "--tokens", "3"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("ready http://127.0.0.1:")
        url = line.split()[1]
        data = json.dumps(chat()).encode()
        found = await asyncio.to_thread(_read, f"{url}/v1/chat/completions", data)
        assert json.loads(found)["usage"]["completion_tokens"] == 3
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(wire(post(CHAT, chat("Hi [[sim fault=stall:1]]", stream=True))))
        await reader.readuntil(b"\n\n\r\n")
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(DEADLINE):
            while not json.loads(await asyncio.to_thread(_read, f"{url}/stats"))["hangups"]:
                await asyncio.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), DEADLINE) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _read(url: str, data: bytes | None = None) -> bytes:
    with urlopen(url, data) as response:
        return bytes(response.read())


async def test_the_command_says_what_it_cannot_do() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge.upstreams.simulator", "--fault", "explode"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"unknown fault explode" in said
