"""Host name lookups with a cache, so that one silent name server does not stall others.

Theory of operation. `getaddrinfo` blocks a thread, for half a minute and more where no name server
answers, and cannot be cancelled. So:

    a literal address        is never looked up
    one lookup per host      callers for the same name wait for the same thread
    one thread per lookup    not the event loop's or the executor's, at most `FLIGHTS` at a time;
                             daemons, so that the process can exit while one hangs
    the last answer          is used without a lookup for `FRESH` seconds; after that it is used
                             when the lookup takes longer than `_PATIENCE` or fails, for `KEPT`
                             seconds (RFC 8767). "No such name" is an answer too, and removes it

A caller that stops waiting leaves the lookup to the others.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import msgspec

from .bounded_map import BoundedMap

Address = tuple[int, int, int, str, tuple[Any, ...]]
"""Address of a stream socket, in the form of `socket.getaddrinfo`."""

FRESH = 10.0
"""Seconds for which an answer is used without another lookup."""
_PATIENCE = 1.0
"""Seconds a lookup may take before the last answer is used instead."""
KEPT = 86_400.0
"""Seconds for which the last answer is kept while name servers are silent or fail."""
FLIGHTS = 64
"""Lookups under way in one process, at most."""
HOSTS = 4096
"""Names whose last answer is kept, at most."""

_UNKNOWN = frozenset((socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)))
"""Errors that are an answer: the name does not exist, or has no address."""


class LookupFailed(OSError):
    """A host name has no address, or the lookup failed."""


class _Answer(msgspec.Struct, frozen=True):
    addresses: list[Address]
    at: float


class _Flight(msgspec.Struct, frozen=True):
    future: "Future[list[Address]]"
    since: float


def _of_system(host: str) -> list[Address]:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)  # type: ignore[return-value]


class Lookup:
    """Host names to addresses, for one process and any of its event loops.

    system: looks one name up, in a thread. Raises OSError. clock: seconds, monotonic.
    """

    def __init__(
        self,
        system: Callable[[str], list[Address]] = _of_system,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: float = _PATIENCE,
    ) -> None:
        self._system = system
        self._clock = clock
        self._patience = patience
        self._answers: BoundedMap[str, _Answer] = BoundedMap(HOSTS)
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()  # of both; held for a moment only

    async def __call__(self, host: str, port: int) -> list[Address]:
        """Addresses of `host`, in the system's order, at least one.

        Raises LookupFailed with the host. Without an earlier answer it waits as long as the system
        does; callers set a timeout around it.
        """
        if (given := literal(host)) is not None:
            return with_port(given, port)
        now = self._clock()
        known = self._answers.get(host)
        if known is not None and now - known.at < FRESH:
            return with_port(known.addresses, port)
        flight = self._begin(host, now)
        waiting = asyncio.wrap_future(flight.future)
        try:
            if known is None or now - known.at > KEPT:
                return with_port(await waiting, port)
            left = max(0.0, flight.since + self._patience - now)
            done, _ = await asyncio.wait((waiting,), timeout=left)
            if done:
                return with_port(waiting.result(), port)
        except OSError as error:
            unknown = isinstance(error, socket.gaierror) and error.errno in _UNKNOWN
            if known is None or unknown or now - known.at > KEPT:
                raise LookupFailed(f"name lookup of {host}: {_message(error)}") from None
        except UnicodeError as error:
            raise LookupFailed(f"name lookup of {host}: {error}") from None
        finally:
            if not waiting.cancel() and not waiting.cancelled():
                waiting.exception()  # mark it as retrieved
        return with_port(known.addresses, port)

    def _begin(self, host: str, now: float) -> _Flight:
        """The flight for `host`. Raises LookupFailed when too many others are under way."""
        with self._lock:
            flight = self._flights.get(host)
            if flight is not None:
                return flight
            if len(self._flights) >= FLIGHTS:
                raise LookupFailed(f"name lookup of {host}: {FLIGHTS} others are under way")
            flight = _Flight(Future(), now)
            flight.future.set_running_or_notify_cancel()  # no waiting caller can cancel it
            self._flights[host] = flight
        thread = threading.Thread(
            target=self._fly, args=(host, flight.future), name=f"lookup {host}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            self._land(host, flight.future, OSError(str(error)))
        return flight

    def _fly(self, host: str, future: "Future[list[Address]]") -> None:
        found: list[Address] | Exception
        try:
            found = self._system(host) or LookupFailed("no address")
        except Exception as error:
            found = error
        self._land(host, future, found)

    def _land(
        self, host: str, future: "Future[list[Address]]", found: list[Address] | Exception
    ) -> None:
        with self._lock:
            del self._flights[host]
            if not isinstance(found, Exception):
                self._answers.put(host, _Answer(found, self._clock()))
            elif isinstance(found, socket.gaierror) and found.errno in _UNKNOWN:
                self._answers.drop(host)
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found)


def literal(host: str) -> list[Address] | None:
    """The address that `host` is, without a lookup; None where it is a name.

    Raises LookupFailed for an address that cannot be reached from here (an unknown scope).
    """
    try:
        return socket.getaddrinfo(  # type: ignore[return-value]
            host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror as error:
        if ":" in host:  # no name has one
            raise LookupFailed(f"address {host}: {_message(error)}") from None
        return None
    except UnicodeError:
        return None


def with_port(addresses: Iterable[Address], port: int) -> list[Address]:
    """The same addresses with another port."""
    return [(*one[:4], (one[4][0], port, *one[4][2:])) for one in addresses]


def shown(address: Address) -> str:
    """An address as text, with its zone."""
    host: str = address[4][0]
    zone = address[4][3] if len(address[4]) == 4 else 0
    return f"{host}%{zone}" if zone else host


def _message(error: OSError) -> str:
    return error.strerror or str(error)


lookup = Lookup()
"""The shared lookup of this process."""
