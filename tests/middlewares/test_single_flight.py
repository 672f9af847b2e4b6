"""Callers that ask for the same thing at once share one call."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from middlewares.single_flight import FlightRefused, SingleFlight


class Source:
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.go = asyncio.Event()

    async def ask(self) -> int:
        self.calls += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return self.calls


@pytest.fixture
async def flights() -> AsyncIterator[SingleFlight[str, int]]:
    made: SingleFlight[str, int] = SingleFlight(most=2)
    yield made
    await made.aclose()
    assert not len(made)


async def begun(*asked: asyncio.Task[int]) -> None:
    """All of them wait."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(one.done() for one in asked)


async def test_do_same_key_at_once_makes_one_call(flights: SingleFlight[str, int]) -> None:
    source = Source()
    asked = [asyncio.create_task(flights.do("a", source.ask)) for _ in range(3)]
    await begun(*asked)
    source.go.set()
    assert await asyncio.gather(*asked) == [1, 1, 1]
    assert await flights.do("a", source.ask) == 2


async def test_do_caller_cancelled_leaves_the_call_to_the_others(
    flights: SingleFlight[str, int],
) -> None:
    source = Source()
    first, second = (asyncio.create_task(flights.do("a", source.ask)) for _ in range(2))
    await begun(first, second)
    first.cancel()
    source.go.set()
    assert await second == 1
    assert first.cancelled()


async def test_do_call_that_fails_raises_for_each_caller(flights: SingleFlight[str, int]) -> None:
    source = Source()
    source.error = OSError("gone")
    asked = [asyncio.create_task(flights.do("a", source.ask)) for _ in range(2)]
    await begun(*asked)
    source.go.set()
    assert await asyncio.gather(*asked, return_exceptions=True) == [source.error] * 2
    assert not len(flights)


async def test_do_failure_without_callers_is_not_reported_as_forgotten(
    flights: SingleFlight[str, int],
) -> None:
    """Warnings are errors here: a task whose exception was not read would be one."""
    source = Source()
    source.error = OSError("gone")
    asked = asyncio.create_task(flights.do("a", source.ask))
    await begun(asked)
    asked.cancel()
    await asyncio.wait((asked,))
    source.go.set()
    while len(flights):
        await asyncio.sleep(0)


async def test_do_beyond_most_is_refused(flights: SingleFlight[str, int]) -> None:
    source = Source()
    asked = [asyncio.create_task(flights.do(key, source.ask)) for key in "aab"]
    await begun(*asked)
    with pytest.raises(FlightRefused, match="2 others are under way"):
        await flights.do("c", source.ask)
    source.go.set()
    await asyncio.gather(*asked)


async def test_aclose_refuses_those_who_wait(flights: SingleFlight[str, int]) -> None:
    source = Source()
    asked = asyncio.create_task(flights.do("a", source.ask))
    await begun(asked)
    await flights.aclose()
    await flights.aclose()
    with pytest.raises(FlightRefused, match="closing"):
        await asked
