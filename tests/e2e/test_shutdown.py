"""Stopping: running streams end whole, nothing new is taken, no process is left."""

import asyncio
import os
import signal
from typing import Any

import httpx
import psutil
import pytest

from .conftest import Start, over_http
from .ledger import paid, rows
from .program import DEADLINE, Gateway, Program, command, release, until
from .wire import ANTHROPIC, CHAT, MESSAGES, ask, bearer, chat, events, line, refuses, request

NEAR: dict[str, Any] = {
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
}


def unready(gateway: Gateway) -> bool:
    """Asked on a new connection, as a load balancer does."""
    with httpx.Client(trust_env=False) as client:
        return client.get(f"{gateway.url}/readyz").status_code == 503


@pytest.mark.parametrize("everybody", [False, True])
async def test_running_streams_end_whole_after_sigterm(
    start: Start, simulator: Program, everybody: bool
) -> None:
    """Whether the parent alone is signalled or, as service managers do, every process."""
    document = over_http(simulator.url)
    document["server"] = {"drain_delay": "3s", "drain": "120s"}
    gateway = await asyncio.to_thread(start, document)
    (worker,) = gateway.workers
    long = "[[sim tokens=60 fault=hold:20]]"
    async with line(gateway.url) as first, line(gateway.url) as second, line(gateway.url) as idle:
        await idle.send(request("/health"))
        assert (await idle.reply()).status == 200
        await first.send(request(CHAT, chat(long, "chat", stream=True), gateway.bearer))
        headers = {**gateway.bearer, **ANTHROPIC}
        await second.send(request(MESSAGES, chat(long, "claude", stream=True), headers))
        replies = [await first.head(), await second.head()]
        if everybody:
            gateway.signal_group(signal.SIGTERM)
        else:
            gateway.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: unready(gateway), what="/readyz saying 503")
        # New work is still taken while load balancers turn away.
        assert (await ask(gateway.url, CHAT, chat("Hi", "chat"), gateway.bearer)).status == 200
        await asyncio.to_thread(until, lambda: refuses(gateway.port), what="a closed port")
        assert gateway.process.poll() is None
        await asyncio.to_thread(release, simulator)
        for connection, reply in zip((first, second), replies, strict=True):
            async for part in connection.parts(reply):
                reply.body += part
            assert reply.whole
    assert events(replies[0].body)[-1] == "[DONE]"
    assert events(replies[0].body)[-2]["choices"][0]["finish_reason"] == "stop"
    assert events(replies[1].body)[-1] == {"type": "message_stop"}
    assert gateway.ended() == 0
    assert not worker.is_running()
    asked = [line for line in gateway.log if line["event"] == "request" and line.get("model")]
    done = [line["outcome"] for line in asked]
    assert done == ["completed"] * 3
    assert not [line for line in gateway.log if line["level"] != "info"]


async def test_what_outlasts_the_drain_is_ended(start: Start, simulator: Program) -> None:
    document = over_http(simulator.url)
    document["server"] = {"drain": "1s"}
    gateway = await asyncio.to_thread(start, document)
    async with line(gateway.url) as endless:
        words = "[[sim tokens=100 rate=1]]"
        await endless.send(request(CHAT, chat(words, "chat", stream=True), gateway.bearer))
        reply = await endless.head()
        gateway.process.send_signal(signal.SIGTERM)
        async for part in endless.parts(reply):
            reply.body += part
    assert reply.whole
    assert events(reply.body)[-1]["error"]["code"] == "upstream_unavailable"
    assert gateway.ended() == 0


@pytest.mark.parametrize("kind", ["stream", "plain", "kept"])
async def test_what_outlasts_the_drain_is_paid_as_far_as_it_came(
    start: Start, simulator: Program, kind: str
) -> None:
    """Its worker ends it in time to write it down, before the server ends its worker. Of a plain
    answer nothing has come: it has failed, and is not paid."""
    document = paid(simulator.url, {"id": "drain", "on_hangup": "drain"})
    gateway = await asyncio.to_thread(start, {**document, "server": {"drain": "4s"}})
    key = await asyncio.to_thread(gateway.new_key, "drain", plan="drain")
    words, stream = "[[sim tokens=1000 rate=20]]", kind != "plain"
    headers = {**bearer(key), **({"idempotency-key": "once"} if kind == "kept" else {})}
    async with line(gateway.url) as connection:
        await connection.send(request(CHAT, chat(words, "chat", stream=stream), headers))
        if stream:
            reply = await connection.head()
            async for part in connection.parts(reply):
                reply.body += part
                if reply.body.count(b'"content"') > 2:
                    break
        else:
            await asyncio.to_thread(until, lambda: gateway.in_flight() == 1, what="a request")
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.ended) == 0
    assert not [line for line in gateway.log if "Killing" in line["event"]]
    (row,) = await rows(gateway.sql)
    assert row.ended == ("cut" if stream else "failed")
    assert (row.output > 0) == stream
    assert (row.input > 0) == stream
    assert not list((gateway.folder / "journal").glob("*.journal"))


