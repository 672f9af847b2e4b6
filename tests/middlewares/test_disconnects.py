"""The end of the server's connections, as those hear of it who listen for a disconnect."""

import asyncio

import pytest

from middlewares.asgi import Message, Receive
from middlewares.body import BodyIncomplete, read_body
from middlewares.disconnects import ignore_server_end, no_connections, receive_or_disconnect
from tests.asgi import http_scope

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


async def begun(receive: Receive) -> asyncio.Task[Message]:
    """A task that waits."""
    task = asyncio.create_task(receive_or_disconnect(receive))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_end_while_somebody_listens_is_a_disconnect() -> None:
    server = Server()
    assert await receive_or_disconnect(server.receive) == BODY
    waiting = await begun(server.receive)
    with no_connections():
        assert await waiting == GONE
        assert waiting.cancelling() == 0
        assert await receive_or_disconnect(server.receive) == GONE
        assert await receive_or_disconnect(Server().receive) == GONE
    assert server.asked == 2
    assert await receive_or_disconnect(Server().receive) == BODY


async def test_listening_through_another_who_listens_is_a_disconnect() -> None:
    server = Server()
    await receive_or_disconnect(server.receive)
    waiting = await begun(lambda: receive_or_disconnect(server.receive))
    with no_connections():
        assert await waiting == GONE
        assert waiting.cancelling() == 0


async def test_a_message_that_has_come_as_it_ends_does_not_keep_it_from_ending() -> None:
    came = asyncio.Event()

    async def receive() -> Message:
        await came.wait()
        return BODY

    waiting = await begun(receive)
    came.set()
    with no_connections():
        assert await waiting == GONE
        assert waiting.cancelling() == 0


async def test_apart_listener_hears_of_no_disconnect() -> None:
    """Nor are tasks that it starts; who has started it is."""
    goes_on = asyncio.Event()

    async def receive() -> Message:
        await goes_on.wait()
        return BODY

    async def apart() -> Message:
        ignore_server_end()
        return await asyncio.create_task(receive_or_disconnect(receive))

    outer = await begun(receive)
    inner = asyncio.create_task(apart())
    await asyncio.sleep(0.01)
    with no_connections():
        assert await outer == GONE
        late = asyncio.create_task(apart())
        await asyncio.sleep(0.01)
        goes_on.set()
        assert await inner == await late == BODY


@pytest.mark.parametrize("order", ["end, cancel", "cancel, end", "cancel"])
async def test_a_cancellation_by_others_is_not_swallowed(order: str) -> None:
    server = Server()
    await receive_or_disconnect(server.receive)
    waiting = await begun(server.receive)
    if order == "end, cancel":
        with no_connections():
            waiting.cancel()
    else:
        waiting.cancel()
    if order == "cancel, end":
        with no_connections():
            pass
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_body_on_its_way_has_broken_off() -> None:
    server = Server()
    await receive_or_disconnect(server.receive)
    scope = http_scope()
    reading = asyncio.create_task(read_body(scope, server.receive, limit=10, idle=1000.0))
    await asyncio.sleep(0)
    with no_connections(), pytest.raises(BodyIncomplete):
        await reading
    assert reading.cancelling() == 0
