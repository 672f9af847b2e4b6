"""Replaying and discarding a body. Reading one is tested with the intake."""

import asyncio

import pytest

from middlewares.asgi import Message
from middlewares.body import discard, read_body, replay
from middlewares.problem import Problem

pytestmark = pytest.mark.simulated_time


class Sender:
    """A `receive` that gives `messages` and then nothing for ever."""

    def __init__(self, *messages: Message) -> None:
        self.left = list(messages)
        self.asked = 0

    async def __call__(self) -> Message:
        self.asked += 1
        if self.left:
            return self.left.pop(0)
        await asyncio.Event().wait()
        raise AssertionError


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_replay_gives_the_body_and_then_goes_on() -> None:
    sender = Sender({"type": "http.disconnect"})
    receive = replay(b"abc", sender)
    assert await receive() == part(b"abc", more=False)
    assert sender.asked == 0
    assert await receive() == {"type": "http.disconnect"}


async def test_a_body_can_be_replayed_more_than_once() -> None:
    for _ in range(3):
        assert (await replay(b"abc", Sender())())["body"] == b"abc"


async def test_discard_reads_to_the_end_and_no_further() -> None:
    sender = Sender(part(b"a", more=True), part(b"b", more=True), part(b"", more=False), {})
    await discard(sender, seconds=5)
    assert sender.left == [{}]


async def test_discard_stops_when_the_client_leaves() -> None:
    sender = Sender(part(b"a", more=True), {"type": "http.disconnect"}, {})
    await discard(sender, seconds=5)
    assert sender.left == [{}]


async def test_discard_stops_after_too_many_pieces() -> None:
    sender = Sender(*([part(b"a", more=True)] * 5000))
    await discard(sender, seconds=5)
    assert sender.asked == 4096


@pytest.mark.parametrize(
    ("pieces", "size"), [(4096, 1), (8192, 512)], ids=["few and tiny", "many of a segment"]
)
async def test_read_body_pieces_just_within_the_bound_are_read(pieces: int, size: int) -> None:
    sender = Sender(*([part(b"a" * size, more=True)] * pieces), part(b"b", more=False))
    body = await read_body({"type": "http", "headers": []}, sender, limit=1 << 30, idle=5)
    assert body == b"a" * size * pieces + b"b"


@pytest.mark.parametrize("size", [0, 1, 255])
async def test_read_body_of_many_tiny_pieces_is_refused(size: int) -> None:
    sender = Sender(*([part(b"a" * size, more=True)] * 100_000))
    with pytest.raises(Problem, match=r"too many small pieces: after the first 4096") as refused:
        await read_body({"type": "http", "headers": []}, sender, limit=1 << 30, idle=5)
    assert refused.value.kind == "invalid_request"
    assert sender.asked < 8300


async def test_discard_waits_no_longer_than_its_limit() -> None:
    sender = Sender(part(b"a", more=True))
    await discard(sender, seconds=0.01)
    assert sender.asked == 2


async def test_who_stops_sending_is_refused_and_the_task_goes_on() -> None:
    scope = {"type": "http", "headers": []}
    with pytest.raises(Problem, match="1 bytes came"):
        await read_body(scope, Sender(part(b"a", more=True)), limit=10, idle=0.01)
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_each_piece_restarts_the_wait() -> None:
    pieces = [part(b"a" * 200, more=True)] * 6 + [part(b"b", more=False)]

    async def slowly() -> Message:
        await asyncio.sleep(0.02)
        return pieces.pop(0)

    body = await read_body({"type": "http", "headers": []}, slowly, limit=2000, idle=0.1)
    assert body == b"a" * 1200 + b"b"


async def test_a_cancellation_from_outside_is_no_late_body() -> None:
    """Also where both come in the same moment."""
    began = asyncio.Event()

    async def cancelled_twice() -> Message:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()  # from outside, while ours is on its way
            raise
        raise AssertionError

    scope = {"type": "http", "headers": []}
    for receive in (cancelled_twice, Sender()):
        reading = asyncio.create_task(read_body(scope, receive, limit=10, idle=0.01))
        if receive is not cancelled_twice:
            await asyncio.sleep(0)
            reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
