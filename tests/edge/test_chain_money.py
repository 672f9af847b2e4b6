"""Limits and money through the whole chain, over a scripted upstream."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from middlewares.exchange import Usage
from middlewares.pricing import NANO
from middlewares.stores.ledger.memory import MemoryLedgerStore
from tests.asgi import Call, Recorded, http_scope, request

from .scripted import JSON, Answer, Scripted, ScriptedGateway
from .wire import CHAT, COST, DONE, EMBEDDINGS, HI, MESSAGES, PLAIN, ROLE, STOP, body

MESSAGE = (
    b'{"id":"m","type":"message","role":"assistant","model":"up","content":[],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":1000,"output_tokens":200}}'
)
RESPONSE = (
    b'{"id":"resp_1","object":"response","created_at":1,"status":"completed","model":"up",'
    b'"output":[{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":'
    b'[{"type":"output_text","text":"Hi you","annotations":[]}]}],'
    b'"usage":{"input_tokens":1000,"output_tokens":200,"total_tokens":1200}}'
)
RESPONSES = "/v1/responses"
COSTS = 1000 * 3000 + 200 * 15000
"""Nano-credits of an answer: 3 and 15 credits a million tokens."""


Make = Callable[..., Awaitable[ScriptedGateway]]


@pytest.fixture
async def gateway() -> AsyncIterator[Make]:
    """Makes gateways in which every caller has the given plan."""
    made: list[ScriptedGateway] = []

    async def make(
        *answers: Answer, ledger: MemoryLedgerStore | None = None, **plan: Any
    ) -> ScriptedGateway:
        document = {"auth": {"mode": "none", "default_plan": "p"}, "plans": [{"id": "p", **plan}]}
        kept = MemoryLedgerStore() if ledger is None else ledger
        made.append(ScriptedGateway(Scripted(*answers), document=document, ledger=kept))
        await made[-1].ledger_writer.start()
        return made[-1]

    yield make
    for one in made:
        await one.ledger_writer.aclose()


def whole(data: bytes = PLAIN) -> Answer:
    return Answer([data], headers=[JSON])


async def ask(gateway: ScriptedGateway, path: str = CHAT, **members: Any) -> Recorded:
    return await request(gateway.app, "POST", path, body=body("priced", **members))


async def rows(gateway: ScriptedGateway) -> list[Any]:
    await gateway.ledger_writer.flush()
    return await gateway.ledger.page()


async def test_what_an_answer_used_is_in_the_ledger(gateway: Make) -> None:
    one = await gateway(whole())
    answer = await ask(one, max_tokens=300)
    (row,) = await rows(one)
    assert answer.header("x-credits-used") == "0.006"
    assert row.id == answer.header("x-request-id")
    assert (row.cost, row.measured, row.ended, row.status) == (COSTS, True, "completed", 200)
    assert (row.input, row.output, row.plan, row.model) == (1000, 200, "", "priced")
    assert row.attempts[0].upstream == "both"


@pytest.mark.parametrize(
    ("path", "data", "cost"),
    [(CHAT, PLAIN, COSTS), (MESSAGES, MESSAGE, COSTS), ("/v1/embeddings", EMBEDDINGS, 3_000_000)],
)
async def test_every_route_that_costs_is_charged(
    gateway: Make, path: str, data: bytes, cost: int
) -> None:
    """maximhq/bifrost#2873: no way past the budget."""
    one = await gateway(whole(data), windows=[{"length": "5h", "credits": "1"}])
    members = {"input": "Hello"} if path == "/v1/embeddings" else {"max_tokens": 300}
    answer = await ask(one, path, **members)
    assert answer.status == 200
    (row,) = await rows(one)
    assert (row.cost, list(row.starts)) == (cost, ["5h"])


async def test_counting_tokens_costs_nothing(gateway: Make) -> None:
    one = await gateway(
        whole(b'{"input_tokens":7}'), windows=[{"length": "5h", "credits": "0.00001"}]
    )
    assert (await ask(one, f"{MESSAGES}/count_tokens")).status == 200
    assert await rows(one) == []


async def test_counting_tokens_takes_none_of_the_rate_of_tokens(gateway: Make) -> None:
    """Coding clients count each prompt before they send it."""
    one = await gateway(whole(b'{"input_tokens":7}'), whole(b'{"input_tokens":7}'), tokens="1k/min")
    for _ in range(2):
        counted = await ask(one, f"{MESSAGES}/count_tokens", system="Hello " * 400)
        assert counted.status == 200
        assert counted.header("anthropic-ratelimit-tokens-remaining") == "1000"
    assert len(one.upstream.requests) == 2


async def test_what_a_response_continues_is_part_of_its_input(gateway: Make) -> None:
    """A few words of input may stand behind a long conversation."""
    one = await gateway(whole(RESPONSE), windows=[{"length": "5h", "credits": "1"}])
    said = "All work and no play makes Jack a dull boy. " * 200
    first = await ask(one, RESPONSES, input=said, max_output_tokens=10)
    again = {"previous_response_id": first.json()["id"], "input": "Go on", "max_output_tokens": 10}
    assert (await ask(one, RESPONSES, **again)).status == 200
    before, after = (row.reserved for row in reversed(await rows(one)))
    assert after > 0.9 * before
    received, continued = one.exchanges
    assert continued.size >= received.size
    assert continued.estimate > 0.9 * received.estimate > 3000


