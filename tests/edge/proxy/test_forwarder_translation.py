"""The forwarder where caller and upstream speak different dialects, over scripted upstreams.

What single translators do is tested with them (`tests/edge/dialects`); here it is what only shows
when all parts run together: time, ends, failures, and what is counted and logged of them.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.proxy import translation
from edge.upstreams import ConnectFailed, Disconnected, TimedOut
from middlewares import KINDS
from middlewares.exchange import Exchange, Usage
from tests.asgi import Call, Recorded, http_scope, request
from tests.edge.dialogue import (
    CROSSED,
    DOCUMENT,
    MODELS,
    PAIRS,
    PATHS,
    PLAIN,
    SAY,
    Chat,
    Read,
    Responses,
    ask,
    tools,
)
from tests.edge.scripted import Answer, Pulse, Scripted, ScriptedGateway, Step

pytestmark = pytest.mark.simulated_time

USED = Usage(input=30, output=20)
CANARY = "canary-of-the-upstream"

pairs = pytest.mark.parametrize(("caller", "upstream"), PAIRS)
crossed = pytest.mark.parametrize(("caller", "upstream"), CROSSED)
streamed = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture(autouse=True)
async def nothing_is_left_running() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}


def gateway_of(*steps: Step, plain: bool = False, **options: Any) -> ScriptedGateway:
    answer = Answer(steps, headers=PLAIN) if plain else Answer(steps)
    return ScriptedGateway(Scripted(answer), document=DOCUMENT, **options)


async def post(gateway: ScriptedGateway, caller: str, body: dict[str, Any]) -> Recorded:
    return await request(gateway.app, "POST", PATHS[caller], json=body)


def calling(gateway: ScriptedGateway, caller: str, body: dict[str, Any]) -> Call:
    sent = json.dumps(body).encode()
    scope = http_scope("POST", PATHS[caller], headers={"content-length": str(len(sent))})
    return Call(gateway.app, scope, body=sent)


def end_of(exchange: Exchange) -> tuple[str, str]:
    return exchange.outcome, exchange.problem


# Ends


@crossed
async def test_each_event_is_out_before_the_next_one_exists(caller: str, upstream: str) -> None:
    say = SAY[upstream]()
    gates = [asyncio.Event() for _ in range(3)]
    steps: list[Step] = [say.start()]
    for gate, text in zip(gates, ("One ", "two ", "three"), strict=True):
        steps += [gate, say.text(text)]
    gateway = gateway_of(*steps, say.stop())
    async with calling(gateway, caller, ask(caller, upstream, stream=True)) as call:
        for gate, text in zip(gates, ("One ", "two ", "three"), strict=True):
            gate.set()
            assert Read(await call.chunk()).text == text
        assert Read(await call.rest()).ended
        await call.done()
    assert gateway.exchanges[0].usage == USED


STOPS = {"chat.completions": "stop", "messages": "stop_sequences"}


@pytest.mark.parametrize(
    ("caller", "upstream"),
    [pair for pair in CROSSED if pair[0] in STOPS and pair[1] == "responses"],
)
@pytest.mark.parametrize("pumping", [False, True])
async def test_a_stop_string_ends_the_stream_and_lets_the_upstream_go(
    caller: str, upstream: str, pumping: bool
) -> None:
    """Responses has no stop strings, so they are enforced here; the rest need not be paid for."""
    say = SAY[upstream]()
    never = asyncio.Event()
    steps: list[Step] = [say.start(), say.text("One, two, FI"), say.text("VE, six"), never]
    up = Scripted(Answer(steps, pumping=pumping))
    gateway = ScriptedGateway(up, document=DOCUMENT)
    body = ask(caller, upstream, stream=True, **{STOPS[caller]: ["FIVE"]})
    read = Read((await post(gateway, caller, body)).body)
    assert (read.text, read.ended) == ("One, two, ", True)
    assert up.responses[0].closed.is_set()
    exchange = gateway.exchanges[0]
    assert end_of(exchange) == ("completed", "")
    assert exchange.usage is not None
    assert min(exchange.usage.input, exchange.usage.output) > 0


@pytest.mark.parametrize("caller", STOPS)
async def test_a_stop_string_cuts_a_whole_answer(caller: str) -> None:
    gateway = gateway_of(Responses().whole("One, two, FIVE, six"), plain=True)
    body = ask(caller, "responses", **{STOPS[caller]: ["FIVE"]})
    answer = await post(gateway, caller, body)
    assert '"One, two, "' in answer.text
    assert "six" not in answer.text


@crossed
@streamed
async def test_usage_that_the_upstream_does_not_tell_is_estimated(
    caller: str, upstream: str, stream: bool
) -> None:
    say = SAY[upstream]()
    text = "twenty-four characters !" * 10
    if stream:
        gateway = gateway_of(say.start(), say.text(text), say.stop(None))
    else:
        gateway = gateway_of(say.whole(text, None), plain=True)
    answer = await post(gateway, caller, ask(caller, upstream, stream=stream))
    assert answer.status == 200
    usage = gateway.exchanges[0].usage
    assert usage is not None
    assert usage.input > 0
    if not (stream and upstream == "anthropic"):  # which reported 1 at the beginning
        assert usage.output > len(text) // 8


@pytest.mark.parametrize(
    ("caller", "upstream"), [pair for pair in CROSSED if pair[1] != "anthropic"]
)
async def test_an_answer_and_its_stream_are_estimated_alike(caller: str, upstream: str) -> None:
    """Messages tells the input at the beginning of each stream, so there it is no estimate."""
    texts, costs = ("Some words", " and more of them."), []
    say = SAY[upstream]()
    for gateway, stream in (
        (gateway_of(say.start(), *map(say.text, texts), say.stop(None)), True),
        (gateway_of(SAY[upstream]().whole("".join(texts), None), plain=True), False),
    ):
        await post(gateway, caller, ask(caller, upstream, stream=stream))
        costs.append(gateway.exchanges[0].usage)
    assert costs[0] == costs[1]


async def test_arguments_of_calls_count_in_an_estimate() -> None:
    """The same unstreamed and streamed: a client that reads a long call is charged."""
    arguments = json.dumps({"text": "x" * 400})
    call = {"id": "c", "type": "function", "function": {"name": "w", "arguments": arguments}}
    say = Chat()
    choice = {"message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    whole = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
    deltas = say.chunk({"tool_calls": [{"index": 0, **call}]})
    costs = []
    for gateway, stream in (
        (gateway_of(say.start(), deltas, say.stop(None)), True),
        (gateway_of(whole, plain=True), False),
    ):
        await post(gateway, "messages", ask("messages", "openai", stream=stream))
        costs.append(gateway.exchanges[0].usage)
    assert costs[0] == costs[1]
    assert costs[0] is not None
    assert costs[0].output > 100


# Silence


def fragment(index: int, arguments: str = "", **first: Any) -> bytes:
    function = {"arguments": arguments, **({"name": first["name"]} if first else {})}
    call = {"index": index, **({"id": first["id"]} if first else {}), "function": function}
    return Chat().chunk({"tool_calls": [call]})


@pytest.mark.parametrize("caller", ["messages", "responses"])
async def test_pings_go_out_while_a_call_is_withheld(caller: str) -> None:
    """archestra-ai/archestra#7810: fragments of a second call wait until the first is whole, as
    callers expect one block at a time; meanwhile something has to be heard."""
    begun = fragment(0, '{"a":', id="call_first", name="one") + fragment(
        1, '{"b":"', id="call_second", name="two"
    )
    waiting = Pulse(fragment(1, "x"), 0.004)
    gateway = gateway_of(Chat().start(), begun, waiting, keep_alive=0.02)
    body = ask(caller, "openai", stream=True, tools=tools(caller, "one", "two"))
    async with calling(gateway, caller, body) as call:
        first = Read(await call.chunk())
        assert "call_first" in json.dumps(first.data)
        assert "call_second" not in json.dumps(first.data)
        for _ in range(2):
            heard = Read(await call.chunk())
            assert (heard.pings, len(heard.data) - heard.names.count("ping")) == (1, 0)
        call.hang_up()
        await call.done()


@pytest.mark.parametrize("caller", ["messages", "responses"])
async def test_an_answer_known_only_at_its_end_is_an_answer(caller: str) -> None:
    """A call without arguments, from a server that sends no `[DONE]`: all of it waited."""
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    end = b"data: " + json.dumps(finish).encode() + b"\n\n"
    gateway = gateway_of(Chat().start(), fragment(0, "", id="c0", name="one"), end)
    body = ask(caller, "openai", stream=True, tools=tools(caller, "one"))
    answer = await post(gateway, caller, body)
    read = Read(answer.body)
    assert (answer.status, read.ended) == (200, True)
    assert '"c0"' in json.dumps(read.data)
    assert end_of(gateway.exchanges[0]) == ("completed", "")


@pytest.mark.parametrize("caller", ["messages", "responses"])
async def test_what_waited_is_all_there_in_the_end(caller: str) -> None:
    steps = [
        fragment(0, '{"a":', id="c0", name="one"),
        fragment(1, '{"b":', id="c1", name="two"),
        fragment(0, "111}"),
        fragment(1, "222}"),
    ]
    gateway = gateway_of(Chat().start(), *steps, Chat().stop())
    body = ask(caller, "openai", stream=True, tools=tools(caller, "one", "two"))
    read = Read((await post(gateway, caller, body)).body)
    received = json.dumps(read.data)
    assert read.ended
    assert (
        received.index('"c0"')
        < received.index("111}")
        < received.index('"c1"')
        < received.index("222}")
    )


async def test_an_upstream_that_withholds_for_ever_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits is kept in memory, and that has to end somewhere."""
    monkeypatch.setattr(translation, "MOST_WITHHELD", 100_000)
    begun = fragment(0, '{"a":', id="c0", name="one") + fragment(1, '{"b":"', id="c1", name="two")
    endless = Pulse(fragment(1, "x" * 10_000), 0)
    up = Scripted(Answer([Chat().start(), begun, endless]))
    gateway = ScriptedGateway(up, document=DOCUMENT)
    body = ask("messages", "openai", stream=True, tools=tools("messages", "one", "two"))
    read = Read((await post(gateway, "messages", body)).body)
    assert read.names[-1] == "error"
    assert up.responses[0].closed.is_set()
    assert end_of(gateway.exchanges[0]) == ("cut", "upstream_error")
    assert "cannot be passed on yet" in gateway.exchanges[0].reason


