"""The forwarder inside the whole chain, over a scripted upstream."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.billing.token_estimate import Weight, weigh
from edge.dialects.conversation import Conversation
from edge.proxy import decoded_request
from edge.upstreams import (
    ConnectFailed,
    Disconnected,
    Malformed,
    OutOfDescriptors,
    SignedOut,
    TimedOut,
    UpstreamFailure,
)
from edge.upstreams.provider import credentials
from middlewares.exchange import Usage
from tests.asgi import Call, Recorded, http_scope, request
from tests.edge.scripted import JSON, UPSTREAM_KEY, Answer, Pulse, Scripted, ScriptedGateway, Step
from tests.edge.wire import (
    BLOCK,
    CHAT,
    COST,
    DELTA,
    DONE,
    END,
    HI,
    MESSAGES,
    MORE,
    PING,
    ROLE,
    START,
    STOP,
    TEXT,
    body,
)

pytestmark = pytest.mark.simulated_time

PATHS = {"openai": CHAT, "anthropic": MESSAGES}


HELD = {"openai": [ROLE, b": wait\n\n"], "anthropic": [START, PING]}
FIRST = {"openai": HI, "anthropic": BLOCK}
REST = {"openai": [MORE, STOP, COST, DONE], "anthropic": [TEXT, DELTA, END]}
OUR_PING = {"openai": b": keep-alive\n", "anthropic": PING}
USED = Usage(input=3, output=2)

both = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
either_way = pytest.mark.parametrize("pumping", [False, True])


@pytest.fixture(autouse=True)
async def nothing_is_left_running() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}


def streaming(dialect: str, gateway: ScriptedGateway, *, window: int | None = None) -> Call:
    sent = body(stream=True)
    scope = http_scope("POST", PATHS[dialect], headers={"content-length": str(len(sent))})
    return Call(gateway.app, scope, body=sent, window=window)


async def ask(
    gateway: ScriptedGateway, dialect: str = "openai", *, model: str = "m1", **members: Any
) -> Recorded:
    return await request(gateway.app, "POST", PATHS[dialect], body=body(model, **members))


def ours(block: bytes) -> bytes:
    """A block as the client has it: another name, and no words of the upstream in comments."""
    block = block.replace(b": wait\n\n", OUR_PING["openai"])
    return block.replace(b'"model":"up"', b'"model":"m1"')


def error_of(answer: Recorded) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


# Answers


@both
@either_way
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_stream(dialect: str, pumping: bool, at_once: bool) -> None:
    """dstackai/dstack#4269, ggml-org/llama.cpp#20872: nothing on the way may buffer it."""
    steps: list[Step] = [*HELD[dialect], FIRST[dialect], *REST[dialect]]
    sent = [step for step in steps if isinstance(step, bytes)]
    up = Scripted(Answer([b"".join(sent)] if at_once else sent, pumping=pumping))
    gateway = ScriptedGateway(up)
    answer = await ask(gateway, dialect, stream=True)
    assert answer.status == 200
    expected = [ours(block) for block in sent if block != COST]
    assert answer.body == b"".join(expected)
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    assert answer.header("cache-control") == "no-cache"
    assert answer.header("x-accel-buffering") == "no"
    assert answer.header("content-length") is None
    assert answer.header("x-model-used") == "m1"
    exchange = gateway.exchanges[0]
    assert (exchange.usage, exchange.outcome, exchange.stream) == (USED, "completed", True)
    assert exchange.started < exchange.first_content
    assert up.responses[0].closed.is_set()
    attempt = exchange.attempts[0]
    assert (attempt.status, attempt.error) == (200, "")
    assert attempt.started < attempt.ended
    assert (attempt.target.upstream, attempt.target.model) == ("both", "upstream-model-x")


@both
@either_way
async def test_each_event_is_out_before_the_next_one_exists(dialect: str, pumping: bool) -> None:
    gates = [asyncio.Event() for _ in REST[dialect]]
    steps: list[Step] = [*HELD[dialect], FIRST[dialect]]
    for gate, block in zip(gates, REST[dialect], strict=True):
        steps += [gate, block]
    gateway = ScriptedGateway(Scripted(Answer(steps, pumping=pumping)))
    async with streaming(dialect, gateway) as call:
        held = b"".join(HELD[dialect]) + FIRST[dialect]
        assert await call.chunk() == ours(held)
        for gate, block in zip(gates, REST[dialect], strict=True):
            gate.set()
            if block != COST:
                assert await call.chunk() == ours(block)
        assert await call.rest() == b""
        await call.done()


