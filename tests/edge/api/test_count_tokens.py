"""The two endpoints that count a prompt: the upstream's own number, else an estimate."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from edge.api.count_tokens import CountingApp
from edge.billing.token_estimate import Estimator, weigh
from edge.chain import LAYERS
from edge.config.load import parse
from edge.dialects import anthropic_messages
from edge.dialects.conversation import Conversation, Text, Turn
from edge.dialects.passthrough import Fields
from edge.proxy.intake import IntakeMiddleware
from edge.routing.catalog import Catalog
from edge.routing.paths import Paths
from edge.routing.router import RouterMiddleware
from edge.upstreams import ConnectFailed, Disconnected, TimedOut, Upstream
from edge.upstreams.provider import Provider
from edge.upstreams.simulator import SimulatorUpstream
from middlewares import ErrorsMiddleware, Exchange
from middlewares.asgi import Receive, Scope, Send
from middlewares.exchange import Dialect
from tests.asgi import Call, Recorded, http_scope, request
from tests.edge.scripted import JSON, Answer, Scripted

pytestmark = pytest.mark.simulated_time

PATHS = {"anthropic": "/v1/messages/count_tokens", "responses": "/v1/responses/input_tokens"}
ENDPOINTS = {"anthropic": "messages.count_tokens", "responses": "responses.input_tokens"}
DOCUMENT: dict[str, Any] = {
    "brand": "Acme",
    "auth": {"mode": "none"},
    "upstreams": [
        {"name": "up", "dialect": "simulator"},
        {"name": "oai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
    ],
    "models": [
        {"id": "native", "targets": ["up/upstream-model-x"]},
        {"id": "other", "targets": ["up/upstream-model-y"]},
        {"id": "foreign", "targets": ["oai/gpt-x"]},
    ],
}
TOOL = {
    "name": "get_weather",
    "description": "Get the current weather in a given location",
    "input_schema": {
        "type": "object",
        "properties": {
            "location": {
                "type": "string",
                "description": "The city and state, e.g. San Francisco, CA",
            }
        },
        "required": ["location"],
    },
}
ASKED = "What's the weather like in San Francisco?"

both = pytest.mark.parametrize("dialect", ["anthropic", "responses"])


def read_input(fields: Fields) -> Conversation:
    """Input that is one text."""
    text = msgspec.json.decode(fields["input"], type=str)
    return Conversation(turns=[Turn("user", [Text(text=text)])])


@dataclass
class ScriptedGateway:
    """The layers that a count passes, over one upstream. `now` is what its clock shows."""

    upstream: Upstream
    patience: float = 10.0
    now: float = 1000.0
    estimator: Estimator = field(default_factory=Estimator)
    exchanges: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        order = [layer.name for layer in LAYERS if layer.name in ("errors", "router", "intake")]
        assert order == ["errors", "router", "intake"]
        catalog = Catalog.build(parse(DOCUMENT))
        spoken: dict[str, tuple[Dialect, ...]] = {
            "up": ("openai", "anthropic", "responses"),
            "oai": ("openai",),
        }
        app = CountingApp(
            providers={
                name: Provider(
                    name=name,
                    upstream=self.upstream,
                    dialects=frozenset(dialects),
                    base_path=b"/v1",
                    headers=((b"content-type", b"application/json"), (b"x-api-key", b"sk-ours")),
                )
                for name, dialects in spoken.items()
            },
            estimator=self.estimator,
            readers={
                "anthropic": anthropic_messages.read_request.read_counted,
                "responses": read_input,
            },
            patience=self.patience,
            clock=lambda: self.now,
        )
        intake = IntakeMiddleware(app, catalog=catalog, limit=1 << 20, idle=10.0)
        self._app = ErrorsMiddleware(RouterMiddleware(intake, paths=Paths.of(parse(DOCUMENT))))

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.exchanges.append(Exchange.of(scope))
        await self._app(scope, receive, send)

    async def count(
        self, dialect: str = "anthropic", model: str = "native", **more: Any
    ) -> Recorded:
        body = prompt(dialect, model)
        return await request(self.app, "POST", PATHS[dialect], body=body, **more)


def prompt(dialect: str, model: str, text: str = ASKED, **members: Any) -> bytes:
    said: dict[str, Any] = {"input": text}
    if dialect == "anthropic":
        said = {"messages": [{"role": "user", "content": text}]}
    return json.dumps({"model": model, **said, **members}).encode()


def counted(dialect: str, count: int, *, spaced: bool = False) -> Answer:
    """An upstream's own counter; vendors add members."""
    said: dict[str, Any] = {"input_tokens": count, "context_management": {"x": 1}}
    if dialect == "responses":
        said = {"object": "response.input_tokens", **said}
    body = json.dumps(said, indent=2 if spaced else None).encode()
    return Answer(headers=(JSON,), body=[body[:9], body[9:]])