@crossed
async def test_a_stream_without_end_is_stopped(caller: str, upstream: str) -> None:
    """Writers and readers remember what was said; the bound is that of an unstreamed answer."""
    say = SAY[upstream]()
    up = Scripted(Answer([say.start(), Pulse(say.text("x" * 1000), 0)]))
    gateway = ScriptedGateway(up, document=DOCUMENT, max_answer=100_000)
    read = Read((await post(gateway, caller, ask(caller, upstream, stream=True))).body)
    assert not read.ended
    assert 80_000 < len(read.text) < 100_000
    assert up.responses[0].closed.is_set()
    assert end_of(gateway.exchanges[0]) == ("cut", "upstream_error")


@pairs
async def test_pings_do_not_hide_a_dead_upstream(caller: str, upstream: str) -> None:
    """Wei-Shaw/sub2api#770: its own pings are no content, and ours go on beside them."""
    say = SAY[upstream]()
    gateway = ScriptedGateway(
        Scripted(Answer([say.start(), Pulse(say.ping, 0.005)])),
        document=DOCUMENT,
        hold=0.03,
        keep_alive=0.03,
        first_content=0.15,
    )
    answer = await post(gateway, caller, ask(caller, upstream, stream=True))
    assert answer.status == 200
    read = Read(answer.body)
    assert read.pings > 0
    assert not read.ended
    assert end_of(gateway.exchanges[0]) == ("cut", "upstream_timeout")


