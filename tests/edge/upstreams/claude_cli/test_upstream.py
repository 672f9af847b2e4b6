"""The client as an upstream, where it does what the real one cannot be made to do; and its pool."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge.upstreams import (
    ConnectFailed,
    Disconnected,
    Malformed,
    Request,
    TimedOut,
    UpstreamFailure,
)
from edge.upstreams.claude_cli import ClaudeCLIUpstream, Program, pool
from edge.upstreams.claude_cli.upstream import StreamedAnswer, WholeAnswer
from tests.waiting import DEADLINE

PROGRAM = Path(__file__).with_name("claude_program.py")


class Host:
    """A place where such programs run. `started` are the processes that ever were."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder / "log"
        self.log.mkdir()
        self.upstreams: list[ClaudeCLIUpstream] = []

    def upstream(self, mode: str, **options: Any) -> ClaudeCLIUpstream:
        command = self._folder / mode
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PROGRAM}" {mode} "{self.log}"\n')
        command.chmod(0o700)
        environment = {"TMPDIR": str(self._folder)}
        made = ClaudeCLIUpstream(
            Program(command=str(command), environment=environment), **{"prewarm": 0, **options}
        )
        self.upstreams.append(made)
        return made

    @property
    def started(self) -> set[int]:
        return {int(file.name) for file in self.log.iterdir()}

    @property
    def alive(self) -> set[int]:
        return {pid for pid in self.started if exists(pid)}

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not look():
                await asyncio.sleep(0.02)  # only the system can tell


def exists(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path)
    yield made
    for upstream in made.upstreams:
        await upstream.aclose()
    assert not made.alive


def question(*, stream: bool = True, **members: Any) -> Request:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "m", "max_tokens": 9, "messages": messages, "stream": stream, **members}
    return Request(b"POST", b"/v1/messages", (), json.dumps(body).encode())


async def asked(upstream: ClaudeCLIUpstream, **members: Any) -> StreamedAnswer | WholeAnswer:
    async with asyncio.timeout(DEADLINE):
        return await upstream.open(question(**members))


async def rest(answer: StreamedAnswer | WholeAnswer) -> bytes:
    read = b""
    async with asyncio.timeout(DEADLINE):
        while more := await answer.read():
            read += more
    return read


async def failure(upstream: ClaudeCLIUpstream, **members: Any) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as raised:
        await rest(await asked(upstream, **members))
    return raised.value


