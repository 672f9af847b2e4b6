"""Replaying and discarding a body. Reading one is tested with the intake."""

import asyncio

from middlewares._asgi import Message
from middlewares._body import discard, replay


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


async def test_discard_waits_no_longer_than_told() -> None:
    sender = Sender(part(b"a", more=True))
    await discard(sender, seconds=0.01)
    assert sender.asked == 2
