"""What a plan has served instead of a refusal, through the whole chain."""

import asyncio
from typing import Any

import pytest

from tests.asgi import Recorded, request

from .scripted import JSON, Answer, Scripted, ScriptedGateway
from .wire import CHAT, EMBEDDINGS, MESSAGES, PLAIN

ASKED = {"model": "dear", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 10}


def model(id_: str, **fields: Any) -> dict[str, Any]:
    return {"id": id_, "targets": [f"both/{id_}"], **fields}


def gateway(*bodies: bytes, free: dict[str, Any] | None = None, **plan: Any) -> ScriptedGateway:
    """Everybody has `plan`. dear: two models that cost something; free: one that does not."""
    price = {"input": "3000", "output": "15000"}
    document = {
        "auth": {"mode": "none", "default_plan": "p"},
        "plans": [{"id": "p", **plan}, {"id": "others"}],
        "models": [
            model("dear", price=price),
            model("dear-too", price=price),
            model("free", **(free or {})),
        ],
    }
    answers = [Answer([body], headers=[JSON]) for body in bodies]
    return ScriptedGateway(Scripted(*answers), document=document)


async def ask(one: ScriptedGateway, path: str = CHAT, **members: Any) -> Recorded:
    await one.ledger_writer.start()
    try:
        return await request(one.app, "POST", path, json={**ASKED, **members})
    finally:
        await one.ledger_writer.aclose()


BROKE: dict[str, Any] = {"windows": [{"length": "1d", "credits": "0.00001"}], "on_budget": "free"}
RATED: dict[str, Any] = {"requests": "1/h", "on_rate_limit": "free"}


async def test_a_callers_own_models_do_not_make_a_free_one_dear() -> None:
    """They are not tried there, so nothing is set aside for them."""
    one = gateway(PLAIN, **BROKE)
    reply = await ask(one, models=["dear", "dear-too"])
    assert reply.status == 200
    assert reply.header("x-model-used") == "free"
    assert len(one.upstream.requests) == 1


async def test_who_joins_a_refusal_is_served_as_well() -> None:
    """With one key for repetition, all get the one answer, and not the refusal before it."""
    one = gateway(PLAIN, **BROKE)
    await one.ledger_writer.start()
    again = {"idempotency-key": "k"}
    try:
        replies = await asyncio.gather(
            *(request(one.app, "POST", CHAT, json=ASKED, headers=again) for _ in range(10))
        )
    finally:
        await one.ledger_writer.aclose()
    assert [reply.status for reply in replies] == [200] * 10
    assert {reply.header("x-fallback-from") for reply in replies} == {"dear"}
    assert sum(reply.header("idempotent-replayed") is None for reply in replies) == 1
    assert len(one.upstream.requests) == 1
    assert sum(line.get("replayed", False) for line in one.log) == 9


async def test_it_is_a_model_that_its_caller_may_use() -> None:
    one = gateway(PLAIN, free={"plans": ["others"]}, **BROKE)
    reply = await ask(one)
    assert (reply.status, reply.json()["error"]["code"]) == (429, "budget_exceeded")
    assert one.upstream.requests == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{MESSAGES}/count_tokens", b'{"input_tokens":7}'),
        ("/v1/embeddings", EMBEDDINGS),
    ],
)
async def test_only_answers_are_served_by_another_model(path: str, body: bytes) -> None:
    """Counting asks no model, so a rate limits none; vectors of two cannot be compared."""
    one = gateway(body, body, **RATED)
    first = await ask(one, path, input="Hello")
    second = await ask(one, path, input="Hello")
    assert [first.status, second.status] == [200, 429]
    assert second.header("x-fallback-from") is None
    assert len(one.upstream.requests) == 1
