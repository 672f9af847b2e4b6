"""Every fault: as steps, through the seam in this process, and over a socket."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from edge.upstreams import ConnectFailed, Disconnected, Request
from edge.upstreams.simulator import FAULTS, SECRETS, Controls, SimulatorServer, SimulatorUpstream
from tests.edge.upstreams.simulated import (
    CHAT,
    CHAT_TOOLS,
    MESSAGES,
    RESPONSES,
    ask,
    chat,
    connect,
    events,
    exchange,
    messages,
    post,
    read_answer,
    responses,
    until,
    whole,
    wire,
)

BODIES = {CHAT: chat, MESSAGES: messages, RESPONSES: responses}
STREAMS = pytest.mark.parametrize("target", list(BODIES))


@pytest.fixture
async def server() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as running:
        yield running


def fault(target: bytes, words: str, *, stream: bool = True) -> Request:
    return post(target, BODIES[target](f"Hi [[sim tokens=8 fault={words}]]", stream=stream))


def events_of(found: bytes) -> int:
    return found.replace(b"\r\n", b"\n").count(b"\n\n")


async def read_all(upstream: SimulatorUpstream, request: Request) -> tuple[int, bytes, bool]:
    """Status, body, and whether it came to its end; in process."""
    response = await upstream.open(request)
    body = b""
    try:
        while data := await response.read():
            body += data
    except Disconnected:
        return response.status, body, False
    finally:
        response.close()
    return response.status, body, True


UNFIT = ("status", "stall", "hold", "lost", "slow-headers", "slow-first")
"""Faults that need a number or a release, or that leave no answer to compare."""
EVERY = [
    *(n for n in FAULTS if n not in UNFIT),
    "status:503",
    "slow-headers:0.02",
    "slow-first:0.02",
    "cut:0",
    "cut:3",
    "garbage:0,crlf",
    "split-utf8,crlf",
    "error-event:4,byte-by-byte",
]


@pytest.mark.parametrize("words", EVERY)
@pytest.mark.parametrize("streamed", [True, False])
@STREAMS
async def test_in_process_and_server_give_the_same_bytes(
    server: SimulatorServer, target: bytes, streamed: bool, words: str
) -> None:
    request = fault(target, words, stream=streamed)
    in_process = SimulatorUpstream()
    assert await read_all(in_process, request) == await exchange(server, request)
    assert in_process.stats.running == in_process.stats.streams == 0
    await until(lambda: server.stats.connections == 0)
    assert server.stats.running == server.stats.streams == server.stats.hangups == 0


@pytest.mark.parametrize("status", [400, 401, 404, 409, 429, 500, 503, 529])
@STREAMS
def test_a_status_comes_with_the_vendor_s_error_and_its_secrets(target: bytes, status: int) -> None:
    found = ask(fault(target, f"status:{status} retry-after=7"))
    assert found.status == status
    assert (b"retry-after", b"7") in found.headers
    error = json.loads(whole(found))
    text = whole(found).decode()
    assert all(secret in text for secret in SECRETS)
    if target != MESSAGES:
        assert set(error["error"]) == {"message", "type", "param", "code"}
    else:
        assert error["type"] == "error"
        assert error["error"]["type"].endswith("_error")
        assert error["request_id"].startswith("req_")


def test_an_overflow_is_worded_as_the_vendor_words_it() -> None:
    found = json.loads(whole(ask(fault(CHAT, "overflow"))))["error"]
    assert found["code"] == "context_length_exceeded"
    assert "maximum context length is 200000 tokens" in found["message"]
    other = json.loads(whole(ask(fault(MESSAGES, "overflow"))))["error"]
    assert other["message"].startswith("prompt is too long: 200")
    assert other["message"].endswith("tokens > 200000 maximum")


@STREAMS
def test_a_cut_ends_after_so_many_events(target: bytes) -> None:
    clean = whole(ask(post(target, BODIES[target]())))
    assert clean
    found = ask(fault(target, "cut:3"))
    assert found.ending == "cut"
    assert events_of(whole(found)) == 3


@STREAMS
def test_an_end_too_early_looks_whole(target: bytes) -> None:
    found = ask(fault(target, "end:3"))
    assert found.ending == "whole"
    assert events_of(whole(found)) == 3
    assert events_of(whole(ask(fault(target, "end:99")))) > 3


def test_a_plain_answer_is_cut_in_its_middle() -> None:
    found = ask(fault(CHAT, "cut", stream=False))
    assert found.length is not None
    assert 0 < len(whole(found)) < found.length


@STREAMS
def test_garbage_stands_between_good_events(target: bytes) -> None:
    found = whole(ask(fault(target, "garbage:2")))
    blocks = found.split(b"\n\n")
    with pytest.raises(json.JSONDecodeError):
        json.loads(blocks[2].split(b"data: ")[1])
    rest = b"\n\n".join(blocks[:2] + blocks[3:])
    last = events(rest)[-1]
    ends = ("[DONE]", {"type": "message_stop"})
    assert last in ends or last["type"] == "response.completed"


def test_garbage_in_a_plain_answer() -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(whole(ask(fault(CHAT, "garbage", stream=False))))


@STREAMS
def test_an_event_too_long_comes_in_pieces_and_does_not_end(target: bytes) -> None:
    found = ask(fault(target, "overlong:2"))
    assert found.ending == "whole"
    assert events_of(whole(found)) == 2
    assert len(whole(found).rpartition(b"\n\n")[2]) == 17 << 20
    with pytest.raises(json.JSONDecodeError):
        json.loads(whole(ask(fault(target, "overlong", stream=False))))


@pytest.mark.parametrize("stream", [True, False])
def test_a_share_of_requests_is_at_fault_and_always_the_same(stream: bool) -> None:
    def at_fault(number: int, share: int) -> bool:
        text = f"Hi {number} [[sim fault=status:500 share={share}]]"
        status = ask(post(CHAT, chat(text, stream=stream))).status
        assert status in (200, 500)
        return status == 500

    half = [at_fault(number, 50) for number in range(200)]
    assert 70 < sum(half) < 130
    assert half == [at_fault(number, 50) for number in range(200)]
    assert not any(at_fault(number, 0) for number in range(50))
    assert all(at_fault(number, 100) for number in range(50))


@STREAMS
def test_an_error_event_is_the_last(target: bytes) -> None:
    found = events(whole(ask(fault(target, "error-event:4"))))
    if target == RESPONSES:
        failed = found.pop()
        assert failed["type"] == "response.failed"
        assert failed["response"]["error"]["message"] == found[-1]["message"]
    assert "error" in found[-1]
    assert all("error" not in event for event in found[:-1])
    assert SECRETS[0] in json.dumps(found[-1])
    assert ask(fault(target, "error-event", stream=False)).status in (503, 529)


@STREAMS
def test_html_in_place_of_a_stream(target: bytes) -> None:
    found = ask(fault(target, "html"))
    assert found.status == 200
    assert (b"content-type", b"text/html") in found.headers
    assert whole(found).startswith(b"<!DOCTYPE html>")


@STREAMS
def test_an_empty_stream_is_a_stream_without_a_byte(target: bytes) -> None:
    found = ask(fault(target, "empty"))
    assert (b"content-type", b"text/event-stream; charset=utf-8") in found.headers
    assert (found.status, whole(found), found.ending) == (200, b"", "whole")


@STREAMS
def test_split_text_is_cut_inside_code_points_only_on_the_way(target: bytes) -> None:
    found = ask(fault(target, "split-utf8"))
    broken = 0
    for _, part in found.steps:
        try:
            part.decode()
        except UnicodeDecodeError:
            broken += 1
    assert broken > 8
    assert "日本語" in "".join(map(json.dumps, events(whole(found)))).encode().decode(
        "unicode_escape"
    )
    times = [at for at, _ in found.steps]
    assert times == sorted(times)


def test_byte_by_byte_is_a_step_for_each_byte() -> None:
    found = ask(fault(CHAT, "byte-by-byte"))
    assert {len(part) for _, part in found.steps} == {1}
    assert events(whole(found))[-1] == "[DONE]"


@STREAMS
def test_crlf_ends_every_line(target: bytes) -> None:
    found = whole(ask(fault(target, "crlf")))
    assert found.count(b"\n") == found.count(b"\r\n") > 10


@STREAMS
def test_pings_come_before_content_and_say_nothing(target: bytes) -> None:
    clean = ask(fault(target, "crlf:0"))
    found = ask(fault(target, "pings:6"))
    assert len(found.steps) == len(clean.steps) + 6
    waiting = [data for _, data in found.steps[1:7]]
    for data in waiting:
        for event in events(data):
            if target == CHAT:
                assert not event["choices"][0]["delta"]["content"]
            else:
                assert event["type"] == ("ping" if target == MESSAGES else "keepalive")
    assert found.steps[7][0] >= 6 * 0.02


def test_time_is_kept_by_rate_and_first() -> None:
    found = ask(post(CHAT, chat("Hi [[sim tokens=5 rate=10 first=2]]", stream=True)))
    assert [at for at, _ in found.steps] == pytest.approx([0, 2.0, 2.1, 2.2, 2.3, 2.4, 2.4, 2.4])
    plain = ask(post(CHAT, chat("Hi [[sim tokens=5 rate=10 first=2]]")))
    assert plain.head_at == pytest.approx(2.5)


def test_slow_faults_move_head_and_events() -> None:
    found = ask(fault(CHAT, "slow-headers:3,slow-first:4"))
    assert found.head_at == 3.0
    assert {at for at, _ in found.steps} == {7.0}
    refused = ask(fault(CHAT, "slow-headers:3,status:500"))
    assert refused.head_at == 3.0


def test_faults_reach_the_other_endpoints() -> None:
    text = "a [[sim fault=status:500]]"
    assert ask(post(b"/v1/embeddings", {"model": "m", "input": text})).status == 500
    assert ask(post(b"/v1/messages/count_tokens", messages(text))).status == 500
    assert ask(post(RESPONSES + b"/input_tokens", responses(text))).status == 500
    assert ask(post(RESPONSES + b"/compact", responses(text))).status == 500
    steering = ((b"x-sim", b"fault=status:500"),)
    assert ask(Request(b"GET", b"/v1/models", steering, b"")).status == 500
    assert ask(Request(b"GET", b"/v1/models", ((b"x-sim", b"a=1"),), b"")).status == 400


# Hang-ups


async def test_a_closed_response_is_a_hang_up_in_process() -> None:
    upstream = SimulatorUpstream()
    response = await upstream.open(fault(CHAT, "stall:2"))
    await response.read()
    await response.read()
    assert upstream.stats.streams == 1
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    assert not reading.done()
    response.close()
    response.close()
    with pytest.raises(Disconnected):
        await reading
    with pytest.raises(Disconnected):
        await response.read()
    (hangup,) = upstream.stats.last_hangups
    assert (hangup.phase, hangup.written, hangup.target) == ("body", 2, CHAT.decode())
    assert upstream.stats.hangups == 1
    assert upstream.stats.streams == upstream.stats.running == 0


async def test_a_cancelled_open_is_a_hang_up_in_process() -> None:
    upstream = SimulatorUpstream()
    opening = asyncio.create_task(upstream.open(fault(CHAT, "slow-headers:60")))
    await until(lambda: upstream.stats.running == 1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert upstream.stats.last_hangups[0].phase == "head"
    assert upstream.stats.running == 0


async def test_a_response_read_to_its_end_is_no_hang_up() -> None:
    upstream = SimulatorUpstream()
    for request in (post(CHAT, chat()), post(MESSAGES, messages(stream=True))):
        assert (await read_all(upstream, request))[2]
    assert upstream.stats.hangups == 0
    assert upstream.stats.requests == 2


async def test_the_seam_takes_a_streamed_body_and_remembers_the_request() -> None:
    async def parts() -> AsyncIterator[bytes]:
        data = json.dumps(chat("Good evening", tools=CHAT_TOOLS)).encode()
        yield data[:20]
        yield data[20:]

    upstream = SimulatorUpstream(Controls(dated=True))
    status, body, _ = await read_all(upstream, Request(b"POST", CHAT, (), parts()))
    assert status == 200
    assert json.loads(body)["model"] == "sim-1-2026-01-01"
    assert b"Good evening" in upstream.recent[-1].body  # type: ignore[operator]


async def test_a_closed_simulator_refuses() -> None:
    upstream = SimulatorUpstream()
    await upstream.aclose()
    with pytest.raises(ConnectFailed):
        await upstream.open(post(CHAT, chat()))


@pytest.mark.parametrize(
    ("words", "phase", "written"),
    [("stall:2", "body", 2), ("stall:0", "body", 0), ("slow-headers:60", "head", 0)],
)
async def test_a_client_that_leaves_the_server_is_noticed(
    server: SimulatorServer, words: str, phase: str, written: int
) -> None:
    async with connect(server) as (reader, writer):
        writer.write(wire(fault(CHAT, words)))
        if phase == "body":
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(written):
                await reader.readuntil(b"\n\n\r\n")
        else:
            await until(lambda: server.stats.running == 1)
        assert server.stats.hangups == 0
        assert server.stats.streams == 1
    await until(lambda: server.stats.hangups == 1)
    (hangup,) = server.stats.last_hangups
    assert (hangup.phase, hangup.written, hangup.target) == (phase, written, CHAT.decode())
    assert server.stats.running == server.stats.streams == server.stats.connections == 0


async def test_a_client_that_leaves_a_paced_stream_is_noticed(server: SimulatorServer) -> None:
    async with connect(server) as (reader, writer):
        writer.write(wire(post(CHAT, chat("Hi [[sim tokens=1000 rate=100]]", stream=True))))
        await reader.readuntil(b"\n\n\r\n")
    await until(lambda: server.stats.hangups == 1)
    assert 0 < server.stats.last_hangups[0].written < 1000


async def test_a_cut_by_the_server_is_no_hang_up(server: SimulatorServer) -> None:
    async with connect(server) as (reader, writer):
        writer.write(wire(fault(CHAT, "cut:2"), close=False))
        _, body, complete = await read_answer(reader)
        assert (events_of(body), complete) == (2, False)
    await until(lambda: server.stats.connections == 0)
    assert server.stats.hangups == 0
