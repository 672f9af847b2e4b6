"""Single flight: callers that ask for the same thing at once share one call."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from math import inf
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FlightRefused(Exception):
    """The call was not made or not finished: too many others are under way, or it was closed."""


class SingleFlight(Generic[K, V]):
    """Calls under way, at most one for each key. Each is a task of its own.

    A caller that is cancelled leaves the call to the others.

    most: calls of different keys at once.
    """

    __slots__ = ("_flights", "_most")

    def __init__(self, most: float = inf) -> None:
        self._most = most
        self._flights: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    async def do(self, key: K, call: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return the result of the call for `key`, started with `call` if none is under way.

        Raises what the call raises, and FlightRefused.
        """
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= self._most:
                raise FlightRefused(f"{len(self._flights)} others are under way")
            flight = self._flights[key] = asyncio.create_task(call())
            flight.add_done_callback(lambda done: self._landed(key, done))
        await asyncio.wait((flight,))  # `wait` does not cancel it with this caller
        if flight.cancelled():
            raise FlightRefused("closing")
        error = flight.exception()
        if error is not None:
            raise error.with_traceback(None)  # each caller would add to one traceback
        return flight.result()

    async def aclose(self) -> None:
        """Cancel the calls under way, and wait for their end. Idempotent."""
        flights = [*self._flights.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, key: K, flight: asyncio.Task[V]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # mark it as retrieved: all callers may have been cancelled
