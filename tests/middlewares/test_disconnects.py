"""The end of the server's connections, as those hear of it who listen for a disconnect."""

import asyncio
import gc
import weakref

import pytest

from middlewares.asgi import Message, Receive
from middlewares.body import BodyIncomplete, read_body
from middlewares.disconnects import (
    DisconnectWatch,
    ignore_server_end,
    no_connections,
    receive_or_disconnect,
)
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


class FutureServer:
    """Its `receive` returns futures, as Granian's does."""

    def __init__(self) -> None:
        self.futures: list[asyncio.Future[Message]] = []

    def receive(self) -> asyncio.Future[Message]:
        self.futures.append(asyncio.get_running_loop().create_future())
        return self.futures[-1]


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_watch_of_a_server_with_futures_calls_once_and_keeps_no_task() -> None:
    server, left = FutureServer(), list[int]()
    before = asyncio.all_tasks()
    watch = DisconnectWatch(server.receive, lambda: left.append(1))
    server.futures[0].set_result(BODY)
    await turns()
    assert asyncio.all_tasks() == before
    assert not left
    server.futures[1].set_result(GONE)
    await turns()
    watch.stop()
    assert left == [1]
    assert len(server.futures) == 2


async def test_watch_of_a_server_with_coroutines_calls_once() -> None:
    gone, left = asyncio.Event(), list[int]()
    messages = [BODY, BODY]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await gone.wait()
        return GONE

    watch = DisconnectWatch(receive, lambda: left.append(1))
    await turns()
    assert not left
    gone.set()
    await turns()
    watch.stop()
    assert left == [1]


async def test_watch_that_was_stopped_calls_nothing_and_cancels_what_it_waits_for() -> None:
    server, left = FutureServer(), list[int]()
    watch = DisconnectWatch(server.receive, lambda: left.append(1))
    watch.stop()
    watch.stop()
    assert server.futures[0].cancelled()
    listening = DisconnectWatch(Server().receive, lambda: left.append(1))
    await turns()
    listening.stop()
    await turns()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not left


async def test_watch_ends_when_no_connection_is_left_but_not_where_that_is_ignored() -> None:
    left: list[str] = []
    server = FutureServer()
    kept = DisconnectWatch(server.receive, lambda: left.append("future"))
    other = DisconnectWatch(Server().receive, lambda: left.append("coroutine"))
    await turns()

    async def alone() -> DisconnectWatch:
        ignore_server_end()
        return DisconnectWatch(FutureServer().receive, lambda: left.append("ignored"))

    ignoring = await asyncio.create_task(alone())
    with no_connections():
        assert sorted(left) == ["coroutine", "future"]
        late = DisconnectWatch(FutureServer().receive, lambda: left.append("late"))
        await turns()
        assert sorted(left) == ["coroutine", "future", "late"]
    for watch in (kept, other, ignoring, late):
        watch.stop()


async def test_watch_whose_receive_fails_calls_nothing() -> None:
    server, left = FutureServer(), list[int]()
    watch = DisconnectWatch(server.receive, lambda: left.append(1))
    server.futures[0].set_exception(RuntimeError("broken"))
    await turns()
    watch.stop()
    assert not left


async def test_watch_leaves_no_cycle_behind() -> None:
    class Owner:
        def __init__(self, receive: Receive) -> None:
            self.watch = DisconnectWatch(receive, self.left)

        def left(self) -> None:
            raise AssertionError

    gc.disable()
    try:
        server = FutureServer()
        owner = Owner(server.receive)
        ended = weakref.ref(owner)
        owner.watch.stop()
        await turns()
        server.futures.clear()
        del owner
        assert ended() is None
    finally:
        gc.enable()
