"""Upstreams that go on beyond the bound they were sent: what their callers pay, in every pair."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from .answers import answer
from .conftest import SECRETS
from .ledger import Row, rows
from .program import Gateway, until
from .scripted_upstream import HOLD, SSE, Answer, ScriptedUpstream, Wire, frames, scripted_upstream
from .surfaces import MODELS, PAIRS, SURFACES, Wish
from .wire import ask, line, request

BOUND = 50
COUNTED = 777
"""Output tokens that an upstream says it has made, more than it was asked for."""
TEXT = ["word " * 800] * 20
"""80,000 bytes: 20,000 tokens by estimate."""
WIRES: Mapping[str, Wire] = {"openai": "chat", "anthropic": "messages", "responses": "responses"}


def uncounted(value: Any) -> Any:
    """`value` without any usage."""
    if isinstance(value, dict):
        return {name: uncounted(one) for name, one in value.items() if name != "usage"}
    return [uncounted(one) for one in value] if isinstance(value, list) else value


def counted(value: Any) -> Any:
    """`value` whose usage tells `COUNTED` tokens of output."""
    if isinstance(value, dict):
        names = ("output_tokens", "completion_tokens")
        return {
            name: COUNTED if name in names and one else counted(one)
            for name, one in value.items()
            if name != "total_tokens"
        }
    return [counted(one) for one in value] if isinstance(value, list) else value


def script(wire: Wire, how: str) -> list[Answer]:
    """endless: text, and then silence. silent: it ends and counts nothing. counts: it counts."""
    made = answer(wire, *TEXT)
    change: Callable[[Any], Any] = counted if how == "counts" else uncounted
    events = change(made.events)
    pieces = frames(*events, event=wire != "chat", done=wire == "chat")
    if how == "endless":
        ends = 2 if wire == "chat" else 3
        pieces = [*pieces[:-ends], HOLD]
    return [
        Answer(wire=wire, streamed=True, headers=SSE, pieces=pieces),
        Answer(wire=wire, streamed=False, pieces=[json.dumps(change(made.body)).encode()]),
    ]


HOWS = ("endless", "silent", "counts")


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    scripts = {
        f"{how}-{name}": script(WIRES[dialect], how)
        for how in HOWS
        for dialect, name in MODELS.items()
    }
    with scripted_upstream(scripts) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream
) -> Iterator[Gateway]:
    plan = {"windows": [{"length": "5h", "credits": "100.00"}]}
    document = {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "server": {"disconnect_drain": "2s"},
        "upstreams": [
            {"name": f"far-{dialect}", "dialect": dialect, "base_url": upstream.url}
            for dialect in MODELS
        ],
        "models": [
            {
                "id": f"{how}-{name}",
                "targets": [f"far-{dialect}/{how}-{name}"],
                "price": {"input": "1.00", "output": "1000.00"},
            }
            for how in HOWS
            for dialect, name in MODELS.items()
        ],
        "plans": [{"id": way, "on_hangup": way, **plan} for way in ("cancel", "drain")],
    }
    program = Gateway(tmp_path_factory.mktemp("over"), document, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


async def left(gateway: Gateway, surface: str, model: str, key: str, *, stream: bool) -> str:
    """Ask, read the beginning if it is a stream, and leave. The id of the request."""
    by = SURFACES[surface]
    body = by.body(f"{surface} {model}", model, stream, Wish(limit=BOUND))
    headers = {**by.headers, "authorization": f"Bearer {key}"}
    async with line(gateway.url) as connection:
        await connection.send(request(by.path, body, headers))
        reply = await connection.head()
        assert reply.status == 200
        async for part in connection.parts(reply):
            if b"word" in part:
                break
    return reply.header("x-request-id")


async def ended(gateway: Gateway, ids: list[str]) -> dict[str, Row]:
    """Their rows, once all are there."""
    while True:
        found = {row.id: row for row in await rows(gateway.sql)}
        if all(name in found and found[name].ended != "lost" for name in ids):
            return {name: found[name] for name in ids}
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("way", ["cancel", "drain"])
async def test_disconnect_before_the_end_pays_no_more_than_was_asked_for(
    gateway: Gateway, way: str
) -> None:
    """A slow client that leaves an over-producing upstream, in every pair."""
    key = await asyncio.to_thread(gateway.new_key, f"leaves-{way}", plan=way)
    ids = [
        await left(gateway, surface, f"endless-{MODELS[upstream]}", key, stream=True)
        for surface, upstream in PAIRS
    ]
    found = await ended(gateway, ids)
    assert {row.output for row in found.values()} == {BOUND}
    assert {row.measured for row in found.values()} == {False}
    assert {row.ended for row in found.values()} == {"hung_up"}
    assert max(row.cost - row.reserved for row in found.values()) <= 0
    await asyncio.to_thread(until, lambda: gateway.in_flight() == 0, what="nothing left")


@pytest.mark.parametrize("stream", [True, False])
async def test_uncounted_whole_answer_costs_no_more_than_was_asked_for(
    gateway: Gateway, stream: bool
) -> None:
    """One that its upstream counted is believed, however much that is."""
    key = await asyncio.to_thread(gateway.new_key, f"stays-{stream}", plan="cancel")
    expected = {}
    for how, output in (("silent", BOUND), ("counts", COUNTED)):
        for surface, upstream in PAIRS:
            by = SURFACES[surface]
            body = by.body("Hi", f"{how}-{MODELS[upstream]}", stream, Wish(limit=BOUND))
            headers = {**by.headers, "authorization": f"Bearer {key}"}
            reply = await ask(gateway.url, by.path, body, headers)
            assert reply.status == 200, (surface, upstream, reply.body)
            assert reply.whole
            expected[reply.header("x-request-id")] = (output, how == "counts")
    found = await ended(gateway, list(expected))
    assert {name: (row.output, row.measured) for name, row in found.items()} == expected


async def test_drain_believes_what_the_upstream_counts_after_the_disconnect(
    gateway: Gateway,
) -> None:
    key = await asyncio.to_thread(gateway.new_key, "counted", plan="drain")
    ids = [
        await left(gateway, surface, f"counts-{MODELS[upstream]}", key, stream=True)
        for surface, upstream in PAIRS
    ]
    found = await ended(gateway, ids)
    assert {(row.output, row.measured) for row in found.values()} == {(COUNTED, True)}