async def left_alone(gateway: Gateway, key: str, tokens: int, **headers: str) -> str:
    """Begin a stream, leave, and return its id."""
    body = chat(f"[[sim tokens={tokens} rate=20]]", "chat", stream=True)
    async with line(gateway.url) as connection:
        await connection.send(request(CHAT, body, {**bearer(key), **headers}))
        reply = await connection.head()
        async for part in connection.parts(reply):
            if b'"content"' in part:
                break
    return reply.header("x-request-id")


async def test_what_goes_on_without_its_client_is_waited_for_and_paid(
    start: Start, simulator: Program
) -> None:
    """An upstream that is heard out, and an answer that is made to be kept."""
    document = paid(simulator.url, {"id": "drain", "on_hangup": "drain"}, {"id": "cancel"})
    gateway = await asyncio.to_thread(start, {**document, "server": {"drain": "20s"}})
    drained, kept = [
        await asyncio.to_thread(gateway.new_key, plan, plan=plan) for plan in ("drain", "cancel")
    ]
    ids = [
        await left_alone(gateway, drained, 40),
        await left_alone(gateway, kept, 40, **{"idempotency-key": "once"}),
    ]
    assert await asyncio.to_thread(gateway.stop) == 0
    # Whether the gateway has seen the client leave before it has to stop is not promised.
    found = await rows(gateway.sql)
    assert {row.id: (row.measured, row.output) for row in found} == dict.fromkeys(ids, (True, 40))
    assert {row.ended for row in found} <= {"drained", "completed"}
    assert not list((gateway.folder / "journal").glob("*.journal"))


async def test_what_goes_on_without_its_client_is_ended_with_the_drain(
    start: Start, simulator: Program
) -> None:
    document = paid(simulator.url, {"id": "drain", "on_hangup": "drain"})
    gateway = await asyncio.to_thread(start, {**document, "server": {"drain": "2s"}})
    key = await asyncio.to_thread(gateway.new_key, "drain", plan="drain")
    asked = await left_alone(gateway, key, 1000)
    assert await asyncio.to_thread(gateway.stop) == 0
    (row,) = await rows(gateway.sql)
    assert (row.id, row.ended, row.measured) == (asked, "cut", False)
    assert 0 < row.output < 1000
    assert not list((gateway.folder / "journal").glob("*.journal"))


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGINT,),
        (signal.SIGTERM,),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
    ],
)
async def test_an_idle_gateway_ends_at_once(start: Start, signals: tuple[signal.Signals]) -> None:
    """However often and to however many processes it is said, and with any connections."""
    gateway = await asyncio.to_thread(start, NEAR)
    (worker,) = gateway.workers
    async with line(gateway.url) as silent, line(gateway.url) as idle:
        await idle.send(request("/health"))
        assert (await idle.reply()).status == 200
        for number in signals:
            gateway.signal_group(number)
            if worker.is_running():
                worker.send_signal(number)
        status = await asyncio.to_thread(gateway.ended)
        assert await silent.reader.read() == b""
    # A second signal may come when all is done and Python is about to exit.
    assert status == 0 or (status == -signal.SIGINT and len(signals) > 1)


def test_a_signal_during_the_start_is_not_lost(start: Start) -> None:
    gateway = start(NEAR)
    assert gateway.stop() == 0
    for _ in range(3):
        with psutil.Popen(
            command("serve", "--config", str(gateway.file)), start_new_session=True
        ) as process:
            until(process.children, what="a worker that has just been forked")
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(DEADLINE) == 0


def test_workers_do_not_outlive_their_parent(start: Start) -> None:
    gateway = start(NEAR)
    (worker,) = gateway.workers
    gateway.process.kill()
    until(lambda: not worker.is_running(), what="the worker seeing that it is alone")
    assert refuses(gateway.port)
    assert gateway.ended() == -signal.SIGKILL


def test_starting_and_stopping_again_and_again(start: Start) -> None:
    gateway = start(NEAR)
    assert gateway.stop() == 0
    for _ in range(3):
        again = Program("serve", "--config", str(gateway.file), folder=gateway.file.parent)
        assert httpx.get(f"{again.url}/readyz", trust_env=False).status_code == 200
        assert again.stop(signal.SIGINT) == 0


def test_a_port_in_use_is_said(start: Start) -> None:
    gateway = start(NEAR)
    with psutil.Popen(
        command("serve", "--config", str(gateway.file), "--port", str(gateway.port)),
        stderr=-1,
        text=True,
    ) as process:
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {gateway.port}" in said
    assert gateway.get("/health").status_code == 200


def test_sigquit_shows_what_every_process_does_and_changes_nothing(start: Start) -> None:
    gateway = start(NEAR)
    gateway.signal_group(signal.SIGQUIT)

    def shown() -> bool:
        said = gateway.stderr
        return "edge/server/serve.py" in said and said.count("(most recent call first)") >= 2

    until(shown, what="the stacks of parent and worker")
    assert gateway.get("/health").status_code == 200