def refusal(status: int, message: str = "Not Found", kind: str = "not_found_error") -> Answer:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    return Answer(status=status, headers=(JSON,), body=[body])


def expected(dialect: str, count: int) -> dict[str, Any]:
    if dialect == "responses":
        return {"object": "response.input_tokens", "input_tokens": count}
    return {"input_tokens": count}


def estimate_of(answer: Recorded, dialect: str) -> int:
    """The number answered, which is no number the upstream gave."""
    assert answer.status == 200, answer.text
    said: dict[str, Any] = answer.json()
    assert said == expected(dialect, said["input_tokens"])
    text = Conversation(turns=[Turn("user", [Text(text=ASKED)])])
    assert said["input_tokens"] == Estimator().estimate("native", weigh(text))
    return int(said["input_tokens"])


@pytest.fixture(autouse=True)
async def nothing_is_left_running() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}


# The upstream's own count


@both
async def test_the_simulator_counts_what_it_would_have_billed(dialect: str) -> None:
    upstream = SimulatorUpstream()
    answer = await ScriptedGateway(upstream).count(dialect)
    said = answer.json()
    assert answer.status == 200
    assert said == expected(dialect, said["input_tokens"])
    assert said["input_tokens"] > 5
    asked = upstream.recent[-1]
    assert asked.target == b"/v1" + PATHS[dialect].removeprefix("/v1").encode()
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-length") == str(len(answer.body))


@both
async def test_only_the_number_passes(dialect: str) -> None:
    upstream = Scripted(counted(dialect, 4711, spaced=True))
    gateway = ScriptedGateway(upstream)
    answer = await gateway.count(dialect)
    assert answer.json() == expected(dialect, 4711)
    assert upstream.responses[0].closed.is_set()
    exchange = gateway.exchanges[0]
    assert (exchange.served, exchange.catalog_id, exchange.outcome) == (
        "native",
        "native",
        "completed",
    )
    [attempt] = exchange.attempts
    assert (attempt.status, attempt.error) == (200, "")
    assert attempt.ended >= attempt.started > 0


@pytest.mark.parametrize("query", [b"", b"beta=true", b"a=b&beta=true", b"secret=1"])
async def test_count_tokens_with_and_without_beta(query: bytes) -> None:
    """BerriAI/litellm#13252, envoyproxy/ai-gateway#1360: Claude Code asks with `?beta=true`."""
    upstream = Scripted(counted("anthropic", 3))
    headers = {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "interleaved-thinking-2025-05-14,claude-code-20250219",
        "x-api-key": "the-callers",
    }
    answer = await ScriptedGateway(upstream).count(query=query, headers=headers)
    assert answer.json() == {"input_tokens": 3}
    tail = b"?beta=true" if b"beta" in query else b""
    assert upstream.requests[0].target == b"/v1/messages/count_tokens" + tail
    assert upstream.header(b"anthropic-beta") == [headers["anthropic-beta"].encode()]
    assert upstream.header(b"anthropic-version") == [b"2023-06-01"]
    assert upstream.header(b"x-api-key") == [b"sk-ours"]


@pytest.mark.parametrize(
    ("dialect", "refused"),
    [
        ("anthropic", {"max_tokens": 5, "stream": True}),
        ("responses", {"store": True, "include": [], "stream": False, "max_output_tokens": 16}),
    ],
)
async def test_what_only_an_answer_needs_does_not_go_along(
    dialect: str, refused: dict[str, Any]
) -> None:
    upstream = Scripted(counted(dialect, 3))
    body = prompt(dialect, "native", thinking={"type": "adaptive"}, unknown=[1.0], **refused)
    answer = await request(ScriptedGateway(upstream).app, "POST", PATHS[dialect], body=body)
    assert answer.json()["input_tokens"] == 3
    sent = upstream.requests[0].body
    assert isinstance(sent, bytes)
    kept = {k: v for k, v in json.loads(body).items() if k not in refused}
    assert json.loads(sent) == {**kept, "model": "upstream-model-x"}


