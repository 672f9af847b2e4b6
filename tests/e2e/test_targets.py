"""Three targets, one dead, one that fails half of the time: callers do not notice.

The same clients ask, beside the model with the three, one that has the healthy target alone: what
falling back adds is the difference of the two in the same run.
"""

import asyncio
from collections import Counter
from datetime import datetime
from statistics import quantiles
from time import perf_counter, time
from typing import Any

import msgspec
import pytest

from .conftest import Figures, Start
from .faults import refusing
from .ledger import rows_when, used
from .program import Gateway, Program, until
from .wire import CHAT, Line, Reply, chat, line, request, text_of

pytestmark = pytest.mark.timeout(900)

CLIENTS = 200
SMALL, WHOLE_SIZE = 600, 10_000
"""Requests for the model with three targets; half as many more are for the healthy one alone."""
PROMPT = "Tell me of the mill, its wheel and its gate."
MOST_FAILURES = 10
"""Within which a breaker has to open."""
ADDED = 0.050
"""Seconds that the 99th percentile may grow by, once the breakers are open."""


def document(simulator: str, dead: str, balance: str) -> dict[str, Any]:
    def upstream(name: str, url: str, words: str = "") -> dict[str, Any]:
        headers = {"x-sim": f"tokens=12 first=0.1 rate=24 {words}"}
        return {"name": name, "dialect": "openai", "base_url": f"{url}/v1", "headers": headers}

    price = {"input": "1.009", "output": "8.011"}
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "log": {"requests": False},
        "upstreams": [
            upstream("dead", dead),
            upstream("bad", simulator, "fault=status:500 share=50"),
            upstream("well", simulator),
        ],
        "models": [
            {
                "id": "three",
                "targets": ["dead/up-dead", "bad/up-bad", "well/up-well"],
                "load_balancing": balance,
                "price": price,
            },
            {"id": "one", "targets": ["well/up-one"], "price": price},
        ],
    }


_TOKENS = ("input", "output")


class Asked(msgspec.Struct, frozen=True):
    """One request and what came of it. at: Unix seconds; seconds: until its head was there."""

    model: str
    stream: bool
    at: float
    seconds: float
    reply: Reply


