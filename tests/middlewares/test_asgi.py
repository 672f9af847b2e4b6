"""`offer`: a send begun in a callback and finished in a task, with every kind of awaitable."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from middlewares.asgi import Message, Send, offer

MESSAGE: Message = {"type": "http.response.body", "body": b"x", "more_body": True}


class Plain:
    """An awaitable as servers written in C or Rust have: an iterator around a future."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future
        self._steps = iter(future)

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._steps)


def plain(future: asyncio.Future[None]) -> Send:
    return lambda message: Plain(future)


def coroutine(future: asyncio.Future[None]) -> Send:
    async def send(message: Message) -> None:
        await future

    return send


@pytest.fixture(params=[plain, coroutine], ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_nothing_is_left_when_the_server_has_room(make: Any) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_result(None)
    assert offer(make(future), MESSAGE) is None


async def test_the_rest_waits_for_room(make: Any) -> None:
    future = asyncio.get_running_loop().create_future()
    rest = offer(make(future), MESSAGE)
    assert rest is not None
    task = asyncio.ensure_future(wait(rest))
    await asyncio.sleep(0)
    assert not task.done()
    future.set_result(None)
    await task


async def test_what_send_raises_later_is_raised_by_the_rest(make: Any) -> None:
    future = asyncio.get_running_loop().create_future()
    rest = offer(make(future), MESSAGE)
    assert rest is not None
    future.set_exception(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError, match="gone"):
        await rest


async def test_cancelling_the_rest_cancels_what_it_waits_for(make: Any) -> None:
    future = asyncio.get_running_loop().create_future()
    rest = offer(make(future), MESSAGE)
    assert rest is not None
    task = asyncio.ensure_future(wait(rest))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.cancelled()


async def test_a_wrapper_sees_the_cancellation() -> None:
    future = asyncio.get_running_loop().create_future()
    seen: list[str] = []

    async def send(message: Message) -> None:
        try:
            await future
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    rest = offer(send, MESSAGE)
    assert rest is not None
    task = asyncio.ensure_future(wait(rest))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_several_waits_in_one_send() -> None:
    futures = [asyncio.get_running_loop().create_future() for _ in range(3)]

    async def send(message: Message) -> None:
        for future in futures:
            await future

    rest = offer(send, MESSAGE)
    assert rest is not None
    task = asyncio.ensure_future(wait(rest))
    for future in futures:
        assert not task.done()
        future.set_result(None)
        await asyncio.sleep(0)
    await task


async def wait(rest: Any) -> None:
    await rest