@both
async def test_an_unstreamed_answer(dialect: str) -> None:
    usage = {
        "openai": '{"prompt_tokens":3,"completion_tokens":2}',
        "anthropic": '{"input_tokens":3,"output_tokens":2}',
    }[dialect]
    said = {
        "openai": '"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]',
        "anthropic": '"content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn"',
    }[dialect]
    sent = f'{{ "id":"x","model":"up", "novel":1.0,{said},"usage":{usage}}}'.encode()
    up = Scripted(Answer([sent[:9], sent[9:]], headers=[JSON, (b"x-upstream-canary", b"1")]))
    gateway = ScriptedGateway(up)
    answer = await ask(gateway, dialect, model="m1-alias")
    assert answer.body == sent.replace(b'"up"', b'"m1-alias"')
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("x-upstream-canary") is None
    assert answer.header("x-model-used") == "m1"
    assert gateway.exchanges[0].usage == USED
    assert gateway.exchanges[0].outcome == "completed"
    assert up.responses[0].closed.is_set()


async def test_embeddings() -> None:
    usage = b'"usage":{"prompt_tokens":5,"total_tokens":5}'
    sent = b'{"data":[{"embedding":[1.0,2]}],"model":"up",' + usage + b"}"
    up = Scripted(Answer([sent], headers=[JSON]))
    gateway = ScriptedGateway(up)
    answer = await request(
        gateway.app, "POST", "/v1/embeddings", json={"model": "m1", "input": "x", "stream": True}
    )
    assert answer.body == ours(sent)
    assert up.requests[0].target == b"/v1/embeddings"
    assert gateway.exchanges[0].usage == Usage(input=5)
    assert gateway.exchanges[0].stream is False


# What the upstream is asked


CALLER: dict[str, str] = {
    "authorization": "Bearer sk-caller-canary",
    "x-api-key": "sk-caller-canary",
    "cookie": "session=sk-caller-canary",
    "proxy-authorization": "Basic sk-caller-canary",
    "anthropic-version": "2026-10-21",
    "anthropic-beta": "novel-2030-01-01,other",
    "anthropic-novelty": "1",
    "anthropic-dangerous-direct-browser-access": "true",
    "idempotency-key": "i-1",
    "openai-organization": "org-x",
    "openai-project": "proj-x",
    "user-agent": "agent",
    "x-stainless-lang": "py",
    "x-forwarded-for": "1.2.3.4",
    "host": "gateway.example",
    "accept-encoding": "gzip",
    "connection": "close",
}


@pytest.mark.parametrize(
    ("dialect", "passed"),
    [
        ("openai", {}),
        (
            "anthropic",
            {
                b"anthropic-version": b"2026-10-21",
                b"anthropic-beta": b"novel-2030-01-01,other",
                b"anthropic-novelty": b"1",
            },
        ),
    ],
)
async def test_only_listed_headers_go_on_and_no_credential_does(
    dialect: str, passed: dict[bytes, bytes]
) -> None:
    """BerriAI/litellm#41203: no allow-list of beta values; decolua/9router#1468: they travel with
    their fields; sseshachala/conductai#2179: the caller's version, not one of ours."""
    up = Scripted(Answer([b"{}"], headers=[JSON]))
    await request(ScriptedGateway(up).app, "POST", PATHS[dialect], headers=CALLER, body=body())
    assert dict(up.requests[0].headers) == {
        **passed,
        b"authorization": b"Bearer " + UPSTREAM_KEY,
    }
    assert b"sk-caller-canary" not in repr(up.requests[0]).encode()


async def test_anthropic_callers_without_a_version_get_one() -> None:
    up = Scripted(Answer([b"{}"], headers=[JSON]))
    await ask(ScriptedGateway(up), "anthropic")
    assert up.header(b"anthropic-version") == [b"2023-06-01"]


@pytest.mark.parametrize(
    ("dialect", "query", "target"),
    [
        ("anthropic", "beta=true", b"/v1/messages?beta=true"),
        ("anthropic", "x=1&beta=true", b"/v1/messages?beta=true"),
        ("anthropic", "beta=false&key=secret", b"/v1/messages"),
        ("anthropic", "", b"/v1/messages"),
        ("openai", "beta=true", b"/v1/chat/completions"),
    ],
)
async def test_the_query_goes_no_further_than_beta(dialect: str, query: str, target: bytes) -> None:
    up = Scripted(Answer([b"{}"], headers=[JSON]))
    gateway = ScriptedGateway(up)
    await request(gateway.app, "POST", PATHS[dialect], body=body(), query=query)
    assert up.requests[0].target == target
    assert up.requests[0].method == b"POST"