# No counter


@both
async def test_an_upstream_of_another_dialect_is_not_asked(dialect: str) -> None:
    upstream = Scripted(counted(dialect, 4711))
    gateway = ScriptedGateway(upstream)
    answer = await gateway.count(dialect, "foreign")
    estimate_of(answer, dialect)
    assert upstream.requests == []
    assert gateway.exchanges[0].attempts == []


async def test_system_and_tools_are_counted_too() -> None:
    """router-for-me/CLIProxyAPI#679 (48 counted, 728 real), decolua/9router#2337 (tools were 0)."""
    gateway = ScriptedGateway(Scripted())

    async def count(**members: Any) -> int:
        body = prompt("anthropic", "foreign", **members)
        answer = await request(gateway.app, "POST", PATHS["anthropic"], body=body)
        assert answer.status == 200, answer.text
        return int(answer.json()["input_tokens"])

    bare = await count()
    with_system = await count(system="You are a careful assistant. " * 40)
    with_tool = await count(tools=[TOOL])
    assert with_system >= bare + 40 * 6
    assert with_tool >= 403  # what the vendor's reference shows for this very request
    assert await count(tools=[TOOL, {**TOOL, "name": "again"}]) >= with_tool + 60


async def test_what_was_learnt_of_the_model_goes_into_the_estimate() -> None:
    gateway = ScriptedGateway(Scripted())
    prompt_ = Conversation(turns=[Turn("user", [Text(text=ASKED * 100)])])
    before = (await gateway.count(model="foreign")).json()["input_tokens"]
    weight = weigh(prompt_)
    gateway.estimator.learn("foreign", weight, int(weight.text * 1.5))
    assert (await gateway.count(model="foreign")).json()["input_tokens"] > before


NO_COUNT: Sequence[Callable[[], Answer]] = [
    lambda: refusal(404),
    lambda: refusal(405),
    lambda: refusal(501),
    lambda: Answer(status=302, headers=((b"location", b"/login"),)),
    lambda: Answer(status=204, headers=()),
    lambda: Answer(headers=(JSON,), body=[b'{"input_tokens":"12"}']),
    lambda: Answer(headers=(JSON,), body=[b'{"input_tokens":-1}']),
    lambda: Answer(headers=(JSON,), body=[b'{"input_tokens":null}']),
    lambda: Answer(headers=(JSON,), body=[b'{"total_tokens":12}']),
    lambda: Answer(headers=(JSON,), body=[b"[12]"]),
    lambda: Answer(headers=(JSON,), body=[b""]),
    lambda: Answer(headers=(JSON,), body=[b"<html>" + b"x" * (1 << 17), b"y" * (1 << 20)]),
    lambda: Answer(headers=(JSON,), body=[b'{"input_tokens":\xff}']),
]


@both
@pytest.mark.parametrize("answer", NO_COUNT)
async def test_an_upstream_without_a_counter_is_left_alone_for_a_while(
    answer: Callable[[], Answer], dialect: str
) -> None:
    upstream = Scripted(answer(), counted(dialect, 4711))
    gateway = ScriptedGateway(upstream)
    estimate_of(await gateway.count(dialect), dialect)
    assert gateway.exchanges[0].attempts[0].error
    gateway.now += 599.0
    estimate_of(await gateway.count(dialect, "other"), dialect)
    assert len(upstream.requests) == 1
    gateway.now += 2.0
    assert (await gateway.count(dialect)).json() == expected(dialect, 4711)
    assert all(response.closed.is_set() for response in upstream.responses)


async def test_one_endpoint_missing_says_nothing_of_the_other() -> None:
    upstream = Scripted(refusal(404), counted("responses", 4711))
    gateway = ScriptedGateway(upstream)
    estimate_of(await gateway.count("anthropic"), "anthropic")
    assert (await gateway.count("responses")).json() == expected("responses", 4711)


async def test_a_model_that_is_not_found_is_no_missing_counter() -> None:
    upstream = Scripted(refusal(404, "model: upstream-model-x"), counted("anthropic", 4711))
    gateway = ScriptedGateway(upstream)
    estimate_of(await gateway.count(), "anthropic")
    assert (await gateway.count(model="other")).json() == {"input_tokens": 4711}


# An upstream that fails