# Hang-ups


@pairs
async def test_a_hang_up_leaves_the_usage_seen_so_far(caller: str, upstream: str) -> None:
    say = SAY[upstream]()
    never = asyncio.Event()
    up = Scripted(Answer([say.start(), say.text("Hi"), never]))
    gateway = ScriptedGateway(up, document=DOCUMENT)
    async with calling(gateway, caller, ask(caller, upstream, stream=True)) as call:
        assert await call.chunk()
        call.hang_up()
        await call.done()
    exchange = gateway.exchanges[0]
    assert exchange.outcome == "hung_up"
    assert up.responses[0].closed.is_set()
    if upstream == "anthropic":
        assert exchange.usage == Usage(input=30)
    assert exchange.fields == {}


# Failures


@pairs
@pytest.mark.parametrize("opened", [False, True])
async def test_a_head_that_left_early_and_then_a_failure(
    caller: str, upstream: str, opened: bool
) -> None:
    """Pings have gone out before the upstream's status was known: the error is an event."""
    late = asyncio.Event()
    failure = TimedOut("idle", 1) if opened else ConnectFailed(CANARY)
    answer = Answer([late, failure]) if opened else Answer(before=[late, failure])
    gateway = ScriptedGateway(Scripted(answer), document=DOCUMENT, hold=0.01, keep_alive=0.01)
    async with calling(gateway, caller, ask(caller, upstream, stream=True)) as call:
        assert Read(await call.chunk()).pings == 1
        late.set()
        recorded = await call.done()
    assert recorded.status == 200
    kind = "upstream_timeout" if opened else "upstream_unavailable"
    check_failed(caller, Read(recorded.body), kind)
    assert CANARY not in recorded.text
    assert end_of(gateway.exchanges[0]) == ("cut", kind)