async def test_the_body_is_the_callers_with_another_model_and_usage_asked() -> None:
    up = Scripted(Answer([HI, STOP]))
    await ask(ScriptedGateway(up), stream=True, novel={"a": [1.0]})
    assert isinstance(up.requests[0].body, bytes)
    assert json.loads(up.requests[0].body) == {
        "model": "upstream-model-x",
        "messages": [{"role": "user"}],
        "stream": True,
        "novel": {"a": [1.0]},
        "stream_options": {"include_usage": True},
    }


async def test_an_endpoint_that_no_translation_reaches_is_a_400() -> None:
    up = Scripted(Answer())
    gateway = ScriptedGateway(up)
    asked = json.dumps({"model": "only-ant", "input": "x"}).encode()
    answer = await request(gateway.app, "POST", "/v1/embeddings", body=asked)
    assert (answer.status, error_of(answer)["param"]) == (400, "model")
    assert up.requests == []
    assert gateway.exchanges[0].outcome == "refused"


async def test_stream_options_that_make_no_sense_are_a_400() -> None:
    answer = await ask(
        ScriptedGateway(Scripted(Answer())), stream=True, stream_options={"include_usage": 3}
    )
    assert (answer.status, error_of(answer)["param"]) == (400, "stream_options")


# Failures before the first content: true status, no trace


@both
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (ConnectFailed("canary"), {"openai": 503, "anthropic": 529}),
        (OutOfDescriptors("canary"), {"openai": 503, "anthropic": 529}),
        (SignedOut("canary"), {"openai": 503, "anthropic": 529}),
        (Disconnected("canary"), {"openai": 502, "anthropic": 502}),
        (Malformed("canary"), {"openai": 502, "anthropic": 502}),
        (TimedOut("connect", 1), {"openai": 504, "anthropic": 504}),
        (TimedOut("first_byte", 1), {"openai": 504, "anthropic": 504}),
    ],
)
async def test_no_head(
    dialect: str, stream: bool, failure: UpstreamFailure, status: dict[str, int]
) -> None:
    gateway = ScriptedGateway(Scripted(Answer(before=[failure])))
    answer = await ask(gateway, dialect, stream=stream)
    assert answer.status == status[dialect]
    assert answer.header("content-type") == "application/json"
    assert "canary" not in answer.text
    assert (answer.header("retry-after") is not None) == (answer.status in (503, 529))
    exchange = gateway.exchanges[0]
    assert exchange.outcome == "failed"
    assert exchange.attempts[0].error == failure.reason
    assert failure.reason in exchange.reason
    assert exchange.attempts[0].ended > 0


@both
@either_way
@pytest.mark.parametrize(
    ("step", "status"),
    [
        (Disconnected("canary"), 502),
        (TimedOut("idle", 1), 504),
        (b"data: canary\n\n", 502),
        (b'data: {"type":"error","error":{"message":"canary"}}\n\n', 502),
        (b"", 502),
        (b"data: " + b"x" * (17 << 20), 502),
    ],
)
async def test_failure_while_frames_are_held_leaves_no_trace(
    dialect: str, pumping: bool, step: Step, status: int
) -> None:
    up = Scripted(Answer([*HELD[dialect], step], pumping=pumping))
    gateway = ScriptedGateway(up)
    answer = await ask(gateway, dialect, stream=True)
    assert answer.status == status
    assert set(answer.json()) == (
        {"error"} if dialect == "openai" else {"type", "error", "request_id"}
    )
    assert "canary" not in answer.text
    assert up.responses[0].closed.is_set()
    exchange = gateway.exchanges[0]
    assert (exchange.outcome, exchange.first_content) == ("failed", 0.0)
    assert exchange.attempts[0].error


async def test_a_good_event_and_an_error_in_the_first_read_is_a_failure_before_content() -> None:
    up = Scripted(Answer([ROLE + HI + b'data: {"error":{}}\n\n']))
    assert (await ask(ScriptedGateway(up), stream=True)).status == 502


async def test_an_overloaded_stream_is_reported_as_such() -> None:
    event = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    answer = await ask(ScriptedGateway(Scripted(Answer([event]))), "anthropic", stream=True)
    assert (answer.status, error_of(answer)["type"]) == (529, "overloaded_error")


