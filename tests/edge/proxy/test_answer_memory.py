"""Large unstreamed answers: one at a time, within a bound, and cut when clients do not read."""

import asyncio
from contextlib import closing

import pytest

from edge.proxy.answer_memory import FREE, STALLED, AnswerMemory, HeldAnswer
from edge.upstreams.bodies import BodyTooLarge, read_all
from middlewares.asgi import Message

pytestmark = pytest.mark.simulated_time

MiB = 1 << 20


class Pieces:
    """A response of MiB-long pieces. read: how many were."""

    status = 200

    def __init__(self, count: int) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.left = count
        self.read_ = 0

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if not self.left:
            return b""
        self.left -= 1
        self.read_ += 1
        return b"x" * MiB

    def close(self) -> None: ...


class Client:
    """Takes what is sent once it `reads`."""

    def __init__(self, *, reads: bool) -> None:
        self.reads = asyncio.Event()
        if reads:
            self.reads.set()
        self.taken = 0
        self.ended = False

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        self.taken += len(message["body"])
        self.ended = not message.get("more_body", False)


async def answered(memory: AnswerMemory, size: int, client: Client) -> bool:
    with closing(HeldAnswer(memory)) as held:
        return await held.send(client.send, await read_all(Pieces(size), 64 * MiB, held.grow))


async def test_a_small_answer_counts_nowhere() -> None:
    memory = AnswerMemory(MiB)
    with closing(HeldAnswer(memory)) as held:
        assert len(await read_all(Pieces(1), 64 * MiB, held.grow)) == FREE
        assert (memory.held, held.size) == (0, 0)


async def test_a_large_answer_is_sent_whole_and_leaves_the_room() -> None:
    memory, client = AnswerMemory(8 * MiB), Client(reads=True)
    assert await answered(memory, 5, client)
    assert client.taken == 5 * MiB and client.ended and memory.held == 0


async def test_only_one_large_answer_is_read_at_a_time() -> None:
    memory, responses = AnswerMemory(64 * MiB), [Pieces(4), Pieces(4)]
    with closing(HeldAnswer(memory)) as first, closing(HeldAnswer(memory)) as second:
        body = await read_all(responses[0], 64 * MiB, first.grow)
        waiting = asyncio.ensure_future(read_all(responses[1], 64 * MiB, second.grow))
        await asyncio.sleep(60)
        assert responses[1].read_ == 2  # the second piece is the first of a large answer
        assert await first.send(Client(reads=True).send, body)
        assert len(await waiting) == 4 * MiB


async def test_a_turn_given_to_one_that_has_left_passes_on() -> None:
    memory = AnswerMemory(64 * MiB)
    with closing(HeldAnswer(memory)) as first:
        await read_all(Pieces(2), 64 * MiB, first.grow)
        left = asyncio.ensure_future(answered(memory, 2, Client(reads=True)))
        next_ = asyncio.ensure_future(answered(memory, 2, Client(reads=True)))
        await asyncio.sleep(1)
    left.cancel()
    assert await next_


async def test_who_takes_nothing_is_cut_only_when_the_room_is_wanted() -> None:
    memory, idle, client = AnswerMemory(8 * MiB), Client(reads=False), Client(reads=True)
    stuck = asyncio.ensure_future(answered(memory, 6, idle))
    await asyncio.sleep(100 * STALLED)
    assert not stuck.done() and memory.held == 6 * MiB
    assert await answered(memory, 2, client)  # which still fits
    assert not stuck.done()
    assert await answered(memory, 4, client)
    assert await stuck is False
    assert not idle.ended and memory.held == 0


async def test_who_reads_is_waited_for() -> None:
    memory, slow = AnswerMemory(8 * MiB), Client(reads=False)
    sending = asyncio.ensure_future(answered(memory, 6, slow))
    await asyncio.sleep(1)
    second = asyncio.ensure_future(answered(memory, 6, Client(reads=True)))
    await asyncio.sleep(STALLED / 2)
    slow.reads.set()
    assert await sending and await second


async def test_a_cancellation_while_it_is_sent_is_no_cut() -> None:
    memory = AnswerMemory(8 * MiB)
    sending = asyncio.ensure_future(answered(memory, 6, Client(reads=False)))
    await asyncio.sleep(1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert memory.held == 0


async def test_an_answer_over_its_bound_is_read_no_further() -> None:
    memory, response = AnswerMemory(8 * MiB), Pieces(100)
    with pytest.raises(BodyTooLarge), closing(HeldAnswer(memory)) as held:
        await read_all(response, 3 * MiB, held.grow)
    assert response.read_ == 4
    assert await answered(memory, 2, Client(reads=True))  # the turn has passed on