R_CODES = {
    "rate_limited": "rate_limit_exceeded",
    "upstream_unavailable": "server_is_overloaded",
    "content_filtered": "invalid_prompt",
}


def check_failed(caller: str, read: Read, kind: str) -> None:
    """A stream that ends as its dialect says a broken one does."""
    assert not read.ended
    row = KINDS[kind]
    last = read.data[-1]
    if caller == "messages":
        assert read.names[-1] == "error"
        assert last["error"]["type"] == row.anthropic_type
        assert set(last) == {"type", "error", "request_id"}
        assert not {"message_stop", "message_delta"} & set(read.names)
    elif caller == "chat.completions":
        assert set(last["error"]) == {"message", "type", "param", "code"}
        assert last["error"]["type"] == row.openai_type
    else:
        assert read.names[-2:] == ["error", "response.failed"]
        read.check_numbers()
        error, code = read.data[-2], R_CODES.get(kind, kind)
        assert (error["code"], error["error"]["code"]) == (code, code)
        assert error["message"] == error["error"]["message"]
        assert last["response"]["status"] == "failed"
        assert last["response"]["error"]["code"] == code
        assert last["response"]["model"] in MODELS.values()


IN_STREAM = {
    "openai": {
        "server_error": "upstream_error",
        "rate_limit_exceeded": "rate_limited",
        "server_is_overloaded": "upstream_unavailable",
        "context_length_exceeded": "context_length_exceeded",
        "insufficient_quota": "upstream_unavailable",
    },
    "anthropic": {
        "api_error": "upstream_error",
        "overloaded_error": "upstream_unavailable",
        "rate_limit_error": "rate_limited",
        "timeout_error": "upstream_timeout",
        "novel_error": "upstream_error",
    },
    "responses": {
        "server_error": "upstream_error",
        "rate_limit_exceeded": "rate_limited",
        "server_is_overloaded": "upstream_unavailable",
        "context_length_exceeded": "context_length_exceeded",
        "slow_down": "upstream_unavailable",
    },
}


@pairs
@pytest.mark.parametrize("nth", range(5))
async def test_an_error_in_the_stream_is_reported_by_its_class(
    caller: str, upstream: str, nth: int
) -> None:
    """openai/codex#43337: overload comes inside a 200. QuantumNous/new-api#6549: such errors are in
    the request line and in the metrics, though the status is 200."""
    word, kind = list(IN_STREAM[upstream].items())[nth]
    say = SAY[upstream]()
    gate = asyncio.Event()
    gateway = gateway_of(say.start(), say.text("Half"), gate, say.error(word, CANARY))
    async with calling(gateway, caller, ask(caller, upstream, stream=True)) as call:
        assert Read(await call.chunk()).text == "Half"
        gate.set()
        recorded = await call.done()
    check_failed(caller, Read(recorded.body), kind)
    assert CANARY not in recorded.text
    labels = {"endpoint": caller, "model": MODELS[upstream], "status": "200", "outcome": "cut"}
    assert gateway.sample("penstock_requests_total", **labels) == 1
    assert gateway.sample("penstock_problems_total", kind=kind) == 1
    [line] = gateway.log
    assert (line["status"], line["outcome"], line["problem"]) == (200, "cut", kind)
    assert CANARY in line["reason"]


