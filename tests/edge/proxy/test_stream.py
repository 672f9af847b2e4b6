"""A stream on its way: what it cost, its drain when its client leaves, and its end when
the money is gone."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge.endpoints import BY_NAME
from edge.proxy.forwarder import Forwarder
from edge.upstreams import Disconnected
from edge.upstreams.provider import Provider
from middlewares import ErrorsMiddleware, Exchange, Metrics, MetricsMiddleware
from middlewares.asgi import Message, Receive, Scope, Send
from middlewares.exchange import Usage
from tests.asgi import Call, http_scope, request
from tests.edge.blank_lines import Strict
from tests.edge.scripted import JSON, SSE, Answer, Scripted, ScriptedGateway, Step
from tests.edge.wire import (
    BLOCK,
    CHAT,
    COST,
    DELTA,
    DONE,
    END,
    HI,
    MORE,
    ROLE,
    START,
    STOP,
    TEXT,
    body,
)

pytestmark = pytest.mark.simulated_time

USED = Usage(input=3, output=2)
PLAIN = (
    b'{"model":"up","choices":[{"message":{"content":"Hi you"}}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)

either_way = pytest.mark.parametrize("pumping", [False, True])


@pytest.fixture(autouse=True)
async def nothing_is_left_running() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}


class Leaving:
    """A chat through the forwarder alone, with what outer layers have written; `noticed` is set
    when the forwarder has noticed that its client has left."""

    def __init__(
        self,
        *steps: Step,
        stream: bool = True,
        drain: float = 30.0,
        silence: float = 10.0,
        **known: object,
    ) -> None:
        headers = [SSE if stream else JSON]
        self.upstream = Scripted(Answer(steps, headers=headers, pumping=stream))
        self.noticed = asyncio.Event()
        self.scope = http_scope("POST", CHAT)
        self.exchange = exchange = Exchange.of(self.scope)
        exchange.endpoint = "chat.completions"
        exchange.row = BY_NAME["chat.completions"]
        exchange.model = "priced"
        exchange.stream = stream
        for name, value in known.items():
            setattr(exchange, name, value)
        provider = Provider(
            name="both", upstream=self.upstream, dialects=frozenset(("openai",)), base_path=b"/v1"
        )
        model = ScriptedGateway(self.upstream).catalog.find("priced")
        assert model is not None
        exchange.candidate = model.candidates[0]
        inner = Forwarder(
            providers={"both": provider},
            drain=drain,
            hold=silence,
            keep_alive=silence,
        )
        self._app = ErrorsMiddleware(inner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.noticed.set()
            return message

        await self._app(scope, watched, send)

    def call(self) -> Call:
        return Call(self, self.scope, body=b"")


@either_way
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_the_cost_is_a_comment_just_before_the_end(dialect: str, pumping: bool) -> None:
    sent = {
        "openai": [ROLE, HI, MORE, STOP, COST, DONE],
        "anthropic": [START, BLOCK, TEXT, DELTA, END],
    }[dialect]
    gateway = ScriptedGateway(Scripted(Answer(sent, pumping=pumping)))
    path = {"openai": CHAT, "anthropic": "/v1/messages"}[dialect]
    answer = await request(gateway.app, "POST", path, body=body("priced", stream=True))
    *before, last = answer.body.split(b": x-credits-used 0.000039\n")
    assert len(before) == 1
    assert last == sent[-1]
    assert b"x-credits" not in before[0] and before[0].endswith(b"\n\n")


async def test_streamed_and_unstreamed_twins_tell_the_same_cost() -> None:
    plain = ScriptedGateway(Scripted(Answer([PLAIN], headers=[JSON])))
    answer = await request(plain.app, "POST", CHAT, body=body("priced"))
    assert answer.header("x-credits-used") == "0.000039"
    assert plain.exchanges[0].usage == USED and plain.exchanges[0].usage_reported


async def test_a_model_without_a_price_tells_none() -> None:
    gateway = ScriptedGateway(Scripted(Answer([HI, STOP, COST, DONE])))
    answer = await request(gateway.app, "POST", CHAT, body=body("m1", stream=True))
    assert b"x-credits" not in answer.body
    assert answer.header("x-credits-used") is None


async def test_a_client_that_leaves_is_heard_out_where_its_plan_says_so() -> None:
    """QuantumNous/new-api#5287: what was really used is charged, not what was seen."""
    go_on = asyncio.Event()
    chat = Leaving(ROLE, HI, go_on, MORE, STOP, COST, DONE, on_hangup="drain")
    async with chat.call() as call:
        await call.chunk()
        call.hang_up()
        await asyncio.wait_for(chat.noticed.wait(), 5)
        assert not chat.upstream.responses[0].closed.is_set()
        go_on.set()
        record = await call.done()
    assert chat.upstream.responses[0].closed.is_set()
    exchange = chat.exchange
    assert (exchange.outcome, exchange.usage, exchange.usage_reported) == ("hung_up", USED, True)
    assert MORE not in record.body and DONE not in record.body