async def test_an_answer(host: Host) -> None:
    upstream = host.upstream("whole")
    answer = await asked(upstream)
    reported = await rest(answer)
    assert reported.startswith(b"event: message_start\ndata: {")
    assert reported.endswith(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')
    await host.until(lambda: not host.alive)  # without a call of `close`
    history = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    whole = json.loads(await rest(await asked(upstream, stream=False, messages=history)))
    assert whole["content"] == [{"type": "text", "text": "hello"}]
    assert whole["usage"] == {"input_tokens": 3, "output_tokens": 2}
    assert whole["stop_reason"] == "end_turn"
    assert len(host.started) == 2, "one process answers one request"


FAILING = {
    "crash": (ConnectFailed, "status 7; standard error: cannot start"),
    "old": (ConnectFailed, "needs version 2.1.329 or newer, found 2.0.9"),
    "refuses": (Malformed, "it refused control-0: not me"),
    "garbage": (Malformed, "unreadable line: 'no JSON'"),
    "endless": (Malformed, "a line of more than 8388608 bytes"),
    "dies": (Disconnected, "status 3; standard error: boom"),
    "twice": (Disconnected, "a second message"),
    "nothing": (Disconnected, "without a complete message"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("mode", FAILING)
async def test_a_client_that_fails(host: Host, mode: str, stream: bool) -> None:
    kind, why = FAILING[mode]
    failed = await failure(host.upstream(mode), stream=stream)
    assert type(failed) is kind
    assert why in failed.reason
    await host.until(lambda: not host.alive)


async def test_what_came_before_a_failure_is_reported_first(host: Host) -> None:
    answer = await asked(host.upstream("dies"))
    reported = b""
    with pytest.raises(Disconnected):
        while more := await answer.read():
            reported += more
    assert b'"text": "hel"' in reported


async def test_a_made_up_end_is_no_end(host: Host) -> None:
    upstream = host.upstream("made-up")
    reported = await rest(await asked(upstream))
    assert b"message_stop" not in reported
    assert reported.endswith(
        b'event: error\ndata: {"type":"error","error":'
        b'{"type":"overloaded_error","message":"it broke"}}\n\n'
    )
    assert (await asked(upstream, stream=False)).status == 529


async def test_a_limit_of_the_vendor_says_until_when(host: Host) -> None:
    answer = await asked(host.upstream("limited"))
    assert answer.status == 429
    assert (b"retry-after", b"Fri, 01 Jan 2100 00:00:00 GMT") in answer.headers


@pytest.mark.parametrize(("mode", "begins"), [("blank", "messages: "), ("asks", "tools: ")])
async def test_what_the_client_would_never_answer_is_refused_at_once(
    host: Host, mode: str, begins: str
) -> None:
    """It is the caller's fault, and must not look like one of the client's."""
    reported = await asked(host.upstream(mode, processes=1))
    assert reported.status == 400
    assert json.loads(await rest(reported))["error"]["message"].startswith(begins)
    await host.until(lambda: not host.alive)


async def test_tools_that_the_client_does_not_list(host: Host) -> None:
    failed = await failure(host.upstream("whole"), tools=[{"name": "a", "input_schema": {}}])
    assert failed.reason == "it did not take the tools a"


@pytest.mark.parametrize(
    ("limit", "phase"), [("first", "first_byte"), ("idle", "idle"), ("total", "total")]
)
async def test_limits_of_time(host: Host, limit: str, phase: str) -> None:
    mode = "silent" if limit == "first" else "stalls"
    # Half of `first` is for the start of the client.
    upstream = host.upstream(mode, **{limit: 2.0 if limit == "first" else 0.5})
    for stream in (True, False):
        failed = await failure(upstream, stream=stream)
        assert isinstance(failed, TimedOut)
        assert failed.phase == phase
    await host.until(lambda: not host.alive)


async def test_a_client_that_does_not_hear_is_killed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.upstreams.claude_cli.process.GRACE", 0.1)
    answer = await asked(host.upstream("deaf"))
    assert await answer.read()
    assert host.alive
    answer.close()
    answer.close()
    await host.until(lambda: not host.alive)
    assert await answer.read() == b""


async def test_a_slow_reader_slows_the_client(host: Host) -> None:
    """Unread output stays in pipes and small buffers, however long the reader waits."""
    answer = await asked(host.upstream("flood"))
    (log,) = host.log.iterdir()
    await host.until(lambda: "stopped" in log.read_text())
    reported = 0

    def written() -> int:
        return int((log.read_text().split() or ["0"])[0])

    for _ in range(25):
        await asyncio.sleep(0.01)
        assert written() < 1 << 19
    while reported < 1 << 20:
        reported += len(await answer.read())
        assert written() < reported + (1 << 19)
    answer.close()


async def test_an_endpoint_that_it_does_not_have(host: Host) -> None:
    upstream = host.upstream("whole")
    count = Request(b"POST", b"/v1/messages/count_tokens", (), b"{}")
    assert (await upstream.open(count)).status == 404
    assert not host.started


@pytest.mark.parametrize("command", ["no-such-program", "/dev/null", "/"])
async def test_no_program(command: str) -> None:
    upstream = ClaudeCLIUpstream(Program(command=command))
    failed = await failure(upstream)
    assert isinstance(failed, ConnectFailed)
    assert failed.reason == f"{command}: not found, or not executable"
    await upstream.aclose()


async def test_a_program_that_cannot_be_loaded(tmp_path: Path) -> None:
    command = tmp_path / "text"
    command.write_bytes(b"\x7fELF but not really")
    command.chmod(0o700)
    upstream = ClaudeCLIUpstream(Program(command=str(command)))
    assert isinstance(await failure(upstream), ConnectFailed)
    await upstream.aclose()


async def test_no_folder_to_run_in(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    failed = await failure(host.upstream("whole"))
    assert isinstance(failed, ConnectFailed)
    assert failed.reason.startswith("cannot create a private folder: ")


# The pool


async def test_a_further_request_waits_and_one_too_many_does_not(host: Host) -> None:
    upstream = host.upstream("stalls", processes=1, waiting=1)
    first = await asked(upstream)
    second = asyncio.create_task(asked(upstream))
    await asyncio.sleep(0)
    failed = await failure(upstream)
    assert isinstance(failed, ConnectFailed)
    assert failed.reason == "all 1 clients are busy and 1 requests wait"
    first.close()
    answer = await second
    assert len(host.started) == 2
    assert len(host.alive) == 1
    answer.close()


async def test_a_place_is_not_lost_with_who_gives_up_waiting(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the turn of the one that leaves had come or not."""
    upstream = host.upstream("whole", processes=1)
    held = await upstream.pool.take()
    waiting = [asyncio.create_task(asked(upstream)) for _ in range(4)]
    await asyncio.sleep(0)
    given = upstream.pool._wake_next

    def leave_when_given() -> None:
        given()
        waiting[1].cancel()

    monkeypatch.setattr(upstream.pool, "_wake_next", leave_when_given)
    waiting[0].cancel()
    waiting[2].cancel()
    upstream.pool.release(held)
    assert await rest(await waiting[3])
    assert [task.cancelled() for task in waiting] == [True, True, True, False]
    await host.until(lambda: upstream.pool.free == 1)


async def test_who_gives_up_waiting_just_as_a_place_is_free(host: Host) -> None:
    upstream = host.upstream("whole", processes=1)
    held = await upstream.pool.take()
    waiting = asyncio.create_task(upstream.pool.take())
    await asyncio.sleep(0)
    waiting.cancel()
    upstream.pool._max_processes += 1
    upstream.pool._wake_next()  # before the one that leaves runs again
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert upstream.pool.free == 1
    upstream.pool.release(held)


async def test_waiting_has_its_limit(host: Host) -> None:
    upstream = host.upstream("whole", processes=1, first=0.4)
    held = await upstream.pool.take()
    failed = await failure(upstream)
    assert isinstance(failed, ConnectFailed)
    assert failed.reason == "no client was free within 0.2 s"
    upstream.pool.release(held)


async def test_requests_in_turn(host: Host) -> None:
    """More than there are places for, some of which leave: all the others are answered."""
    upstream = host.upstream("whole", processes=2, prewarm=1)
    most = 0

    async def one(number: int) -> bytes:
        nonlocal most
        answer = await asked(upstream)
        most = max(most, len(host.alive))
        if number % 3 == 0:
            answer.close()
        return await rest(answer)

    reported = await asyncio.gather(*map(one, range(9)))
    assert [bool(text) for text in reported] == [number % 3 != 0 for number in range(9)]
    assert most <= 2


async def test_one_is_started_ahead(host: Host) -> None:
    upstream = host.upstream("whole", prewarm=1)
    await rest(await asked(upstream))
    await host.until(lambda: len(host.alive) == 1 and len(host.started) == 2)
    (spare,) = host.alive
    await rest(await asked(upstream))
    await host.until(lambda: spare not in host.alive and len(host.alive) == 1)
    assert len(host.started) == 3, "the spare one answered, and was replaced"


async def test_an_unused_one_does_not_grow_old(host: Host) -> None:
    upstream = host.upstream("whole", prewarm=1)
    await rest(await asked(upstream))
    await host.until(lambda: len(host.alive) == 1 and len(host.started) == 2)
    waiting = upstream.pool
    assert waiting._expiry is not None
    assert waiting._expiry.when() == pytest.approx(waiting._spare[0].born + pool._SPARE_TTL)
    waiting._expiry.cancel()
    waiting._spare[0].born -= pool._SPARE_TTL  # as if the time had passed
    waiting._last_take -= pool._SPARE_TTL
    waiting._expire()
    await host.until(lambda: not host.alive)
    assert len(host.started) == 2, "no request came, so none is started again"


async def test_a_spare_one_that_died_is_not_used(host: Host) -> None:
    upstream = host.upstream("whole", prewarm=1)
    await rest(await asked(upstream))
    await host.until(lambda: len(host.alive) == 1 and len(host.started) == 2)
    (spare,) = host.alive
    os.kill(spare, 9)
    await host.until(lambda: spare not in host.alive)
    assert await rest(await asked(upstream))


async def test_its_folder_may_be_tidied_up(host: Host) -> None:
    upstream = host.upstream("whole")
    await rest(await asked(upstream))
    await host.until(lambda: not host.alive)
    folder = upstream.pool.folder
    assert folder is not None
    shutil.rmtree(folder)
    assert await rest(await asked(upstream))
    assert upstream.pool.folder != folder


async def test_the_end(host: Host) -> None:
    upstream = host.upstream("stalls", processes=1)
    await asked(upstream)
    waiting = asyncio.create_task(asked(upstream))
    await asyncio.sleep(0)
    folder = upstream.pool.folder
    await upstream.aclose()
    assert not host.alive
    assert folder is not None
    assert not folder.exists()
    for closed in (waiting, asyncio.create_task(asked(upstream))):
        with pytest.raises(ConnectFailed, match="closed"):
            await closed
