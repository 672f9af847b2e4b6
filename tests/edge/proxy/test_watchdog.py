"""The watchdog: disconnects, timeouts, pings, and that it leaves no tasks behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from edge.proxy.watchdog import FirstTokenTimeout, Watchdog
from middlewares.asgi import Message
from middlewares.disconnects import ClientDisconnected

pytestmark = pytest.mark.simulated_time


class Client:
    """A `receive` that is quiet until `leave`."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self._on_disconnect = asyncio.Event()
        self.asked = asyncio.Event()

    def leave(self) -> None:
        self._on_disconnect.set()

    async def __call__(self) -> Message:
        self.asked.set()
        if self._messages:
            return self._messages.pop(0)
        await self._on_disconnect.wait()
        return {"type": "http.disconnect"}


class Pings:
    """A `ping` that counts; `blocked` makes each wait for ever."""

    def __init__(self) -> None:
        self.sent = 0
        self.cancelled = 0
        self.blocked = False
        self._more = asyncio.Event()

    async def __call__(self) -> None:
        self.sent += 1
        self._more.set()
        if self.blocked:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    async def until(self, count: int) -> None:
        while self.sent < count:
            self._more.clear()
            await self._more.wait()


@pytest.fixture(autouse=True)
async def nothing_is_left_behind() -> AsyncIterator[None]:
    """No task and no live timer of the watch may outlive it."""
    loop = asyncio.get_running_loop()
    made: list[asyncio.TimerHandle] = []
    timer = loop.call_at

    def noted(*args: object, **kwargs: object) -> asyncio.TimerHandle:
        handle = timer(*args, **kwargs)  # type: ignore[arg-type]
        if getattr(args[1], "__func__", None) is Watchdog._tick:
            made.append(handle)
        return handle

    loop.call_at = noted  # type: ignore[method-assign]
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}
    assert all(handle.cancelled() or handle.when() < loop.time() + 1e-6 for handle in made)


async def forever() -> None:
    await asyncio.Event().wait()


async def within(seconds: float, work: Awaitable[None]) -> None:
    async with asyncio.timeout(seconds):
        await work


async def test_a_quick_answer_asks_nothing_of_the_client() -> None:
    client = Client()
    async with Watchdog(client):
        await asyncio.sleep(0)
    assert not client.asked.is_set()


async def test_a_client_that_leaves_ends_the_wait_where_it_is() -> None:
    client = Client({"type": "http.request", "body": b"", "more_body": False})
    with pytest.raises(ClientDisconnected):
        async with Watchdog(client):
            client.leave()
            await within(5, forever())
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_client_that_leaves_later_ends_the_wait_too() -> None:
    client = Client()
    with pytest.raises(ClientDisconnected):
        async with Watchdog(client):
            await within(5, client.asked.wait())  # type: ignore[arg-type]
            client.leave()
            await within(5, forever())


async def test_no_content_in_time() -> None:
    with pytest.raises(FirstTokenTimeout) as raised:
        async with Watchdog(Client(), first_content=0.12):
            await within(5, forever())
    assert raised.value.seconds == 0.12
    assert "0.12 s" in str(raised.value)


async def test_pings_are_not_content() -> None:
    pings = Pings()
    with pytest.raises(FirstTokenTimeout):
        async with Watchdog(Client(), ping=pings, hold=0, silence=0.03, first_content=0.3) as watch:
            while True:
                await pings.until(pings.sent + 1)
                watch.beat()
    assert pings.sent >= 2


async def test_content_lifts_the_limit() -> None:
    pings = Pings()
    async with Watchdog(Client(), ping=pings, hold=0, silence=0.02, first_content=0.15) as watch:
        watch.content_started()
        await within(5, pings.until(12))  # twelve silences outlast the limit


async def test_pings_come_again_and_again_in_silence() -> None:
    pings = Pings()
    async with Watchdog(Client(), ping=pings, hold=0, silence=0.01):
        await within(5, pings.until(4))


async def test_a_ping_that_cannot_be_sent_is_not_doubled_and_is_dropped_at_the_end() -> None:
    pings = Pings()
    pings.blocked = True
    async with Watchdog(Client(), ping=pings, hold=0, silence=0.01):
        await within(5, pings.until(1))
        await asyncio.sleep(0.1)
    assert (pings.sent, pings.cancelled) == (1, 1)


@pytest.mark.parametrize("first_content", [None, 5.0])
async def test_keep_alive_can_be_off_and_then_costs_nothing(first_content: float | None) -> None:
    pings = Pings()
    ticks = 0

    class Counted(Watchdog):
        __slots__ = ()

        def _tick(self) -> None:
            nonlocal ticks
            ticks += 1
            super()._tick()

    watch = Counted(Client(), ping=pings, silence=float("inf"), first_content=first_content)
    async with watch:
        await asyncio.sleep(0.25)
    assert pings.sent == 0
    assert ticks == 1


async def test_beats_put_pings_off() -> None:
    pings = Pings()
    async with Watchdog(Client(), ping=pings, hold=60, silence=60) as watch:
        await asyncio.sleep(0.15)
        watch.beat()
    assert pings.sent == 0


async def test_an_own_failure_is_not_hidden_by_a_client_that_leaves_at_the_same_time() -> None:
    client = Client()
    client.leave()
    with pytest.raises(ValueError, match="mine"):
        async with Watchdog(client):
            try:
                await within(5, forever())
            except asyncio.CancelledError:
                raise ValueError("mine") from None
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_stop_that_was_swallowed_leaves_the_task_uncancelled() -> None:
    client = Client()
    client.leave()
    async with Watchdog(client):
        with suppress(asyncio.CancelledError):
            await within(5, forever())
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    async with asyncio.timeout(5):
        await asyncio.sleep(0)


async def cancelled_from_outside(work: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(work())
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_servers_cancellation_goes_through() -> None:
    async def work() -> None:
        async with Watchdog(Client(), ping=Pings(), first_content=60):
            await forever()

    await cancelled_from_outside(work)


async def test_the_servers_cancellation_wins_over_a_client_that_leaves_at_the_same_time() -> None:
    client = Client()
    inside = asyncio.Event()

    async def work() -> None:
        async with Watchdog(client):
            inside.set()
            await forever()

    task = asyncio.ensure_future(work())
    await inside.wait()
    await within(5, client.asked.wait())  # type: ignore[arg-type]
    client.leave()
    for _ in range(3):  # until the watcher has cancelled, before the task has seen it
        if task.cancelling():
            break
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_limit_around_it_still_works() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15), Watchdog(Client()):
            await forever()


def test_it_needs_a_task() -> None:
    loop = asyncio.new_event_loop()
    raised: list[BaseException] = []

    def step() -> None:
        try:
            Watchdog(Client()).__aenter__().send(None)
        except RuntimeError as error:
            raised.append(error)
        loop.stop()

    loop.call_soon(step)
    loop.run_forever()
    loop.close()
    assert "running task" in str(raised[0])
