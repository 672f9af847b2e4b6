"""POST /v1/responses/compact, and what comes back of it, over every upstream."""

import json
from typing import Any

import pytest

from edge.dialects.sealing import MARK, Seal, Sealing
from middlewares.stores import MemorySecretStore, StoreUnavailable
from tests.asgi import Recorded, request
from tests.edge.dialogue import DOCUMENT, MODELS, PLAIN, SAY, ask
from tests.edge.scripted import Answer, Scripted, ScriptedGateway

PATH = "/v1/responses"
COMPACT = f"{PATH}/compact"
ANN, BOB = ("192.0.2.1", 1), ("192.0.2.2", 1)
SUMMARY = "Ann wants tea."

everywhere = pytest.mark.parametrize("upstream", MODELS)

BLOB = {"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAAAAnative"}
NATIVE = {
    "id": "resp_c1",
    "object": "response.compaction",
    "created_at": 1,
    "output": [BLOB],
    "usage": {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 10},
        "output_tokens": 20,
        "total_tokens": 50,
        "novel": 1.0,
    },
}
LACKING = Answer([b'{"error":{"message":"no such path"}}'], status=404, headers=PLAIN)


def says(upstream: str, text: str = SUMMARY) -> Answer:
    return Answer([SAY[upstream]().whole(text)], headers=PLAIN)


def gateway_of(*scripts: Answer) -> ScriptedGateway:
    return ScriptedGateway(Scripted(*scripts), document=DOCUMENT)


async def post(
    gateway: ScriptedGateway,
    upstream: str,
    path: str = PATH,
    who: tuple[str, int] = ANN,
    **members: Any,
) -> Recorded:
    body = ask("responses", upstream, **members)
    return await request(gateway.app, "POST", path, json=body, client=who)


def sent(gateway: ScriptedGateway) -> dict[str, Any]:
    body = gateway.upstream.requests[-1].body
    assert isinstance(body, bytes)
    found: dict[str, Any] = json.loads(body)
    return found


async def compacted(upstream: str) -> tuple[ScriptedGateway, dict[str, Any]]:
    """A gateway, and a compaction that it made of a summary."""
    scripts = [LACKING] if upstream == "responses" else []
    gateway = gateway_of(*scripts, says(upstream))
    answer = await post(gateway, upstream, COMPACT)
    assert answer.status == 200, answer.body
    [item] = answer.json()["output"]
    gateway.upstream.answers = [says("openai"), *(gateway.upstream.answers[-1:] * 9)]
    return gateway, item


async def test_where_neither_way_works_both_tries_say_so() -> None:
    gateway = gateway_of(LACKING, LACKING)
    assert (await post(gateway, "responses", COMPACT)).status == 502
    (exchange,) = gateway.exchanges
    assert [one.problem for one in exchange.attempts] == ["upstream_error"] * 2


async def test_an_upstream_that_compacts_by_itself() -> None:
    body = json.dumps(NATIVE).encode()
    gateway = gateway_of(Answer([body], headers=PLAIN))
    answer = await post(gateway, "responses", COMPACT, store=False, novel=[1.0])
    assert answer.body == body
    assert gateway.upstream.requests[0].target == b"/v1/responses/compact"
    assert sent(gateway) == {"model": "r1", "input": "Hi", "novel": [1.0]}
    exchange = gateway.exchanges[0]
    assert exchange.usage is not None
    assert (exchange.usage.input, exchange.usage.cache_read, exchange.usage.output) == (20, 10, 20)