@pairs
@pytest.mark.parametrize("nth", range(5))
async def test_an_error_before_the_content_has_its_status(
    caller: str, upstream: str, nth: int
) -> None:
    """praxis-proxy/ai#1005: JSON with a status, though a stream was asked for."""
    word, kind = list(IN_STREAM[upstream].items())[nth]
    say = SAY[upstream]()
    gateway = gateway_of(say.start(), say.error(word, CANARY))
    answer = await post(gateway, caller, ask(caller, upstream, stream=True))
    row = KINDS[kind]
    overloaded = caller == "messages" and row.anthropic_status
    assert answer.status == (row.anthropic_status if overloaded else row.status)
    assert answer.header("content-type") == "application/json"
    assert CANARY not in answer.text
    assert (answer.header("retry-after") is None) == (answer.status not in (429, 503, 529))


@crossed
@pytest.mark.parametrize("finished", [False, True])
async def test_a_cut_stream(caller: str, upstream: str, finished: bool) -> None:
    """router-for-me/CLIProxyAPI#3055: cut is not ended, and not the caller's fault."""
    say = SAY[upstream]()
    last: Step = b"" if finished else Disconnected("cut")
    gateway = gateway_of(say.start(), say.text("Half"), last)
    answer = await post(gateway, caller, ask(caller, upstream, stream=True))
    read = Read(answer.body)
    assert read.text == "Half"
    check_failed(caller, read, "upstream_error")


REFUSALS: list[tuple[int, str, str, str]] = [
    (
        400,
        "invalid_request_error",
        "messages: prompt is too long: 9 tokens > 8 maximum",
        "overflow",
    ),
    (401, "authentication_error", "invalid x-api-key", "upstream_error"),
    (402, "billing_error", "pay", "upstream_error"),
    (403, "permission_error", "no", "upstream_error"),
    (404, "not_found_error", "model: x", "upstream_error"),
    (409, "conflict_error", "again", "upstream_error"),
    (413, "request_too_large", "too many bytes", "request_too_large"),
    (422, "invalid_request_error", "odd", "invalid_request"),
    (429, "rate_limit_error", "slow", "rate_limited"),
    (429, "insufficient_quota", "no money", "upstream_unavailable"),
    (500, "api_error", "oh", "upstream_error"),
    (503, "service_unavailable_error", "busy", "upstream_unavailable"),
    (504, "timeout_error", "late", "upstream_timeout"),
    (529, "overloaded_error", "Overloaded", "upstream_unavailable"),
    (418, "novel", "tea", "upstream_error"),
]


@crossed
@pytest.mark.parametrize(("status", "type_", "message", "kind"), REFUSALS)
async def test_each_refusal_in_each_dialect(
    caller: str, upstream: str, status: int, type_: str, message: str, kind: str
) -> None:
    """tontinton/maki#777, raine/claude-code-proxy#29: neither class becomes the other."""
    error = {"type": type_, "message": f"{message} {CANARY}", "code": None, "param": None}
    said = json.dumps({"type": "error", "error": error, "request_id": CANARY}).encode()
    up = Scripted(Answer([said], status=status, headers=[*PLAIN, (b"retry-after", b"7")]))
    gateway = ScriptedGateway(up, document=DOCUMENT)
    answer = await post(gateway, caller, ask(caller, upstream, stream=True))
    kind = "context_length_exceeded" if kind == "overflow" else kind
    row = KINDS[kind]
    overloaded = caller == "messages" and row.anthropic_status
    assert answer.status == (row.anthropic_status if overloaded else row.status)
    error = answer.json()["error"]
    assert error["type"] == (row.anthropic_type if caller == "messages" else row.openai_type)
    assert CANARY not in answer.text
    if kind == "rate_limited" or status in (503, 529):
        assert answer.header("retry-after") == "7"
    if kind == "context_length_exceeded":
        words = "prompt is too long: 9 tokens > 8" if caller == "messages" else "maximum context"
        assert words in error["message"]
        if caller != "messages":
            assert error["code"] == kind
            assert error["param"] == ("input" if caller == "responses" else "messages")
    assert gateway.exchanges[0].problem == kind
    assert len(up.requests) == 1


