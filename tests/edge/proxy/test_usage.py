"""What is charged by usage that is no measurement: the same in every pair, streamed or not."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.dialects.token_counts import output_tokens
from middlewares.exchange import Usage
from middlewares.stores.ledger.memory import MemoryLedgerStore
from tests.asgi import Call, Recorded, http_scope, request
from tests.edge.dialogue import (
    DOCUMENT,
    NATIVE,
    PAIRS,
    PATHS,
    PLAIN,
    SAY,
    Chat,
    Messages,
    Responses,
    ask,
)
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway

PRICE = {"input": "1.00", "output": "2.00", "cache_read": "0.10", "cache_write": "1.25"}
TEXT = "Hello wörld, " * 40
SAID = output_tokens(len(TEXT.encode()))
CONTEXT = 10_000

pairs = pytest.mark.parametrize(("caller", "upstream"), PAIRS)
forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])

Reported = tuple[int, int] | None
UNREPORTED: list[tuple[Reported, bool, bool]] = [
    (None, False, False),
    ((0, 0), False, False),
    ((0, 20), False, True),
    ((30, 0), True, False),
    ((-1, -5), False, False),
    ((2**64 - 1, 20), False, True),
    ((30, 2**64 - 1), True, False),
    ((CONTEXT + 1, CONTEXT + 1), False, False),
]
"""What the upstream says, and which halves of it are believed."""


@pytest.fixture
async def gateways() -> AsyncIterator[list[ScriptedGateway]]:
    made_: list[ScriptedGateway] = []
    yield made_
    for gateway in made_:
        await gateway.ledger_writer.aclose()


async def open_gateway(
    gateways: list[ScriptedGateway], *answers: Answer, family: str | None = None, **price: Any
) -> ScriptedGateway:
    more = {"context": CONTEXT, "price": {**PRICE, **price}}
    if family is not None:
        more["family"] = family
    models = [{**model, **more} for model in DOCUMENT["models"]]
    models.append({"id": "vectors", "targets": ["oai/v1"], "context": 10, "price": PRICE})
    gateway = ScriptedGateway(
        Scripted(*answers), document={**DOCUMENT, "models": models}, ledger=MemoryLedgerStore()
    )
    await gateway.ledger_writer.start()
    gateways.append(gateway)
    return gateway


async def row_of(gateway: ScriptedGateway) -> Any:
    await gateway.ledger_writer.flush()
    return (await gateway.ledger.page())[0]


def answer_of(upstream: str, received: Reported, *, stream: bool) -> Answer:
    say = SAY[upstream]()
    if not stream:
        return Answer([say.whole(TEXT, received)], headers=PLAIN)
    data = say.start() + say.text(TEXT) + say.stop(received)
    if upstream == "anthropic":  # its input stands at the beginning
        started = b'"usage": {"input_tokens": 30, "output_tokens": 1}'
        assert started in data
        new = (
            b""
            if received is None
            else b'"usage": {"input_tokens": %d, "output_tokens": 1}' % received[0]
        )
        data = data.replace(started, new or b'"usage": {}')
    return Answer([data])


def reported_to_caller(answer: Recorded, *, stream: bool) -> tuple[int, int]:
    """Tokens in and out by the last usage in an answer."""
    if stream:
        events = [
            json.loads(line[6:])
            for line in answer.body.decode().splitlines()
            if line.startswith("data: {")
        ]
        found = [
            event.get("usage") or (event.get("response") or {}).get("usage") for event in events
        ]
        usage = [one for one in found if one][-1]
    else:
        usage = answer.json()["usage"]
    given = usage["prompt_tokens"] if "prompt_tokens" in usage else usage["input_tokens"]
    return given, usage.get("completion_tokens", usage.get("output_tokens"))


@pairs
@forms
@pytest.mark.parametrize(("received", "given", "made_"), UNREPORTED)
async def test_usage_is_believed_by_halves(
    gateways: list[ScriptedGateway],
    caller: str,
    upstream: str,
    stream: bool,
    received: Reported,
    given: bool,
    made_: bool,
) -> None:
    gateway = await open_gateway(gateways, answer_of(upstream, received, stream=stream))
    members: dict[str, Any] = {"stream": stream}
    if stream and caller == "chat.completions":
        members["stream_options"] = {"include_usage": True}
    answer = await request(
        gateway.app, "POST", PATHS[caller], json=ask(caller, upstream, **members)
    )
    assert answer.status == 200
    row = await row_of(gateway)
    assert row.measured is False
    assert row.output == (20 if made_ else SAID)
    if given:
        assert row.input == 30
    else:
        assert 1 <= row.input <= 200
    assert row.cost == row.input * 1000 + row.output * 2000
    if NATIVE[caller] != upstream:
        assert reported_to_caller(answer, stream=stream) == (row.input, row.output)


@pairs
@forms
async def test_usage_of_an_empty_answer_is_believed(
    gateways: list[ScriptedGateway], caller: str, upstream: str, stream: bool
) -> None:
    say = SAY[upstream]()
    whole = say.whole("", (30, 0))
    data = say.start() + say.stop((30, 0)) if stream else whole
    gateway = await open_gateway(gateways, Answer([data], headers=() if stream else PLAIN))
    await request(gateway.app, "POST", PATHS[caller], json=ask(caller, upstream, stream=stream))
    row = await row_of(gateway)
    if row.ended == "completed":
        assert (row.input, row.output, row.measured) == (30, 0, True)


@pytest.mark.parametrize(
    ("usage", "expected", "measured"),
    [
        ({"prompt_tokens": 7, "total_tokens": 7}, 7, True),
        ({"prompt_tokens": 700, "total_tokens": 700}, 700, True),  # a batch beyond the context
        ({"total_tokens": 9}, 9, True),  # all there is of an embedding is its input
        ({"prompt_tokens": 0, "total_tokens": 0}, None, False),
        ({}, None, False),
        (None, None, False),
        ("none", None, False),
    ],
)
async def test_usage_of_embeddings_is_the_input(
    gateways: list[ScriptedGateway], usage: Any, expected: int | None, measured: bool
) -> None:
    vectors = {"object": "list", "data": [{"embedding": [0.5], "index": 0}], "model": "v1"}
    data = json.dumps({**vectors, "usage": usage}).encode()
    gateway = await open_gateway(gateways, Answer([data], headers=[JSON]))
    body = {"model": "vectors", "input": "Hello there"}
    answer = await request(gateway.app, "POST", "/v1/embeddings", json=body)
    assert answer.status == 200
    row = await row_of(gateway)
    assert (row.input, row.output) == (expected or gateway.exchanges[0].estimate, 0)
    assert row.input > 0
    assert row.measured is measured


async def test_usage_of_embeddings_has_no_output_and_no_more_input_than_bytes(
    gateways: list[ScriptedGateway],
) -> None:
    """Nothing is set aside for what no such answer has."""
    vectors = {"object": "list", "data": [{"embedding": [0.5], "index": 0}], "model": "v1"}
    usage = {"prompt_tokens": 500, "completion_tokens": 9000, "total_tokens": 9500}
    true = json.dumps({**vectors, "usage": usage}).encode()
    huge = json.dumps({**vectors, "usage": {**usage, "prompt_tokens": 10**6}}).encode()
    answers = [Answer([data], headers=[JSON]) for data in (true, huge)]
    gateway = await open_gateway(gateways, *answers)
    body = {"model": "vectors", "input": "Hello there"}
    rows = []
    for _ in answers:
        await request(gateway.app, "POST", "/v1/embeddings", json=body)
        rows.append(await row_of(gateway))
    assert [(row.output, row.measured) for row in rows] == [(0, False), (0, False)]
    assert [row.input for row in rows] == [500, gateway.exchanges[1].estimate]


@forms
async def test_usage_of_several_choices_is_estimated_over_all(
    gateways: list[ScriptedGateway], stream: bool
) -> None:
    texts = ["one " * 30, "two " * 30]
    if stream:
        chunks = [
            {
                "object": "chat.completion.chunk",
                "choices": [{"index": n, "delta": {"content": text}}],
            }
            for n, text in enumerate(texts)
        ]
        ends = [
            {
                "object": "chat.completion.chunk",
                "choices": [{"index": n, "delta": {}, "finish_reason": "stop"}],
            }
            for n in range(2)
        ]
        lines = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in (*chunks, *ends)]
        answer = Answer([*lines, b"data: [DONE]\n\n"])
    else:
        choices = [
            {"index": n, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            for n, text in enumerate(texts)
        ]
        whole = {"object": "chat.completion", "choices": choices}
        answer = Answer([json.dumps(whole).encode()], headers=[JSON])
    gateway = await open_gateway(gateways, answer)
    body = ask("chat.completions", "openai", n=2, stream=stream)
    await request(gateway.app, "POST", PATHS["chat.completions"], json=body)
    assert (await row_of(gateway)).output == output_tokens(240)


async def test_usage_beyond_the_context_is_believed_of_several_passes(
    gateways: list[ScriptedGateway],
) -> None:
    counted = {
        "input_tokens": 100,
        "output_tokens": 10,
        "iterations": [
            {"type": "compaction", "input_tokens": CONTEXT, "output_tokens": 3500},
            {"type": "message", "input_tokens": 100, "output_tokens": 10},
        ],
    }
    message = json.loads(SAY["anthropic"]().whole("Hello there."))
    data = json.dumps({**message, "usage": counted}).encode()
    gateway = await open_gateway(gateways, Answer([data], headers=[JSON]))
    await request(gateway.app, "POST", PATHS["messages"], json=ask("messages", "anthropic"))
    row = await row_of(gateway)
    assert (row.input, row.output, row.measured) == (CONTEXT + 100, 3510, True)
    assert gateway.exchanges[0].usage == Usage(input=CONTEXT + 100, output=3510, passes=2)


def message_of(**usage: Any) -> Answer:
    message = json.loads(SAY["anthropic"]().whole("Hello there."))
    data = json.dumps({**message, "usage": usage}).encode()
    return Answer([data], headers=[JSON])


HOUR = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1000}


@pytest.mark.parametrize(("price", "each"), [({}, 2000), ({"cache_write_1h": "3.00"}, 3000)])
async def test_usage_written_for_an_hour_has_its_own_price(
    gateways: list[ScriptedGateway], price: dict[str, Any], each: int
) -> None:
    answer = message_of(
        input_tokens=0, output_tokens=5, cache_creation_input_tokens=1000, cache_creation=HOUR
    )
    gateway = await open_gateway(gateways, answer, **price)
    for caller in PATHS:
        await request(gateway.app, "POST", PATHS[caller], json=ask(caller, "anthropic"))
        row = await row_of(gateway)
        assert (row.input, row.cache_write, row.measured) == (0, 1000, True)
        assert row.cost == 1000 * each + 5 * 2000


async def test_usage_of_hosted_tools_is_charged_by_the_call(
    gateways: list[ScriptedGateway],
) -> None:
    answer = message_of(
        input_tokens=30, output_tokens=5, server_tool_use={"web_search_requests": 2}
    )
    gateway = await open_gateway(gateways, answer, hosted_call="0.01")
    for caller in PATHS:
        await request(gateway.app, "POST", PATHS[caller], json=ask(caller, "anthropic"))
        assert (await row_of(gateway)).cost == 30 * 1000 + 5 * 2000 + 20_000_000


@forms
async def test_usage_of_hosted_items_is_charged_by_the_call(
    gateways: list[ScriptedGateway], stream: bool
) -> None:
    call = b'{"type":"web_search_call","id":"ws_1","status":"completed"}'
    say = SAY["responses"]()
    data = say.start() + say.text("Hi") + say.stop() if stream else say.whole("Hi")
    data = data.replace(b'"output": [{"id": "msg_r1"', b'"output": [' + call + b', {"id": "msg_r1"')
    gateway = await open_gateway(
        gateways, Answer([data], headers=() if stream else PLAIN), hosted_call="0.01"
    )
    for caller in PATHS:
        body = ask(caller, "responses", stream=stream)
        await request(gateway.app, "POST", PATHS[caller], json=body)
        assert (await row_of(gateway)).cost == 30 * 1000 + 20 * 2000 + 10_000_000


SEARCHES: dict[str, dict[str, Any]] = {
    "chat.completions": {"web_search_options": {}},
    "messages": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    "responses": {"tools": [{"type": "web_search"}]},
}


@forms
@pytest.mark.parametrize("caller", SEARCHES)
async def test_usage_of_a_chat_that_may_search_is_charged_one_call(
    gateways: list[ScriptedGateway], caller: str, stream: bool
) -> None:
    answer = answer_of("openai", (30, 20), stream=stream)
    family = "gpt-5-search-api"
    gateway = await open_gateway(gateways, answer, family=family, hosted_call="0.01")
    for members, calls in ((SEARCHES[caller], 1), ({}, 0)):
        body = ask(caller, "openai", stream=stream, **members)
        assert (await request(gateway.app, "POST", PATHS[caller], json=body)).status == 200
        row = await row_of(gateway)
        assert (row.cost, row.measured) == (30 * 1000 + 20 * 2000 + calls * 10_000_000, True)


async def test_usage_of_a_tier_is_multiplied_by_its_factor(gateways: list[ScriptedGateway]) -> None:
    whole = json.loads(SAY["openai"]().whole("Hi"))
    data = json.dumps({**whole, "service_tier": "priority"}).encode()
    gateway = await open_gateway(
        gateways, Answer([data], headers=[JSON]), tiers={"priority": "2.0", "flex": "0.5"}
    )
    path = PATHS["chat.completions"]
    usual = 30 * 1000 + 20 * 2000
    for asked, cost in ((None, usual), ("priority", 2 * usual), ("auto", usual)):
        body = ask("chat.completions", "openai", **({"service_tier": asked} if asked else {}))
        answer = await request(gateway.app, "POST", path, json=body)
        assert answer.status == 200
        assert (await row_of(gateway)).cost == cost


async def test_usage_of_a_tier_that_was_not_passed_on_costs_as_usual(
    gateways: list[ScriptedGateway],
) -> None:
    answer = Answer([SAY["openai"]().whole("Hi")], headers=PLAIN)
    gateway = await open_gateway(gateways, answer, tiers={"fast": "6.0"})
    body = ask("messages", "openai", speed="fast")
    assert (await request(gateway.app, "POST", PATHS["messages"], json=body)).status == 200
    assert (await row_of(gateway)).cost == 30 * 1000 + 20 * 2000


@pytest.mark.parametrize("caller", PATHS)
async def test_usage_of_a_tier_without_a_price_is_refused(
    gateways: list[ScriptedGateway], caller: str
) -> None:
    gateway = await open_gateway(gateways, Answer([SAY["openai"]().whole("Hi")], headers=PLAIN))
    body = ask(caller, NATIVE[caller], service_tier="priority")
    refused = await request(gateway.app, "POST", PATHS[caller], json=body)
    assert refused.status == 400
    assert "service_tier" in refused.json()["error"]["message"]
    assert not gateway.upstream.requests


THOUGHTS: dict[str, list[bytes]] = {
    "openai": [Chat().chunk({"reasoning_content": TEXT})],
    "anthropic": [
        Messages().start().replace(b'"type": "text", "text": ""', b'"type": "thinking"'),
        b"event: content_block_delta\ndata: "
        + json.dumps(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "thinking_delta", "thinking": TEXT},
            }
        ).encode()
        + b"\n\n",
    ],
    "responses": [
        Responses().event(
            "response.output_item.added",
            output_index=0,
            item={"type": "reasoning", "id": "rs_1", "summary": []},
        ),
        Responses().event(
            "response.reasoning_summary_text.delta",
            output_index=0,
            summary_index=0,
            item_id="rs_1",
            delta=TEXT,
        ),
    ],
}


@pairs
async def test_usage_reasoning_that_is_shown_is_charged_when_the_client_leaves(
    gateways: list[ScriptedGateway], caller: str, upstream: str
) -> None:
    never = asyncio.Event()
    gateway = await open_gateway(gateways, Answer([*THOUGHTS[upstream], never]))
    sent = json.dumps(ask(caller, upstream, stream=True)).encode()
    scope = http_scope("POST", PATHS[caller], headers={"content-length": str(len(sent))})
    async with Call(gateway.app, scope, body=sent) as call:
        assert await call.chunk()
        call.hang_up()
        await call.done()
    row = await row_of(gateway)
    assert (row.ended, row.on_hangup, row.measured) == ("hung_up", "cancel", False)
    assert row.output == SAID


async def test_usage_of_a_model_that_drains_is_counted_by_the_upstream(
    gateways: list[ScriptedGateway],
) -> None:
    go_on = asyncio.Event()
    say = SAY["openai"]()
    models = [{**DOCUMENT["models"][0], "price": PRICE, "on_hangup": "drain"}]
    gateway = ScriptedGateway(
        Scripted(Answer([say.start(), say.text("Hi"), go_on, say.stop((30, 900))])),
        document={**DOCUMENT, "models": models},
        ledger=MemoryLedgerStore(),
    )
    await gateway.ledger_writer.start()
    gateways.append(gateway)
    sent = json.dumps(ask("chat.completions", "openai", stream=True)).encode()
    scope = http_scope(
        "POST", PATHS["chat.completions"], headers={"content-length": str(len(sent))}
    )
    async with Call(gateway.app, scope, body=sent) as call:
        await call.chunk()
        call.hang_up()
        go_on.set()
        await call.done()
    row = await row_of(gateway)
    assert (row.on_hangup, row.measured) == ("drain", True)
    assert (row.input, row.output) == (30, 900)