@everywhere
async def test_a_summary_where_it_does_not(upstream: str) -> None:
    scripts = [LACKING] if upstream == "responses" else []
    gateway = gateway_of(*scripts, says(upstream))
    tool = {"type": "function", "name": "w", "parameters": {"type": "object"}}
    given = [{"role": "user", "content": "tea?"}]
    answer = await post(gateway, upstream, COMPACT, input=given, tools=[tool])
    made = answer.json()
    assert (answer.status, made["object"]) == (200, "response.compaction")
    [item] = made["output"]
    assert (item["type"], item["encrypted_content"].startswith(MARK)) == ("compaction", True)
    assert SUMMARY not in answer.text
    assert made["usage"]["input_tokens"] == 30
    assert made["usage"]["total_tokens"] == 50
    actual = json.dumps(sent(gateway))
    assert actual.index("tea?") < actual.index("Write down what is needed")
    assert sent(gateway).get("tool_choice") in ("none", {"type": "none"}, None)
    exchange = gateway.exchanges[0]
    assert exchange.outcome == "completed"
    assert [attempt.status for attempt in exchange.attempts] == [404] * len(scripts) + [200]


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_how_an_upstream_shows_that_it_has_no_endpoint(status: int) -> None:
    lacking = Answer([b"<html>"], status=status, headers=PLAIN)
    gateway = gateway_of(lacking, says("responses"))
    assert (await post(gateway, "responses", COMPACT)).status == 200


@pytest.mark.parametrize(("status", "kind"), [(400, 400), (401, 502), (429, 429), (500, 502)])
async def test_other_refusals_are_what_they_are(status: int, kind: int) -> None:
    gateway = gateway_of(Answer([b"{}"], status=status, headers=PLAIN))
    assert (await post(gateway, "responses", COMPACT)).status == kind
    assert len(gateway.upstream.requests) == 1


@everywhere
@pytest.mark.parametrize("text", ["", "  \n"])
async def test_no_summary_is_a_failure(upstream: str, text: str) -> None:
    scripts = [LACKING] if upstream == "responses" else []
    gateway = gateway_of(*scripts, says(upstream, text))
    assert (await post(gateway, upstream, COMPACT)).status == 502


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'{"object":"response"}',
        b"[]",
        b'{"object":"response.compaction","output":[]}',
        b'{"detail":"secret"}',
    ],
)
async def test_a_200_that_is_no_compaction(body: bytes) -> None:
    gateway = gateway_of(Answer([body], headers=PLAIN))
    assert (await post(gateway, "responses", COMPACT)).status == 502


@everywhere
@pytest.mark.parametrize("maker", MODELS)
async def test_what_was_sealed_here_is_read_everywhere(upstream: str, maker: str) -> None:
    gateway, item = await compacted(maker)
    gateway.upstream.answers = [says(upstream)] * 9
    answer = await post(gateway, upstream, input=[item, {"role": "user", "content": "And now?"}])
    assert answer.status == 200, answer.body
    actual = json.dumps(sent(gateway))
    assert actual.index(SUMMARY) < actual.index("And now?")
    assert item["encrypted_content"] not in actual


@everywhere
async def test_a_compaction_of_a_compaction(upstream: str) -> None:
    gateway, item = await compacted("openai")
    scripts = [LACKING] if upstream == "responses" else []
    gateway.upstream.requests.clear()
    gateway.upstream.answers = [*scripts, says(upstream, "more")]
    answer = await post(gateway, upstream, COMPACT, input=[item])
    assert answer.status == 200
    assert SUMMARY in json.dumps(sent(gateway))


@everywhere
async def test_a_kept_conversation_that_begins_with_one(upstream: str) -> None:
    gateway, item = await compacted("openai")
    gateway.upstream.answers = [says(upstream, "Tea.")] * 9
    given = [item, {"role": "user", "content": "What?"}]
    first = (await post(gateway, upstream, input=given)).json()
    answer = await post(gateway, upstream, input="Sure?", previous_response_id=first["id"])
    assert answer.status == 200, answer.body
    actual = json.dumps(sent(gateway))
    order = [actual.index(word) for word in (SUMMARY, "What?", "Tea.", "Sure?")]
    assert order == sorted(order)
    assert item["encrypted_content"] not in actual


@everywhere
async def test_a_kept_conversation_can_be_compacted(upstream: str) -> None:
    gateway = gateway_of(says(upstream, "Tea it is."))
    first = (await post(gateway, upstream, input="Make tea.")).json()
    scripts = [LACKING] if upstream == "responses" else []
    gateway.upstream.requests.clear()
    gateway.upstream.answers = [*scripts, says(upstream)]
    body = {"model": MODELS[upstream], "previous_response_id": first["id"]}
    answer = await request(gateway.app, "POST", COMPACT, json=body, client=ANN)
    assert answer.status == 200, answer.body
    actual = json.dumps(sent(gateway))
    assert actual.index("Make tea.") < actual.index("Tea it is.")


