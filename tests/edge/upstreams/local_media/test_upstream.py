"""The upstream with a scripted program: its life, broken answers, cancellation."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.upstreams import ConnectFailed, Disconnected, Request, Response
from edge.upstreams.local_media import LocalMediaUpstream
from edge.upstreams.local_media.upstream import LocalMediaUnavailable
from tests.started_processes import StartedProcesses
from tests.waiting import until

SCRIPT = str(Path(__file__).with_name("scripted_program.py"))


def upstream_in(mode: str) -> LocalMediaUpstream:
    return LocalMediaUpstream((sys.executable, "-I", SCRIPT, mode))


@pytest.fixture
async def upstream() -> AsyncIterator[LocalMediaUpstream]:
    made = upstream_in("well")
    yield made
    await made.aclose()


def request(path: str) -> Request:
    return Request(b"POST", b"/v1" + path.encode(), ((b"content-type", b"text/plain"),), b"body")


async def whole(response: Response) -> bytes:
    out = bytearray()
    while data := await response.read():
        out += data
    return bytes(out)


async def test_open_starts_one_process_that_answers_many(upstream: LocalMediaUpstream) -> None:
    started = StartedProcesses()
    answers = await asyncio.gather(*(upstream.open(request("/works")) for _ in range(9)))
    assert [await whole(answer) for answer in answers] == [b"onetwo"] * 9
    assert answers[0].headers == [(b"content-type", b"audio/wav")]
    assert upstream.pid is not None
    assert started() == [upstream.pid]


async def test_read_after_the_process_died_raises(upstream: LocalMediaUpstream) -> None:
    response = await upstream.open(request("/dies"))
    with pytest.raises(Disconnected):
        await whole(response)
    assert await whole(await upstream.open(request("/works"))) == b"onetwo"  # another process


async def test_open_while_the_process_dies_raises_for_all(upstream: LocalMediaUpstream) -> None:
    hanging = asyncio.create_task(upstream.open(request("/hangs")))
    await until(lambda: upstream.pid is not None)
    with pytest.raises(Disconnected):
        await upstream.open(request("/dies/at-once"))
    with pytest.raises(Disconnected):
        await hanging


async def test_read_answer_that_fails_raises_after_its_data(upstream: LocalMediaUpstream) -> None:
    response = await upstream.open(request("/fails"))
    assert await response.read() == b"one"
    assert await response.read() == b"two"
    with pytest.raises(Disconnected):
        await response.read()


async def test_close_cancels_the_work(upstream: LocalMediaUpstream) -> None:
    witness = await upstream.open(request("/cancels"))
    response = await upstream.open(request("/opens"))
    response.close()
    response.close()
    assert await witness.read() == b"2 cancelled"
    with pytest.raises(Disconnected):
        await response.read()


async def test_open_cancelled_cancels_the_work(upstream: LocalMediaUpstream) -> None:
    witness = await upstream.open(request("/cancels"))
    opening = asyncio.create_task(upstream.open(request("/hangs")))
    await asyncio.sleep(0.05)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert await witness.read() == b"2 cancelled"


@pytest.mark.parametrize("mode", ["dies", "talks"])
async def test_open_program_that_does_not_start_raises(mode: str) -> None:
    started = StartedProcesses()
    upstream = upstream_in(mode)
    with pytest.raises(ConnectFailed):
        await upstream.open(request("/works"))
    await upstream.aclose()
    assert not started()


async def test_open_missing_interpreter_raises() -> None:
    with pytest.raises(ConnectFailed):
        await LocalMediaUpstream(("/does/not/exist",)).open(request("/works"))


async def test_open_without_the_packages_says_what_to_install(
    upstream: LocalMediaUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(LocalMediaUnavailable, match=r"need hibari: pip install 'penstock\[media,"):
        await upstream.open(request("/works"))


async def test_aclose_ends_the_process_and_refuses_requests(upstream: LocalMediaUpstream) -> None:
    started = StartedProcesses()
    response = await upstream.open(request("/opens"))
    await upstream.aclose()
    with pytest.raises(Disconnected):
        await response.read()
    with pytest.raises(ConnectFailed):
        await upstream.open(request("/works"))
    assert not started()