@both
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_retold(dialect: str, stream: bool) -> None:
    """musistudio/claude-code-router#1799: an overflow is not buried under another failure."""
    said = json.dumps(
        {"error": {"message": "prompt is too long: 9000 tokens > 8000 maximum canary"}}
    )
    up = Scripted(Answer([said.encode(), b"x" * 100_000], status=400, headers=[JSON]))
    gateway = ScriptedGateway(up)
    answer = await ask(gateway, dialect, stream=stream)
    assert answer.status == 400
    assert "9000" in answer.text and "8000" in answer.text and "canary" not in answer.text
    assert up.responses[0].closed.is_set()
    exchange = gateway.exchanges[0]
    assert (exchange.problem, exchange.outcome) == ("context_length_exceeded", "failed")
    assert exchange.attempts[0].status == 400
    assert exchange.reason.startswith("both/upstream-model-x: upstream said 400")


async def test_a_refusal_whose_body_breaks_off_keeps_its_status() -> None:
    up = Scripted(
        Answer([b"{", Disconnected("gone")], status=429, headers=[(b"retry-after", b"9")])
    )
    answer = await ask(ScriptedGateway(up))
    assert (answer.status, answer.header("retry-after")) == (429, "9")
    assert up.responses[0].closed.is_set()


async def test_an_endless_refusal_is_not_read_to_its_end() -> None:
    up = Scripted(Answer([b"x" * 10_000] * 100, status=500))
    assert (await ask(ScriptedGateway(up))).status == 502
    assert up.responses[0].reads < 10


@pytest.mark.parametrize(
    "sent", [[b"<html>"], [b""], [b'{"error":{"message":"canary"}}'], [b"{" + b" " * 2000]]
)
async def test_an_unstreamed_answer_that_is_none(sent: list[bytes]) -> None:
    up = Scripted(Answer(sent, headers=[JSON]))
    answer = await ask(ScriptedGateway(up, max_answer=1000))
    assert answer.status == 502
    assert "canary" not in answer.text
    assert up.responses[0].closed.is_set()


async def test_an_answer_past_the_bound_is_let_go() -> None:
    up = Scripted(Answer([b'{"a":1', b" " * 600, b" " * 600, b"}"], headers=[JSON]))
    gateway = ScriptedGateway(up, max_answer=1000)
    assert (await ask(gateway)).status == 502
    assert up.responses[0].reads == 3
    assert "larger than 1000 bytes" in gateway.exchanges[0].reason


