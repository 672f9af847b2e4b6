"""Upstreams that lie in every figure: no request is free, none costs more than a model can work."""

import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from middlewares.stores.ledger.memory import MemoryLedgerStore
from tests.asgi import request
from tests.edge.dialogue import DOCUMENT, PAIRS, PATHS, PLAIN, SAY, ask
from tests.edge.scripted import Answer, Scripted, ScriptedGateway

CONTEXT = 10_000
OUTPUT, HOUR = 2000, 2000
"""Nano-credits for a token; none of the input is dearer than what is cached for an hour."""
PRICE = {
    "input": "1.00",
    "output": "2.00",
    "cache_read": "0.10",
    "cache_write": "1.25",
    "hosted_call": "0.01",
    "tiers": {"priority": "2.0", "flex": "0.5"},
}
TEXT = "Hello there, and more of it."
LIES: tuple[Any, ...] = (
    *(None, 0, 1, -1, 7, 12.0, 0.5, -0.0, 1e308, CONTEXT, CONTEXT + 1, 2**53, 2**63, 2**64 - 1),
    *(10**30, "", "7", "many", True, [], {}, [1], {"a": 1}),
)
MEMBERS: dict[str, tuple[str, ...]] = {
    "openai": ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens"),
    "anthropic": (
        *("input_tokens", "output_tokens", "cache_read_input_tokens"),
        *("cache_creation_input_tokens", "service_tier", "speed", "inference_geo"),
    ),
    "responses": ("input_tokens", "output_tokens", "total_tokens"),
}
NESTED: dict[str, tuple[tuple[str, str], ...]] = {
    "openai": (
        ("prompt_tokens_details", "cached_tokens"),
        ("prompt_tokens_details", "cache_write_tokens"),
        ("completion_tokens_details", "reasoning_tokens"),
    ),
    "anthropic": (
        ("cache_creation", "ephemeral_1h_input_tokens"),
        ("cache_creation", "ephemeral_5m_input_tokens"),
        ("output_tokens_details", "thinking_tokens"),
    ),
    "responses": (
        ("input_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cache_write_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
    ),
}


def lying(upstream: str, random: Random) -> Any:
    """A `usage` in which anything may stand, mostly an object with the right names."""
    if random.random() < 0.1:
        return random.choice(LIES)
    usage: dict[str, Any] = {}
    for name in MEMBERS[upstream]:
        if random.random() < 0.8:
            usage[name] = random.choice(LIES)
    for outer, inner in NESTED[upstream]:
        if random.random() < 0.5:
            details = usage.setdefault(outer, {})
            if isinstance(details, dict):
                details[inner] = random.choice(LIES)
    if upstream == "anthropic" and random.random() < 0.3:
        usage["iterations"] = [
            {"type": random.choice(("message", "compaction", 5)), "input_tokens": choice}
            for choice in random.sample(LIES, 3)
        ]
    return usage


def lied(data: bytes, upstream: str, random: Random) -> bytes:
    """`data`, an answer or a stream, with a lie in place of each usage."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: lying(upstream, random) if name == "usage" else changed(one)
                for name, one in value.items()
            }
        return value

    lines = []
    for line in data.decode().split("\n"):
        head, brace, rest = line.partition("{")
        if brace and (not head or head == "data: "):
            line = head + json.dumps(changed(json.loads(brace + rest)))
        lines.append(line)
    return "\n".join(lines).encode()


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    models = [{**model, "context": CONTEXT, "price": PRICE} for model in DOCUMENT["models"]]
    made = ScriptedGateway(
        Scripted(), document={**DOCUMENT, "models": models}, ledger=MemoryLedgerStore()
    )
    await made.ledger_writer.start()
    yield made
    await made.ledger_writer.aclose()


@pytest.mark.parametrize(("caller", "upstream"), PAIRS)
@pytest.mark.parametrize("seed", range(15))
async def test_usage_of_a_liar_is_neither_free_nor_beyond_what_a_model_can_work(
    gateway: ScriptedGateway, caller: str, upstream: str, seed: int
) -> None:
    random = Random(f"{caller} {upstream} {seed}")
    stream = random.random() < 0.5
    say = SAY[upstream]()
    data = say.start() + say.text(TEXT) + say.stop() if stream else say.whole(TEXT)
    lie = lied(data, upstream, random)
    gateway.upstream.answers[:] = [Answer([lie], headers=Answer().headers if stream else PLAIN)]
    answer = await request(
        gateway.app, "POST", PATHS[caller], json=ask(caller, upstream, stream=stream)
    )
    assert answer.status == 200
    assert TEXT.encode() in answer.body
    await gateway.ledger_writer.flush()
    (row,) = await gateway.ledger.page()
    assert (row.ended, row.model) == ("completed", row.asked)
    assert row.input + row.cache_read + row.cache_write > 0
    assert row.output > 0
    assert row.cost > 0
    passes = 3 if upstream == "anthropic" else 1
    assert row.input + row.cache_read + row.cache_write <= passes * CONTEXT
    assert row.output <= passes * CONTEXT + len(TEXT)
    assert row.reasoning <= row.output
    assert row.cost <= passes * CONTEXT * (HOUR + OUTPUT) + len(TEXT) * OUTPUT
