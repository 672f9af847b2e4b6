"""The end of the server's connections, as a request hears of it."""

import asyncio

import pytest

from edge.hearing import Hearing
from middlewares._asgi import Message

GONE = {"type": "http.disconnect"}
BODY = {"type": "http.request", "body": b"x", "more_body": False}


class Server:
    """Its `receive` gives one body, and then never returns."""

    def __init__(self) -> None:
        self.asked = 0

    async def receive(self) -> Message:
        self.asked += 1
        if self.asked == 1:
            return BODY
        await asyncio.Event().wait()
        raise AssertionError


async def begun(hearing: Hearing) -> asyncio.Task[Message]:
    """A task that waits in it."""
    task = asyncio.create_task(hearing())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_end_while_somebody_waits_is_a_disconnect() -> None:
    hearing = Hearing(Server().receive)
    assert await hearing() == BODY
    waiting = await begun(hearing)
    hearing.end()
    hearing.end()
    assert await waiting == GONE
    assert waiting.cancelling() == 0
    assert await hearing() == GONE


async def test_end_before_anybody_asks_is_a_disconnect_without_the_server() -> None:
    server = Server()
    hearing = Hearing(server.receive)
    hearing.end()
    assert await hearing() == GONE
    assert await Hearing(server.receive, over=True)() == GONE
    assert server.asked == 0


async def test_a_message_that_has_come_as_it_ends_does_not_keep_it_from_ending() -> None:
    came = asyncio.Event()

    async def receive() -> Message:
        await came.wait()
        return BODY

    hearing = Hearing(receive)
    waiting = await begun(hearing)
    came.set()
    hearing.end()
    assert await waiting == GONE
    assert waiting.cancelling() == 0


@pytest.mark.parametrize("ended", ["before", "after", "never"])
async def test_a_cancellation_by_others_is_not_swallowed(ended: str) -> None:
    server = Server()
    hearing = Hearing(server.receive)
    await hearing()
    waiting = await begun(hearing)
    if ended == "before":
        hearing.end()
    waiting.cancel()
    if ended == "after":
        hearing.end()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_one_who_waited_before_is_not_cancelled_for_one_who_waits_now() -> None:
    """The watch of one attempt may end after that of the next has begun."""
    server = Server()
    hearing = Hearing(server.receive)
    await hearing()
    first = await begun(hearing)
    second = await begun(hearing)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    hearing.end()
    assert await second == GONE