async def test_what_a_client_that_left_does_not_get_is_not_counted() -> None:
    go_on = asyncio.Event()
    chat = Leaving(ROLE, HI, MORE, go_on, MORE, MORE, STOP, COST, DONE, on_hangup="drain")
    app = MetricsMiddleware(chat, metrics=Metrics())
    async with Call(app, chat.scope, body=b"") as call:
        await call.chunk()  # the held events
        await call.chunk()
        call.hang_up()
        await asyncio.wait_for(chat.noticed.wait(), 5)
        go_on.set()
        record = await call.done()
    assert chat.exchange.outcome == "hung_up"
    assert chat.exchange.bytes_out == len(record.body) > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_before_the_first_byte_is_heard_out_too(stream: bool) -> None:
    go_on = asyncio.Event()
    steps: list[Step] = [ROLE, go_on, HI, STOP, COST, DONE] if stream else [go_on, PLAIN]
    chat = Leaving(*steps, stream=stream, on_hangup="drain")
    async with chat.call() as call:
        call.hang_up()
        await asyncio.wait_for(chat.noticed.wait(), 5)
        go_on.set()
        record = await call.done()
    exchange = chat.exchange
    assert (exchange.outcome, exchange.usage, exchange.usage_reported) == ("hung_up", USED, True)
    assert not record.has_started


async def test_hearing_out_has_an_end() -> None:
    chat = Leaving(ROLE, HI, asyncio.Event(), on_hangup="drain", drain=0.01)
    async with chat.call() as call:
        await call.chunk()
        call.hang_up()
        await call.done()
    assert chat.upstream.responses[0].closed.is_set()
    exchange = chat.exchange
    assert (exchange.outcome, exchange.usage_reported, exchange.output_estimate) == (
        "hung_up",
        False,
        1,
    )


async def test_an_upstream_that_breaks_while_it_is_heard_out_was_left_all_the_same() -> None:
    broken = asyncio.Event()
    chat = Leaving(ROLE, HI, broken, Disconnected("gone"), on_hangup="drain")
    async with chat.call() as call:
        await call.chunk()
        call.hang_up()
        await asyncio.wait_for(chat.noticed.wait(), 5)
        broken.set()
        record = await call.done()
    assert chat.exchange.outcome == "hung_up"
    assert not chat.exchange.usage_reported
    assert b"error" not in record.body


async def test_a_stream_is_cut_off_when_its_money_is_gone() -> None:
    """Wei-Shaw/sub2api#7002: one long stream must not run up a debt."""
    words = [HI.replace(b"Hi", b"word" * 4)] * 20
    chat = Leaving(ROLE, *words, STOP, COST, DONE, cut_off=10)
    async with chat.call() as call:
        record = await call.done()
    text = record.text
    assert 2 <= text.count("word" * 4) <= 4
    assert text.count('"insufficient_quota"') == 1 and "[DONE]" not in text
    exchange = chat.exchange
    assert (exchange.outcome, exchange.problem) == ("cut", "budget_exceeded")
    assert 10 <= exchange.output_estimate <= 16
    assert chat.upstream.responses[0].closed.is_set()


async def test_stream_cut_off_after_pings_holds_no_empty_event() -> None:
    go_on = asyncio.Event()
    words = [HI.replace(b"Hi", b"word" * 4)] * 20
    chat = Leaving(ROLE, HI, go_on, *words, STOP, COST, DONE, cut_off=10, silence=0.001)
    async with chat.call() as call:
        got = b""
        while Strict(got).comments < 2:
            got += await call.chunk()
        go_on.set()
        got += await call.rest()
        await call.done()
    assert Strict(got).events[-1]["error"]["type"] == "insufficient_quota"


async def test_a_stream_within_its_money_is_not_cut_off() -> None:
    chat = Leaving(ROLE, HI, MORE, STOP, COST, DONE, cut_off=10)
    async with chat.call() as call:
        record = await call.done()
    assert record.body.endswith(DONE)
    assert chat.exchange.outcome == "completed"
