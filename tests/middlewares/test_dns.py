"""Host names to addresses: no lookup of literals, one at a time a name, the last answer kept."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from middlewares import dns
from middlewares.dns import Address, Lookup, LookupFailed, literal, shown
from tests.waiting import until

HERE = literal("127.0.0.1") or []
THERE = literal("127.0.0.2") or []


class System:
    """A resolver that answers when it is let, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, list[Address] | OSError] = {}
        self.silent: dict[str, threading.Event] = {}

    def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        if host in self.silent:
            self.silent[host].wait()
        answer = self.answers[host]
        if isinstance(answer, OSError):
            raise answer
        return answer

    @contextmanager
    def silence(self, *hosts: str) -> Iterator[None]:
        made = {host: threading.Event() for host in hosts}
        self.silent.update(made)
        try:
            yield
        finally:
            for host, event in made.items():
                self.silent.pop(host)
                event.set()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def system() -> System:
    return System()


def flights() -> int:
    return sum(thread.name.startswith("lookup ") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 80)),
        ("::1", ("::1", 80, 0, 0)),
        ("fe80::1%lo", ("fe80::1", 80, 0, socket.if_nametoindex("lo"))),
    ],
)
async def test_lookup_of_a_literal_asks_no_server(
    system: System, host: str, address: tuple[object, ...]
) -> None:
    assert [one[4] for one in await Lookup(system)(host, 80)] == [address]
    assert system.asked == []


async def test_lookup_unknown_zone_is_no_name(system: System) -> None:
    with pytest.raises(LookupFailed, match="fe80::1%nowhere9"):
        await Lookup(system)("fe80::1%nowhere9", 80)
    assert system.asked == []


def test_shown_scoped_address_has_its_zone() -> None:
    found = literal("fe80::1%lo")
    assert found is not None
    assert shown(found[0]) == f"fe80::1%{socket.if_nametoindex('lo')}"
    assert shown(HERE[0]) == "127.0.0.1"


async def test_lookup_many_of_one_name_share_one_flight(system: System) -> None:
    lookup = Lookup(system)
    system.answers["a.example"] = HERE
    with system.silence("a.example"):
        waiting = [asyncio.create_task(lookup("a.example", port)) for port in range(1, 51)]
        await until(lambda: system.asked == ["a.example"])
        waiting[0].cancel()  # the others are not its business
    found = await asyncio.gather(*waiting[1:])
    assert [each[0][4][1] for each in found] == list(range(2, 51))
    assert system.asked == ["a.example"]


async def test_lookup_silent_name_holds_up_no_other(system: System) -> None:
    lookup = Lookup(system)
    dead = [f"{n}.dead.example" for n in range(dns.FLIGHTS - 1)]
    system.answers = dict.fromkeys([*dead, "well.example"], HERE)
    with system.silence(*dead):
        waiting = [asyncio.create_task(lookup(name, 1)) for name in dead for _ in range(3)]
        await until(lambda: len(system.asked) == len(dead))
        assert await lookup("well.example", 1)
        system.answers["more.example"] = HERE
        with system.silence("more.example"):
            last = asyncio.create_task(lookup("more.example", 1))
            await until(lambda: "more.example" in system.asked)
            with pytest.raises(LookupFailed, match=r"one\.example: 64 others are under way"):
                await lookup("one.example", 1)
        await last
    await asyncio.gather(*waiting)
    await until(lambda: not flights())


async def test_lookup_answer_is_fresh_then_asked_again(system: System) -> None:
    clock = Clock()
    lookup = Lookup(system, clock=clock)
    system.answers["a.example"] = HERE
    for later in (0.0, dns.FRESH - 1):
        clock.now = 100.0 + later
        assert (await lookup("a.example", 7))[0][4] == ("127.0.0.1", 7)
    assert len(system.asked) == 1
    system.answers["a.example"] = THERE
    clock.now += 2
    assert (await lookup("a.example", 7))[0][4] == ("127.0.0.2", 7)


async def test_lookup_silent_server_leaves_the_last_answer(system: System) -> None:
    clock = Clock()
    lookup = Lookup(system, clock=clock, patience=0.01)
    system.answers["a.example"] = HERE
    await lookup("a.example", 7)
    clock.now += dns.FRESH
    with system.silence("a.example"):
        for _ in range(3):
            assert (await lookup("a.example", 7))[0][4] == ("127.0.0.1", 7)
        assert len(system.asked) == 2
        clock.now += dns.KEPT + 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await lookup("a.example", 7)
    await until(lambda: not flights())


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "try again"), True),
        (socket.gaierror(socket.EAI_FAIL, "failed"), True),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), False),
    ],
)
async def test_lookup_failure_leaves_the_last_answer_unless_it_is_one(
    system: System, error: OSError, kept: bool
) -> None:
    clock = Clock()
    lookup = Lookup(system, clock=clock)
    system.answers["a.example"] = HERE
    await lookup("a.example", 7)
    clock.now += dns.FRESH
    system.answers["a.example"] = error
    for _ in range(2):
        if kept:
            assert (await lookup("a.example", 7))[0][4] == ("127.0.0.1", 7)
        else:
            with pytest.raises(LookupFailed, match=r"name lookup of a\.example: no such name"):
                await lookup("a.example", 7)


async def test_lookup_what_is_no_name_fails(system: System) -> None:
    with pytest.raises(LookupFailed, match="label"):
        await Lookup()("a" * 70 + ".example", 7)
    system.answers["empty.example"] = []
    with pytest.raises(LookupFailed, match=r"empty\.example: no address"):
        await Lookup(system)("empty.example", 7)


async def test_lookup_keeps_a_bounded_number_of_answers(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "HOSTS", 3)
    lookup = Lookup(system)
    for n in range(5):
        system.answers[f"{n}.example"] = HERE
        await lookup(f"{n}.example", 7)
    assert list(lookup._answers) == ["2.example", "3.example", "4.example"]


def test_lookup_works_on_one_event_loop_after_another(system: System) -> None:
    lookup = Lookup(system)
    system.answers["a.example"] = HERE
    with system.silence("a.example"):
        for _ in range(2):
            with pytest.raises(TimeoutError):
                asyncio.run(asyncio.wait_for(lookup("a.example", 7), 0.05))
    assert asyncio.run(lookup("a.example", 7))