@either_way
async def test_others_have_their_turn_while_a_read_full_of_tiny_events_is_dealt_with(
    pumping: bool,
) -> None:
    read = b"".join([ROLE, HI, b"\n\n" * 200_000, STOP, COST, DONE])
    gateway = ScriptedGateway(Scripted(Answer([read], pumping=pumping)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.ensure_future(others())
    answer = await ask(gateway, stream=True)
    counting.cancel()
    assert answer.text.count("Hi") == 1 and answer.text.endswith("[DONE]\n\n")
    assert gateway.exchanges[0].usage == USED
    assert turns >= len(read) // (16 << 10)


async def test_vectors_past_the_bound_are_charged_and_refused_by_name() -> None:
    """An answer over the limit is charged, and does not count against the target."""
    up = Scripted(Answer([b'{"data":[', b"0," * 600, b"0]}"], headers=[JSON]))
    gateway = ScriptedGateway(up, max_answer=1000)
    asked = json.dumps({"model": "priced", "input": ["a" * 400] * 9}).encode()
    answer = await request(gateway.app, "POST", "/v1/embeddings", body=asked)
    assert answer.status == 413
    assert "1000 bytes" in answer.text and "encoding_format" in answer.text
    exchange = gateway.exchanges[0]
    assert len(exchange.attempts) == 1
    assert exchange.usage is not None and exchange.usage.output == 0
    assert exchange.usage.input >= 900 and exchange.cost >= 900 * 3_000
    assert not gateway.sample("penstock_target_broken", upstream="both", target="p")


async def test_a_credential_in_a_broken_answer_does_not_reach_the_log() -> None:
    up = Scripted(
        Answer([b'{"error":{"message":"bad key ' + UPSTREAM_KEY + b'"}}'], headers=[JSON])
    )
    gateway = ScriptedGateway(up)
    await ask(gateway)
    assert UPSTREAM_KEY.decode() not in json.dumps(gateway.log)
    assert "error in the stream" in gateway.log[0]["reason"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_cannot_fill_the_log(stream: bool) -> None:
    said = b'{"error":"' + b"z" * 100_000 + b'"}'
    answer = Answer([b"data: " + said + b"\n\n"]) if stream else Answer([said], headers=[JSON])
    gateway = ScriptedGateway(Scripted(answer))
    await ask(gateway, "openai", stream=stream)
    assert "zzz" in gateway.log[0]["reason"]
    assert len(gateway.log[0]["reason"]) < 2000


# Failures after it: an error event, then the end


@both
@either_way
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (Disconnected("canary"), "upstream_error"),
        (TimedOut("idle", 1), "upstream_timeout"),
        (b"data: canary\n\n", "upstream_error"),
        (b'data: {"type":"error","error":{"message":"canary"}}\n\n', "upstream_error"),
        (b"", "upstream_error"),
        (b"data: " + b"x" * (17 << 20), "upstream_error"),
    ],
)
async def test_failure_after_content_is_an_error_event_and_no_success(
    dialect: str, pumping: bool, step: Step, kind: str
) -> None:
    up = Scripted(Answer([*HELD[dialect], FIRST[dialect], step], pumping=pumping))
    gateway = ScriptedGateway(up)
    answer = await ask(gateway, dialect, stream=True)
    assert answer.status == 200
    good = ours(b"".join(HELD[dialect]) + FIRST[dialect])
    assert answer.body.startswith(good)
    event = answer.body.removeprefix(good)
    if dialect == "anthropic":
        assert event.startswith(b"event: error\ndata: {") and event.endswith(b"}\n\n")
        received = json.loads(event.removeprefix(b"event: error\ndata: "))
        assert (received["type"], received["error"]["type"]) == ("error", "api_error")
        assert received["request_id"] == answer.header("request-id")
    else:
        received = json.loads(event.removeprefix(b"data: "))
        assert received["error"]["code"] == kind
    assert event.count(b"\n\n") == 1
    assert b"canary" not in answer.body
    assert answer.complete
    assert up.responses[0].closed.is_set()
    assert (gateway.exchanges[0].outcome, gateway.exchanges[0].problem) == ("cut", kind)


@both
@either_way
async def test_what_was_good_of_the_last_read_is_not_lost(dialect: str, pumping: bool) -> None:
    last = REST[dialect][0]
    steps = [FIRST[dialect], last + b'data: {"type":"error","error":{"message":"x"}}\n\n' + last]
    gateway = ScriptedGateway(Scripted(Answer(steps, pumping=pumping)))
    answer = await ask(gateway, dialect, stream=True)
    assert answer.body.startswith(ours(FIRST[dialect] + last))
    assert answer.body.count(ours(last)) == 1


@either_way
async def test_usage_that_came_before_the_cut_is_kept(pumping: bool) -> None:
    gateway = ScriptedGateway(
        Scripted(Answer([START, BLOCK, DELTA, Disconnected("x")], pumping=pumping))
    )
    await ask(gateway, "anthropic", stream=True)
    assert gateway.exchanges[0].usage == USED


@either_way
async def test_a_last_event_without_its_blank_line_is_taken(pumping: bool) -> None:
    gateway = ScriptedGateway(Scripted(Answer([HI, STOP, COST[:-2]], pumping=pumping)))
    answer = await ask(gateway, stream=True)
    assert answer.body == ours(HI + STOP) + DONE
    assert gateway.exchanges[0].usage == USED


# Holding the head, pings, limits


@both
@either_way
async def test_no_first_content_in_time(dialect: str, pumping: bool) -> None:
    up = Scripted(Answer([*HELD[dialect], asyncio.Event()], pumping=pumping))
    gateway = ScriptedGateway(up, first_content=0.15)
    answer = await ask(gateway, dialect, stream=True)
    assert answer.status == 504
    assert up.responses[0].closed.is_set()
    assert gateway.exchanges[0].problem == "upstream_timeout"
    assert "no content within 0.15 s" in gateway.exchanges[0].attempts[0].error


async def test_no_head_in_time() -> None:
    up = Scripted(Answer(before=[asyncio.Event()]))
    assert (await ask(ScriptedGateway(up, first_content=0.12), stream=True)).status == 504
    assert up.abandoned.is_set()


@both
async def test_pings_of_the_upstream_do_not_extend_the_limit(dialect: str) -> None:
    """Wei-Shaw/sub2api#770, kartikkabadi/opencode-go-proxy#12: they must not hide a dead one."""
    up = Scripted(Answer([*HELD[dialect], Pulse(OUR_PING[dialect], 0.01)]))
    answer = await ask(ScriptedGateway(up, first_content=0.2), dialect, stream=True)
    assert answer.status == 504
    assert up.responses[0].reads > 5
    assert up.responses[0].closed.is_set()


@both
@either_way
async def test_head_and_pings_leave_early_then_the_answer(dialect: str, pumping: bool) -> None:
    """BerriAI/litellm#36024, #37322: keep-alives also before the first token."""
    gate = asyncio.Event()
    steps: list[Step] = [*HELD[dialect], gate, FIRST[dialect], *REST[dialect]]
    gateway = ScriptedGateway(Scripted(Answer(steps, pumping=pumping)), hold=0.1, keep_alive=0.02)
    async with streaming(dialect, gateway) as call:
        for _ in range(3):
            assert await call.chunk() == OUR_PING[dialect]
        assert call.status == 200
        gate.set()
        rest = await call.rest()
        assert rest.replace(OUR_PING[dialect], b"").endswith(
            ours(b"".join(block for block in REST[dialect] if block != COST)).replace(
                OUR_PING[dialect], b""
            )
        )
        await call.done()
    assert gateway.exchanges[0].outcome == "completed"


@both
@either_way
async def test_early_head_then_failure_is_an_error_event(dialect: str, pumping: bool) -> None:
    gate = asyncio.Event()
    steps: list[Step] = [*HELD[dialect], gate, Disconnected("canary")]
    gateway = ScriptedGateway(Scripted(Answer(steps, pumping=pumping)), hold=0.1, keep_alive=60)
    async with streaming(dialect, gateway) as call:
        assert await call.chunk() == OUR_PING[dialect]
        gate.set()
        rest = await call.rest()
        await call.done()
    assert rest.count(b"\n\n") == 1
    assert json.loads(rest.split(b"data: ")[1])["error"]
    assert b"message_start" not in rest and b"[DONE]" not in rest
    assert gateway.exchanges[0].outcome == "cut"


async def test_early_head_then_no_content_in_time() -> None:
    gateway = ScriptedGateway(
        Scripted(Answer(before=[asyncio.Event()])), hold=0.1, keep_alive=60, first_content=0.2
    )
    async with streaming("anthropic", gateway) as call:
        assert await call.chunk() == PING
        assert b'"type":"api_error"' in await call.rest()


async def test_early_head_then_a_refusal_is_an_error_event() -> None:
    gate = asyncio.Event()
    up = Scripted(Answer(before=[gate], status=429))
    async with streaming("openai", ScriptedGateway(up, hold=0.1, keep_alive=60)) as call:
        assert await call.chunk() == OUR_PING["openai"]
        gate.set()
        assert b'"rate_limit_exceeded"' in await call.rest()


@both
@either_way
async def test_silence_in_the_middle_is_filled_between_events_only(
    dialect: str, pumping: bool
) -> None:
    gate = asyncio.Event()
    half = REST[dialect][0]
    steps: list[Step] = [FIRST[dialect], half[:20], gate, half[20:], *REST[dialect][1:]]
    gateway = ScriptedGateway(Scripted(Answer(steps, pumping=pumping)), hold=0.1, keep_alive=0.05)
    async with streaming(dialect, gateway) as call:
        assert await call.chunk() == ours(FIRST[dialect])
        assert await call.chunk() == OUR_PING[dialect]
        assert await call.chunk() == OUR_PING[dialect]
        gate.set()
        rest = await call.rest()
        await call.done()
    good = [ours(block) for block in REST[dialect] if block != COST]
    assert rest.replace(OUR_PING[dialect], b"") == b"".join(good)


@both
@either_way
async def test_no_ping_after_the_end(dialect: str, pumping: bool) -> None:
    lingering = asyncio.Event()
    steps: list[Step] = [FIRST[dialect], *REST[dialect], lingering]
    gateway = ScriptedGateway(Scripted(Answer(steps, pumping=pumping)), hold=0.1, keep_alive=0.02)
    async with streaming(dialect, gateway) as call:
        seen = b""
        while not seen.endswith(REST[dialect][-1]):
            seen += await call.chunk()
        await asyncio.sleep(0.3)  # many silences
        lingering.set()
        assert await call.rest() == b""
        await call.done()
    assert gateway.exchanges[0].outcome == "completed"


# The client leaves


@both
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", ["connecting", "waiting", "streaming"])
@either_way
async def test_a_client_that_leaves_closes_the_upstream(
    dialect: str, stream: bool, phase: str, pumping: bool
) -> None:
    never = asyncio.Event()
    answers: dict[str, Answer] = {
        "connecting": Answer(before=[never]),
        "waiting": Answer([*HELD[dialect], never], pumping=pumping),
        "streaming": Answer([*HELD[dialect], FIRST[dialect], never], pumping=pumping),
    }
    up = Scripted(answers[phase])
    gateway = ScriptedGateway(up)
    sent = body(stream=stream)
    scope = http_scope("POST", PATHS[dialect], headers={"content-length": str(len(sent))})
    async with Call(gateway.app, scope, body=sent) as call:
        await asyncio.wait_for(up.opening.wait(), 5)
        if phase == "streaming" and stream:
            await call.chunk()
        call.hang_up()
        record = await call.done()
    if phase == "connecting":
        assert up.abandoned.is_set()
    else:
        assert up.responses[0].closed.is_set()
    assert record.has_started == (phase == "streaming" and stream)
    assert b"error" not in record.body
    exchange = gateway.exchanges[0]
    assert (exchange.outcome, exchange.problem) == ("hung_up", "")
    assert exchange.attempts[0].error == "the client left"


@either_way
async def test_usage_seen_before_a_hang_up_is_kept(pumping: bool) -> None:
    gateway = ScriptedGateway(
        Scripted(Answer([START, BLOCK, DELTA, asyncio.Event()], pumping=pumping))
    )
    async with streaming("anthropic", gateway) as call:
        while DELTA not in call.record.body:
            await call.chunk()
        call.hang_up()
        await call.done()
    assert gateway.exchanges[0].usage == USED


# Slow clients, cancellation


@either_way
async def test_a_slow_client_slows_the_reading(pumping: bool) -> None:
    up = Scripted(Answer([HI, *[MORE] * 50, STOP, DONE], pumping=pumping))
    gateway = ScriptedGateway(up)
    async with streaming("openai", gateway, window=3) as call:
        await call.stalled()
        for _ in range(20):
            await asyncio.sleep(0)
        assert up.responses[0].reads <= 6
        assert await call.rest() == ours(HI + MORE * 50 + STOP) + DONE
        await call.done()


@either_way
async def test_a_client_that_leaves_while_it_holds_us_up(pumping: bool) -> None:
    up = Scripted(Answer([HI, *[MORE] * 50, asyncio.Event()], pumping=pumping))
    async with streaming("openai", ScriptedGateway(up), window=3) as call:
        await call.stalled()
        call.hang_up()
        await call.done()
    assert up.responses[0].closed.is_set()


@pytest.mark.parametrize("phase", ["connecting", "waiting", "streaming"])
@either_way
async def test_the_servers_cancellation_goes_through_and_closes_the_upstream(
    phase: str, pumping: bool
) -> None:
    never = asyncio.Event()
    up = Scripted(
        {
            "connecting": Answer(before=[never]),
            "waiting": Answer([ROLE, never], pumping=pumping),
            "streaming": Answer([HI, never], pumping=pumping),
        }[phase]
    )
    gateway = ScriptedGateway(up)
    async with streaming("openai", gateway) as call:
        await asyncio.wait_for(up.opening.wait(), 5)
        if phase == "streaming":
            await call.chunk()
        await call.cancel()
        assert isinstance(call.record.raised, asyncio.CancelledError)
    assert up.abandoned.is_set() if phase == "connecting" else up.responses[0].closed.is_set()
    assert b"error" not in call.record.body
    assert gateway.exchanges[0].attempts[0].ended > 0
    assert gateway.sample("penstock_requests_in_flight") == 0


async def test_a_bug_in_an_upstream_is_internal_and_closes_it() -> None:
    up = Scripted(Answer([HI, ZeroDivisionError("canary")]))
    gateway = ScriptedGateway(up)
    answer = await ask(gateway, stream=True)
    assert b'"code":"internal"' in answer.body and b"canary" not in answer.body
    assert up.responses[0].closed.is_set()


@either_way
async def test_the_servers_cancellation_reaches_a_send_that_waits(pumping: bool) -> None:
    up = Scripted(Answer([HI, *[MORE] * 50, asyncio.Event()], pumping=pumping))
    async with streaming("openai", ScriptedGateway(up), window=3) as call:
        await call.stalled()
        for _ in range(5):  # until the application waits for it too
            await asyncio.sleep(0)
        await call.cancel()
        assert isinstance(call.record.raised, asyncio.CancelledError)
        assert call.blocked == 0
    assert up.responses[0].closed.is_set()


@either_way
@pytest.mark.parametrize(("dialect", "steps"), [("openai", [DONE]), ("anthropic", [END])])
async def test_a_stream_that_ends_well_without_content_is_a_failure(
    dialect: str, steps: list[Step], pumping: bool
) -> None:
    answer = await ask(
        ScriptedGateway(Scripted(Answer([*HELD[dialect], *steps], pumping=pumping))),
        dialect,
        stream=True,
    )
    assert answer.status == 502


def test_credentials_stand_where_each_dialect_has_them() -> None:
    assert credentials("openai", "k") == ((b"authorization", b"Bearer k"),)
    assert credentials("anthropic", "k") == ((b"x-api-key", b"k"),)
    assert credentials("openai", None) == credentials("anthropic", "") == ()


@pytest.mark.parametrize("pumping", [False, True])
async def test_an_end_without_content_that_is_cut_keeps_its_true_status(pumping: bool) -> None:
    role = b'data: {"model":"up","choices":[{"delta":{"role":"assistant"}}]}\n\n'
    answer = Answer([role + b"data: [DONE]\n\n", Disconnected("cut")], pumping=pumping)
    gateway = ScriptedGateway(Scripted(answer))
    received = await request(gateway.app, "POST", PATHS["openai"], body=body(stream=True))
    assert received.status == 502
    assert b"[DONE]" not in received.body


@pytest.mark.parametrize("pumping", [False, True])
async def test_a_connection_lost_after_the_end_marker_is_no_failure(pumping: bool) -> None:
    answer = Answer([HI + STOP + b"data: [DONE]\n\n", Disconnected("cut")], pumping=pumping)
    gateway = ScriptedGateway(Scripted(answer))
    received = await request(gateway.app, "POST", PATHS["openai"], body=body(stream=True))
    assert received.status == 200
    assert received.body.endswith(b"data: [DONE]\n\n")
    assert gateway.exchanges[0].outcome == "completed"


@pytest.mark.parametrize("status", [404, 405])
async def test_log_of_an_address_that_is_not_there_has_the_url_asked(status: int) -> None:
    upstream = {"name": "both", "dialect": "openai", "base_url": "http://127.0.0.1:9/openai"}
    query = {"api-version": "secret-2024"}
    document = {
        "upstreams": [{**upstream, "query": query}],
        "models": [{"id": "m1", "targets": ["both/upstream-model-x"]}],
    }
    body = [b'{"error":{"message":"Resource not found"}}']
    scripted = Scripted(Answer(body, status=status))
    gateway = ScriptedGateway(scripted, document=document, configured=True)
    asked = {"model": "m1", "messages": [{"role": "user", "content": "Hi"}]}
    answer = await request(gateway.app, "POST", CHAT, json=asked)
    assert answer.status == 502
    (line,) = gateway.log
    assert "POST http://127.0.0.1:9/openai/chat/completions: upstream said" in line["reason"]
    assert "secret-2024" not in str(line)
    assert "127.0.0.1:9" not in answer.text


# Prepared once, attempted many times


async def test_request_with_three_translated_targets_is_decoded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[Conversation] = []

    def noting(conversation: Conversation, **known: Any) -> Weight:
        decoded.append(conversation)
        return weigh(conversation, **known)

    monkeypatch.setattr(decoded_request, "weigh", noting)
    busy = Answer([b"{}"], status=503, headers=[JSON])
    message = {
        "model": "up",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    gateway = ScriptedGateway(
        Scripted(busy, busy, Answer([json.dumps(message).encode()], headers=[JSON])),
        document={
            "models": [
                {"id": "m1", "load_balancing": "order", "targets": ["ant/a1", "oai/o1", "ant/a2"]}
            ]
        },
    )
    asked = json.dumps({"model": "m1", "input": "Hi"}).encode()
    answer = await request(gateway.app, "POST", "/v1/responses", body=asked)
    assert answer.status == 200
    assert [sent.target for sent in gateway.upstream.requests] == [
        b"/v1/messages",
        b"/v1/chat/completions",
        b"/v1/messages",
    ]
    assert len(decoded) == 1
    assert gateway.exchanges[0].decoded is None