async def test_a_cap_does_not_pay_for_what_is_continued(gateway: Make) -> None:
    one = await gateway(whole(RESPONSE), windows=[{"length": "5h", "credits": "0.015"}])
    said = "All work and no play makes Jack a dull boy. " * 100
    first = await ask(one, RESPONSES, input=said, max_output_tokens=10)
    assert first.status == 200
    again = {"previous_response_id": first.json()["id"], "input": said, "max_output_tokens": 10}
    refused = await ask(one, RESPONSES, **again)
    assert (refused.status, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    assert len(one.upstream.requests) == 1


async def test_pictures_teach_nothing_about_text(gateway: Make) -> None:
    """Else one picture makes every prompt of its model six times as dear to set aside."""
    one = await gateway(whole())
    text = b'{"text":"' + b"all work and no play " * 250 + b'"}'
    before = one.estimator.estimate_body("priced", text)
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    content = [{"type": "text", "text": "All work and no play. " * 50}, picture]
    assert (await ask(one, messages=[{"role": "user", "content": content}])).status == 200
    who = (await rows(one))[0].account
    assert one.estimator.estimate_body("priced", text, who) == before
    del content[1]
    assert (await ask(one, messages=[{"role": "user", "content": content}])).status == 200
    assert one.estimator.estimate_body("priced", text, who)[1] > before[1]
    assert one.estimator.estimate_body("priced", text, "another") == before


async def test_a_window_that_is_used_up_refuses_with_its_reset(gateway: Make) -> None:
    one = await gateway(whole(), windows=[{"length": "5h", "credits": "0.0061"}])
    assert (await ask(one, max_tokens=200)).status == 200
    await one.ledger_writer.flush()
    refused = await ask(one, max_tokens=400)
    assert (refused.status, refused.header("x-should-retry")) == (429, "false")
    error = refused.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
    assert (error["window"], error["remaining"]) == ("5h", "0.0001")
    assert "5h" in error["message"] and error["reset_at"][:10] in error["message"]
    assert 17_000 < int(refused.header("retry-after") or 0) <= 18_000
    assert len(one.upstream.requests) == 1
    again = await ask(one, MESSAGES, max_tokens=400)
    assert again.json()["error"]["type"] == "rate_limit_error"
    assert "5h" in again.json()["error"]["message"]
    assert len(await rows(one)) == 1


async def test_credits_refuse_when_they_are_used_up(gateway: Make) -> None:
    refused = await ask(await gateway(whole(), overflow="credits"), max_tokens=10)
    assert (refused.status, refused.json()["error"]["code"]) == (429, "insufficient_credits")


async def test_a_rate_refuses_in_the_callers_words(gateway: Make) -> None:
    one = await gateway(whole(), requests="1/min")
    first, second = await ask(one), await ask(one)
    assert (first.status, second.status) == (200, 429)
    assert first.header("x-ratelimit-limit") == second.header("x-ratelimit-limit") == "1"
    assert first.header("x-ratelimit-remaining-requests") == "0"
    error = second.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "try again in" in error["message"]
    spoken = await ask(one, MESSAGES)
    assert spoken.json()["error"]["type"] == "rate_limit_error"
    assert spoken.header("anthropic-ratelimit-requests-limit") == "1"
    assert len(one.upstream.requests) == 1 == len(await rows(one))


async def test_asking_about_oneself_is_not_counted(gateway: Make) -> None:
    one = await gateway(whole(), requests="1/min", windows=[{"length": "1d", "credits": "2"}])
    answer = await ask(one, max_tokens=300)
    await one.ledger_writer.flush()
    for _ in range(3):
        limits = (await request(one.app, "GET", "/v1/limits")).json()
        usage = (await request(one.app, "GET", "/v1/usage")).json()
    assert limits["windows"][0]["used"] == "0.006"
    assert limits["windows"][0]["remaining"] == "1.994"
    assert usage["total"]["credits"] == "0.006"
    which = answer.header("x-request-id")
    found = (await request(one.app, "GET", f"/v1/requests/{which}")).json()
    assert (found["credits"], found["model"], found["measured"]) == ("0.006", "priced", True)
    assert "both" not in json.dumps(found)


async def test_a_stream_and_its_unstreamed_twin_cost_the_same(gateway: Make) -> None:
    small = PLAIN.replace(b":1000", b":3").replace(b":200", b":2").replace(b":1200", b":5")
    one = await gateway(Answer([ROLE, HI, STOP, COST, DONE]), whole(small))
    await ask(one, stream=True)
    await ask(one)
    plain, streamed = await rows(one)
    assert plain.cost == streamed.cost == 39_000


async def test_who_leaves_is_charged_for_what_was_made(gateway: Make) -> None:
    never = asyncio.Event()
    one = await gateway(Answer([ROLE, HI, never]), windows=[{"length": "5h", "credits": "1"}])
    sent = body("priced", stream=True, max_tokens=500)
    scope = http_scope("POST", CHAT, headers={"content-length": str(len(sent))})
    async with Call(one.app, scope, body=sent) as call:
        await call.chunk()
        call.hang_up()
        await call.done()
    (row,) = await rows(one)
    assert (row.ended, row.measured, row.on_hangup, row.output) == ("hung_up", False, "cancel", 1)
    assert row.input == one.exchanges[0].estimate
    assert row.cost == row.input * 3000 + 15_000 < row.reserved


async def test_who_leaves_a_plan_that_drains_is_charged_the_upstreams_count(gateway: Make) -> None:
    go_on = asyncio.Event()
    one = await gateway(
        Answer([ROLE, HI, go_on, STOP, COST, DONE]),
        on_hangup="drain",
        windows=[{"length": "5h", "credits": "1"}],
    )
    sent = body("priced", stream=True, max_tokens=500)
    scope = http_scope("POST", CHAT, headers={"content-length": str(len(sent))})
    async with Call(one.app, scope, body=sent) as call:
        await call.chunk()
        call.hang_up()
        go_on.set()
        await call.done()
    (row,) = await rows(one)
    assert (row.cost, row.measured, row.input, row.output) == (39_000, True, 3, 2)


async def test_a_failure_before_the_first_byte_costs_nothing_and_leaves_a_row(
    gateway: Make,
) -> None:
    one = await gateway(Answer([b"{}"], status=500, headers=[JSON]))
    assert (await ask(one)).status == 502
    (row,) = await rows(one)
    assert (row.ended, row.cost, row.status) == ("failed", 0, 502)
    assert row.attempts[0].status == 500


async def test_the_same_key_of_idempotency_is_billed_once(gateway: Make) -> None:
    one = await gateway(whole())
    headers = {"idempotency-key": "abc", "content-type": "application/json"}
    first = await request(one.app, "POST", CHAT, headers=headers, body=body("priced"))
    second = await request(one.app, "POST", CHAT, headers=headers, body=body("priced"))
    assert first.body == second.body
    assert second.header("idempotent-replayed") == "true"
    assert second.header("x-credits-used") is None
    assert first.header("x-request-id") != second.header("x-request-id")
    assert len(await rows(one)) == 1 == len(one.upstream.requests)
    other = await request(one.app, "POST", CHAT, headers=headers, body=body("priced", top_p=1))
    assert other.status == 422


async def test_a_budget_of_which_nothing_is_known_is_learnt_from_the_ledger(gateway: Make) -> None:
    one = await gateway(whole(), windows=[{"length": "5h", "credits": "0.0061"}])
    assert (await ask(one, max_tokens=200)).status == 200
    await one.ledger_writer.flush()
    later = await gateway(
        whole(), ledger=one.ledger, windows=[{"length": "5h", "credits": "0.0061"}]
    )
    refused = await ask(later, max_tokens=400)
    assert refused.json()["error"]["remaining"] == "0.0001"


async def test_the_log_and_the_metrics_know_the_money(gateway: Make) -> None:
    one = await gateway(whole())
    await ask(one)
    assert one.log[-1]["credits"] == "0.006"
    assert one.sample("penstock_credits_total", model="priced") == COSTS / NANO
    assert one.exchanges[0].usage == Usage(1000, 200)


async def test_the_management_api_is_not_there_without_a_token(gateway: Make) -> None:
    answer = await request((await gateway(whole())).app, "GET", "/admin/v1/keys")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/v1/nothing", "/wp-admin", "/admin/v1/keys", CHAT])
async def test_the_safety_net_is_under_everything_but_health_checks_of_operators(path: str) -> None:
    one = ScriptedGateway(Scripted(whole()), document={"limits": {"safety_net": "2/min"}})
    statuses = [(await request(one.app, "POST", path, body=b"{}")).status for _ in range(3)]
    assert statuses[0] == statuses[1] != 429 == statuses[2]
    assert (await request(one.app, "GET", "/health")).status == 200
    assert (await request(one.app, "POST", path, client=("192.0.2.9", 1))).status != 429


@pytest.mark.parametrize("path", ["/health", "/api/hello", "/metrics", "/livez"])
async def test_safety_net_counts_open_paths_but_for_the_networks_of_operators(path: str) -> None:
    document = {"limits": {"safety_net": "2/min"}, "server": {"ops_networks": ["10.0.0.0/8"]}}
    one = ScriptedGateway(Scripted(whole()), document=document)

    async def statuses(address: str) -> list[int]:
        asked = [await request(one.app, "GET", path, client=(address, 1)) for _ in range(3)]
        return [answer.status for answer in asked]

    public = await statuses("192.0.2.9")
    assert public[0] == public[1] != 429 == public[2]
    assert 429 not in await statuses("10.1.2.3")