@everywhere
@pytest.mark.parametrize("path", [PATH, COMPACT, f"{PATH}/input_tokens"])
@pytest.mark.parametrize("how", ["another caller's", "another gateway's", "altered", "half"])
async def test_what_does_not_open_is_refused(upstream: str, path: str, how: str) -> None:
    """It is never passed on: no upstream can read it, and as text it would only confuse a model."""
    gateway, item = await compacted("openai")
    sealed = item["encrypted_content"]
    if how == "another gateway's":
        sealed = Seal(bytes(32)).seal("compaction", ANN[0], b"x")
    elif how == "altered":
        sealed = sealed[:-1] + ("A" if sealed[-1] != "A" else "B")
    elif how == "half":
        sealed = sealed[: len(sealed) // 2]
    who = BOB if how == "another caller's" else ANN
    count = len(gateway.upstream.requests)
    given = [{"role": "user", "content": "x"}, {**item, "encrypted_content": sealed}]
    answer = await post(gateway, upstream, path, who, input=given)
    assert answer.status == 400
    error = answer.json()["error"]
    assert error["param"] == "input[1].encrypted_content"
    assert "input[1].encrypted_content" in error["message"]
    assert sealed not in answer.text
    assert len(gateway.upstream.requests) == count


async def test_the_upstreams_own_goes_back_to_it_as_it_came() -> None:
    gateway = gateway_of(says("responses"))
    assert (await post(gateway, "responses", input=[BLOB])).status == 200
    assert sent(gateway)["input"] == [BLOB]


@pytest.mark.parametrize("upstream", ["openai", "anthropic"])
async def test_the_upstreams_own_is_refused_elsewhere(upstream: str) -> None:
    gateway = gateway_of(says(upstream))
    answer = await post(gateway, upstream, input=[BLOB])
    assert (answer.status, answer.json()["error"]["param"]) == (400, "input[0]")
    assert gateway.upstream.requests == []


@everywhere
@pytest.mark.parametrize(
    "item",
    [
        b'{"type":"compaction","encrypted_content":"\xff"}',
        b'{"type":"compaction","encrypted_content":5}',
        b'{"type":"compaction"}',
        b'{"type":"compaction","encrypted_content":""}',
        b'{"type":"compaction","encrypted_content":"ps1-"}',
        b'"compaction"',
        b"[" * 3000 + b'"compaction"' + b"]" * 3000,
    ],
)
async def test_odd_compactions_are_the_callers_fault(upstream: str, item: bytes) -> None:
    gateway = gateway_of(Answer([b"{}"], status=400, headers=PLAIN))
    body = b'{"model":"%b","input":[%b]}' % (MODELS[upstream].encode(), item)
    answer = await request(gateway.app, "POST", PATH, body=body, client=ANN)
    assert answer.status == 400


class Away(MemorySecretStore):
    """A store that is not there."""

    async def secret(self, name: str) -> bytes:
        raise StoreUnavailable(f"no {name}")


async def test_without_the_secret_nothing_is_sealed_or_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.edge.scripted.MemorySecretStore", Away)
    gateway = gateway_of(says("openai"))
    answer = await post(gateway, "openai", COMPACT)
    assert answer.status == 503
    assert gateway.upstream.requests == []
    assert (await post(gateway, "openai")).status == 200


async def test_workers_of_one_store_open_what_any_of_them_sealed() -> None:
    store = MemorySecretStore()
    one, other = Sealing(store), Sealing(store)
    sealed = (await one.seal()).seal("compaction", "ann", b"x")
    assert (await other.seal()).open("compaction", "ann", sealed) == b"x"


async def test_a_compaction_is_never_streamed() -> None:
    gateway = gateway_of(says("openai"))
    answer = await post(gateway, "openai", COMPACT, stream=True)
    assert answer.header("content-type") == "application/json"
    assert answer.json()["object"] == "response.compaction"
