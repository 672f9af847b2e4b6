"""The lifespan protocol around a start and a stop."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edge.runtime import lifespan
from middlewares.asgi import Message


async def run(start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> Any:
    inbox: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return inbox.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await lifespan.run(receive, send, start=start, stop=stop)
    return sent, len(inbox)


async def fine() -> None:
    return


async def broken() -> None:
    raise OSError("no such database")


async def test_run_starts_and_stops() -> None:
    done: list[str] = []

    async def start() -> None:
        done.append("start")

    async def stop() -> None:
        done.append("stop")

    sent, left = await run(start, stop)
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert (done, left) == (["start", "stop"], 0)


async def test_run_start_fails_is_reported_and_nothing_is_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent, left = await run(broken, fine)
    assert sent == [{"type": "lifespan.startup.failed", "message": "no such database"}]
    assert left == 1
    assert "start-up failed" in caplog.text


async def test_run_stop_fails_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    sent, _ = await run(fine, broken)
    assert sent[-1] == {"type": "lifespan.shutdown.failed", "message": "no such database"}
    assert "shutdown failed" in caplog.text