LIMITS = {
    "chat.completions": "max_completion_tokens",
    "messages": "max_tokens",
    "responses": "max_output_tokens",
}
THEIRS = {"openai": "max_tokens", "anthropic": "max_tokens", "responses": "max_output_tokens"}


@crossed
async def test_a_field_at_fault_is_named_as_the_caller_wrote_it(caller: str, upstream: str) -> None:
    theirs, ours = THEIRS[upstream], LIMITS[caller]
    error = {"type": "invalid_request_error", "message": f"bad {CANARY}", "param": theirs}
    if upstream == "anthropic":
        error = {"type": "invalid_request_error", "message": f"{theirs}: bad {CANARY}"}
    said = json.dumps({"error": error}).encode()
    gateway = ScriptedGateway(
        Scripted(Answer([said], status=400, headers=PLAIN)), document=DOCUMENT
    )
    answer = await post(gateway, caller, ask(caller, upstream, **{ours: 600}))
    error = answer.json()["error"]
    assert answer.status == 400
    assert f"`{ours}`" in error["message"]
    assert CANARY not in answer.text
    if caller != "messages":
        assert error["param"] == ours


@crossed
@streamed
@pytest.mark.parametrize("body", [b"<html>canary</html>", b'{"canary":1}', b"", b'{"object":"x"'])
async def test_a_200_that_is_no_answer(
    caller: str, upstream: str, stream: bool, body: bytes
) -> None:
    gateway = gateway_of(body, plain=True)
    answer = await post(gateway, caller, ask(caller, upstream, stream=stream))
    assert answer.status == 502
    assert b"canary" not in answer.body
    assert gateway.exchanges[0].outcome == "failed"


# One endpoint's body on the path of another


@pytest.mark.parametrize("upstream", MODELS)
@streamed
async def test_a_body_of_responses_on_the_chat_path(upstream: str, stream: bool) -> None:
    """router-for-me/CLIProxyAPI#658, Helicone/helicone#5629, maximhq/bifrost#5773: read as what it
    is, answered as what was asked for."""
    say = SAY[upstream]()
    if stream:
        gateway = gateway_of(say.start(), say.text("Hello"), say.stop())
    else:
        gateway = gateway_of(say.whole("Hello"), plain=True)
    body = {
        "model": MODELS[upstream],
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
        "tools": [{"type": "function", "name": "edit", "parameters": {"type": "object"}}],
        "reasoning": {"effort": "low"},
        "stream": stream,
    }
    answer = await post(gateway, "chat.completions", body)
    assert answer.status == 200
    if stream:
        read = Read(answer.body)
        assert (read.text, read.done) == ("Hello", True)
        assert {event["object"] for event in read.data} == {"chat.completion.chunk"}
    else:
        assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    up = gateway.upstream.requests[0]
    assert isinstance(up.body, bytes)
    assert b'"edit"' in up.body
    assert (
        up.target
        == {
            "openai": b"/v1/chat/completions",
            "anthropic": b"/v1/messages",
            "responses": b"/v1/responses",
        }[upstream]
    )


@pytest.mark.parametrize("upstream", MODELS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("background", True),
        ("prompt", {"id": "pmpt_1"}),
    ],
)
async def test_state_is_refused_where_it_is_not_looked_up(
    upstream: str, name: str, value: Any
) -> None:
    """Ignored, it would be an answer without the conversation it is about."""
    gateway = gateway_of(SAY[upstream]().whole("Hello"), plain=True)
    body = {"model": MODELS[upstream], "input": "And then?"}
    answer = await post(gateway, "chat.completions", {**body, name: value})
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "unsupported_parameter", name)
    assert gateway.upstream.requests == []
    left_out = False if value is True else None
    assert (await post(gateway, "chat.completions", {**body, name: left_out})).status == 200
