"""A gateway with few file descriptors and more streams than they carry."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from .conftest import ADMIN_TOKEN, SECRETS, over_http
from .ledger import rows_when
from .program import ROOT, Gateway, Program, command, environment, until
from .wire import ANTHROPIC, CHAT, MESSAGES, Line, Reply, chat, line, request

LIMIT = 256
CARRIED = 72
MORE = 60
"""Streams beyond what the limit carries."""


@asynccontextmanager
async def few_descriptors(folder: Path, simulator: Program) -> AsyncIterator[Gateway]:
    """With a soft limit below the hard one, which it is to raise."""
    folder.mkdir()
    limited = ("prlimit", f"--nofile=128:{LIMIT}")
    gateway = await asyncio.to_thread(
        Gateway, folder, over_http(simulator.url), env=SECRETS, wrapper=limited
    )
    try:
        yield gateway
        assert await asyncio.to_thread(gateway.stop) == 0, gateway.stderr
    finally:
        await asyncio.to_thread(gateway.kill)


async def stream(gateway: Gateway, stack: AsyncExitStack, dialect: str = "chat") -> Reply:
    """Open a stream that does not end by itself; the head of its answer."""
    connection: Line = await stack.enter_async_context(line(gateway.url))
    text = "[[sim tokens=20000 rate=2]]"
    if dialect == "chat":
        asked = request(CHAT, chat(text, "chat", stream=True), gateway.bearer)
    else:
        headers = {**gateway.bearer, **ANTHROPIC}
        asked = request(MESSAGES, chat(text, "claude", stream=True), headers)
    await connection.send(asked)
    return await connection.head()


async def test_more_streams_than_descriptors_are_refused_and_the_stores_go_on(
    tmp_path: Path, simulator: Program
) -> None:
    async with few_descriptors(tmp_path / "gateway", simulator) as gateway:
        key = gateway.key
        async with AsyncExitStack() as stack:
            heads = await asyncio.gather(
                *(stream(gateway, stack) for _ in range(CARRIED + MORE // 2)),
                *(stream(gateway, stack, "claude") for _ in range(MORE // 2)),
            )
            statuses = Counter(head.status for head in heads)
            assert statuses[200] == CARRIED, statuses
            assert statuses[503] + statuses[529] == MORE
            for head in heads:
                if head.status != 200:
                    assert int(head.header("retry-after")) >= 1
                    assert head.header("connection") == "close"
            await asyncio.to_thread(at_the_brink, gateway, key)
        await asyncio.to_thread(afterwards, gateway)
        assert len(await rows_when(gateway, CARRIED + 1)) == CARRIED + 1


def at_the_brink(gateway: Gateway, key: str) -> None:
    """Operators are answered, and what the program needs for itself can be opened."""
    assert gateway.get("/livez").status_code == 200
    metrics = gateway.metrics()
    assert metrics["penstock_refused_at_door_total", ()] >= MORE
    assert 20 < metrics["penstock_descriptors_left", ()] < LIMIT
    made = httpx.post(
        f"{gateway.url}/admin/v1/keys",
        json={"name": "made at the brink"},
        headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
        trust_env=False,
    )
    assert made.status_code == 201, made.text
    assert gateway.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 503
    assert "ready" in gateway.run("status")


def afterwards(gateway: Gateway) -> None:
    """Once the streams have ended there is room again, and every one of them is in the books."""
    until(lambda: gateway.in_flight() == 0, what="no request in flight")
    reply = gateway.post(CHAT, chat("Hi", "chat"))
    assert reply.status_code == 200
    gateway.request_line(reply.headers["x-request-id"])
    log = gateway.log
    assert not [line for line in log if "exception" in line]
    assert not [line for line in log if line.get("state") == "open"], "a target was blamed"
    begun, used_up, over = until(lambda: three(gateway), what="that it is over")
    assert begun.startswith(f"{LIMIT} file descriptors are enough for {CARRIED} open requests")
    assert used_up.startswith(f"{CARRIED} requests are open and no file descriptors are left")
    assert over.startswith("file descriptors are available again")


def three(gateway: Gateway) -> list[str]:
    """What was said of descriptors, once it is three things; it may never be more."""
    said = [line["event"] for line in gateway.log if "descriptors" in line["event"]]
    assert len(said) <= 3, said
    return said if len(said) == 3 else []


async def test_idle_connections_do_not_keep_requests_out(
    tmp_path: Path, simulator: Program
) -> None:
    """More connections than may be open, which say nothing: the kernel holds the others until the
    idle ones are closed."""
    async with (
        few_descriptors(tmp_path / "gateway", simulator) as gateway,
        AsyncExitStack() as stack,
    ):
        assert gateway.key
        for _ in range(CARRIED + 40):
            await stack.enter_async_context(line(gateway.url))
        assert (await stream(gateway, stack)).status == 200
        await stack.aclose()
        await asyncio.to_thread(until, lambda: gateway.in_flight() == 0, what="none in flight")


def test_start_with_too_few_descriptors_says_what_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text('[[upstreams]]\nname = "s"\ndialect = "simulator"\n')
    for words in (["serve"], ["check", "--json"]):
        done = subprocess.run(
            ["prlimit", "--nofile=100:100", *command(*words, "--config", str(file))],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1, done.stderr
        said = "100 file descriptors are too few: at least 114 are needed"
        assert said in done.stderr + done.stdout
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("limit", "streams"), [(1024, 435), (4096, 1875)])
def test_check_says_how_many_streams_the_limit_carries(
    tmp_path: Path, limit: int, streams: int
) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text('[[upstreams]]\nname = "s"\ndialect = "simulator"\n')
    done = subprocess.run(
        ["prlimit", f"--nofile=500:{limit}", *command("check", "--json", "--config", str(file))],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert f"{limit} file descriptors are enough for {streams} open requests" in done.stdout