class Crowd:
    """Clients that ask without end until enough was asked, each on a connection of its own."""

    def __init__(self, gateway: Gateway, key: str, count: int) -> None:
        self.gateway = gateway
        self.headers = {"authorization": f"Bearer {key}"}
        self.asked: list[Asked] = []
        self._numbers = iter(range(count * 3 // 2))

    async def run(self, clients: int) -> list[Asked]:
        await asyncio.gather(*(self._client() for _ in range(clients)))
        return self.asked

    async def _client(self) -> None:
        async with line(self.gateway.url) as connection:
            for number in self._numbers:
                self.asked.append(await self._ask(connection, number))

    async def _ask(self, connection: Line, number: int) -> Asked:
        model, stream = "one" if number % 3 == 2 else "three", number % 4 < 2
        body = chat(f"{number}: {PROMPT}", model, stream=stream)
        at, started = time(), perf_counter()
        await connection.send(request(CHAT, body, self.headers))
        reply = await connection.head()
        seconds = perf_counter() - started
        async for part in connection.parts(reply):
            reply.body += part
        return Asked(model, stream, at, seconds, reply)


def said(asked: Asked) -> str:
    if asked.stream:
        return text_of(asked.reply.body)
    text: str = asked.reply.json()["choices"][0]["message"]["content"]
    return text


def attempts(gateway: Gateway) -> Counter[tuple[str, str]]:
    """Tries by upstream and status."""
    found: Counter[tuple[str, str]] = Counter()
    for (name, labels), value in gateway.metrics().items():
        if name == "penstock_upstream_attempts_total":
            by = dict(labels)
            found[by["upstream"], by["status"]] = int(value)
    return found


def openings(gateway: Gateway) -> dict[str, tuple[float, int]]:
    """By target: when its breaker opened first, Unix seconds, and after how many failures."""
    first: dict[str, tuple[float, int]] = {}
    for event in gateway.log:
        newly = event["event"] == "circuit breaker" and event["target"] not in first
        if newly and event["state"] == "open":
            failures = int(event["reason"].split(" of ")[0])
            at = msgspec.json.decode(f'"{event["time"]}"', type=datetime).timestamp()
            first[event["target"]] = at, failures
    return first


def p99(asked: list[Asked], model: str, *, stream: bool) -> float:
    times = [one.seconds for one in asked if one.model == model and one.stream == stream]
    return quantiles(times, n=100)[98]


@pytest.mark.parametrize("balance", ["weight", pytest.param("order", marks=pytest.mark.full)])
async def test_two_of_three_failing_targets_go_unnoticed(
    start: Start, simulator: Program, full: bool, figures: Figures, balance: str
) -> None:
    count = WHOLE_SIZE if full else SMALL
    with refusing() as dead:
        gateway = await asyncio.to_thread(start, document(simulator.url, dead, balance))
        key = await asyncio.to_thread(gateway.new_key, "k")
        before = used(simulator)
        asked = await Crowd(gateway, key, count).run(CLIENTS)
        tried = await asyncio.to_thread(attempts, gateway)
    assert Counter(one.model for one in asked) == {"three": count, "one": count // 2}

    # Clients notice nothing: each has a whole answer, once, and none is lost or made twice.
    assert {one.reply.status for one in asked} == {200}
    assert all(one.reply.whole for one in asked)
    text = said(asked[0]).partition(":")[0]
    assert text == "You said"
    assert {said(one).count("You said: ") for one in asked} == {1}
    ends = [one.reply.body.endswith(b"data: [DONE]\n\n") for one in asked if one.stream]
    assert all(ends)
    after = used(simulator)

    def answers(model: str) -> int:
        return after[model]["answers"] - before.get(model, {"answers": 0})["answers"]

    assert answers("up-bad") + answers("up-well") == count
    assert answers("up-one") == count // 2
    assert tried["bad", "200"] == answers("up-bad")
    assert tried["well", "200"] == answers("up-well") + answers("up-one")
    shown = {
        kind: after["up-bad"][kind] - before.get("up-bad", {}).get(kind, 0) for kind in _TOKENS
    }
    for model in ("up-well", "up-one"):
        for kind in _TOKENS:
            shown[kind] += after[model][kind] - before.get(model, {}).get(kind, 0)
    paid = await rows_when(gateway, len(asked))
    assert {kind: sum(getattr(row, kind) for row in paid) for kind in _TOKENS} == shown

    # Both were tried, failed, and were soon left alone.
    assert set(tried) == {
        *(("dead", "0"), ("bad", "200"), ("bad", "500")),
        ("well", "200"),
    }
    await asyncio.to_thread(
        until, lambda: len(openings(gateway)) >= 2, what="the lines of both breakers"
    )
    opened = openings(gateway)
    assert set(opened) == {"dead/up-dead", "bad/up-bad"}
    assert opened["dead/up-dead"][1] <= MOST_FAILURES
    metrics = await asyncio.to_thread(gateway.metrics)
    broken = ("target", "up-dead"), ("upstream", "dead")
    assert metrics["penstock_target_broken", broken] == 1

    if not full:
        return
    assert opened["bad/up-bad"][1] <= MOST_FAILURES  # by chance more, if few of the first fail
    once_open = max(at for at, _ in opened.values())
    later = [one for one in asked if one.at > once_open]
    added = {}
    for kind, stream in (("streams", True), ("plain", False)):
        alone, fallen = (p99(later, model, stream=stream) for model in ("one", "three"))
        added[kind] = fallen - alone
        figures(
            f"{kind}: p99 to the head {alone * 1000:.1f} ms alone, {fallen * 1000:.1f} ms of three"
        )
    counts = ", ".join(f"{name} {status}: {n}" for (name, status), n in sorted(tried.items()))
    failures = {target: failures for target, (_, failures) in opened.items()}
    figures(f"{len(asked)} requests, 0 failures; tries {counts}; opened after {failures}")
    assert max(added.values()) < ADDED