FAILURES: Sequence[Callable[[], Answer]] = [
    lambda: refusal(500, "boom", "api_error"),
    lambda: refusal(529, "Overloaded", "overloaded_error"),
    lambda: refusal(429, "slow down", "rate_limit_error"),
    lambda: refusal(401, "invalid x-api-key sk-ours-1234567", "authentication_error"),
    lambda: refusal(403, "no", "permission_error"),
    lambda: refusal(400, "Your credit balance is too low", "invalid_request_error"),
    lambda: Answer(before=[ConnectFailed("refused")]),
    lambda: Answer(before=[TimedOut("first_byte", 1.0, sent=True)]),
    lambda: Answer(headers=(JSON,), body=[b'{"input_tokens":', Disconnected("cut")]),
]


@both
@pytest.mark.parametrize("failing", FAILURES)
async def test_a_failure_on_our_side_is_an_estimate_and_soon_forgotten(
    failing: Callable[[], Answer], dialect: str
) -> None:
    upstream = Scripted(failing(), counted(dialect, 4711))
    gateway = ScriptedGateway(upstream)
    answer = await gateway.count(dialect)
    estimate_of(answer, dialect)
    [attempt] = gateway.exchanges[0].attempts
    assert attempt.error
    assert "1234567" not in attempt.error
    assert (await gateway.count(dialect)).json() == expected(dialect, 4711)


async def test_an_upstream_that_does_not_answer_is_not_waited_for() -> None:
    upstream = Scripted(Answer(before=[asyncio.Event()]))
    gateway = ScriptedGateway(upstream, patience=0.15)
    estimate_of(await gateway.count(), "anthropic")
    assert upstream.abandoned.is_set()
    assert "0.15 s" in gateway.exchanges[0].attempts[0].error


async def test_a_count_that_never_ends_is_not_waited_for() -> None:
    upstream = Scripted(Answer(headers=(JSON,), body=[b'{"input', asyncio.Event()]))
    estimate_of(await ScriptedGateway(upstream, patience=0.15).count(), "anthropic")
    assert upstream.responses[0].closed.is_set()


@pytest.mark.parametrize("answering", [False, True])
async def test_a_hang_up_reaches_the_upstream(answering: bool) -> None:
    """BerriAI/litellm#13774, QuantumNous/new-api#4184: also before the first byte."""
    wait = asyncio.Event()
    upstream = Scripted(
        Answer(headers=(JSON,), body=[b"{", wait]) if answering else Answer(before=[wait])
    )
    gateway = ScriptedGateway(upstream)
    body = prompt("anthropic", "native")
    scope = http_scope("POST", PATHS["anthropic"], headers={"content-length": str(len(body))})
    async with Call(gateway.app, scope, body=body) as call:
        await asyncio.wait_for(upstream.opening.wait(), 5)
        call.hang_up()
        assert await call.ended() is None
    assert not call.record.has_started
    closed = upstream.responses[0].closed if answering else upstream.abandoned
    assert closed.is_set()
    assert gateway.exchanges[0].outcome == "hung_up"


# What is the caller's fault


async def test_a_bad_request_is_the_callers_to_hear_in_our_words() -> None:
    upstream = Scripted(
        refusal(400, "messages: text content blocks must be non-empty", "invalid_request_error")
    )
    gateway = ScriptedGateway(upstream)
    answer = await gateway.count()
    assert answer.status == 400
    said = answer.json()["error"]
    assert said["type"] == "invalid_request_error"
    assert said["message"] == "The model did not accept the value of `messages`."
    assert gateway.exchanges[0].problem == "invalid_request"


async def test_a_prompt_too_long_to_count() -> None:
    upstream = Scripted(
        refusal(400, "prompt is too long: 208310 tokens > 200000 maximum", "invalid_request_error")
    )
    answer = await ScriptedGateway(upstream).count()
    assert answer.status == 400
    said = answer.json()["error"]["message"]
    assert said == "prompt is too long: 208310 tokens > 200000 maximum"


async def test_a_prompt_that_cannot_be_read_has_no_estimate() -> None:
    gateway = ScriptedGateway(Scripted())
    body = json.dumps({"model": "foreign", "messages": [{"role": "user", "content": 5}]}).encode()
    answer = await request(gateway.app, "POST", PATHS["anthropic"], body=body)
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "messages" in answer.json()["error"]["message"]
