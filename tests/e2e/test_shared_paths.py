"""One path for the clients of two vendors (`dialect = "auto"`), and the endpoints on offer."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from openai.types.chat import ChatCompletion

from .conftest import SECRETS, Start, over_http
from .operator import change
from .program import Gateway, Program, until
from .surfaces import MODELS
from .wire import ANTHROPIC, CHAT, MESSAGES

everywhere = pytest.mark.parametrize("model", MODELS.values())
USER: list[Any] = [{"role": "user", "content": "Hello [[sim tokens=6]]"}]
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
OPENAI_PREFIX = "/openai/v1"
DEFAULT = 48


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    """`/v1/chat/completions` for anyone, `/openai/v1` for OpenAI's clients."""
    document = over_http(simulator.url)
    document["endpoints"] = ["chat.completions", "messages", "models"]
    document["routes"] = [
        {"path": CHAT, "dialect": "auto", "prefer": "anthropic", "default_max_tokens": DEFAULT},
        {"path": f"{OPENAI_PREFIX}/chat/completions", "dialect": "openai"},
        {"path": f"{OPENAI_PREFIX}/models", "dialect": "openai"},
    ]
    program = Gateway(tmp_path_factory.mktemp("shared"), document, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture
async def chat(shared: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{shared.url}/v1", api_key=shared.key, max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def claude(shared: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=shared.url, api_key=shared.key, max_retries=0
    ) as client:
        yield client


def kinds(stream: str) -> list[str]:
    """The type of each event of Messages, or the object of each chunk of Chat Completions."""
    data = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
    return [
        line if line == "[DONE]" else (found := json.loads(line)).get("type") or found["object"]
        for line in data
    ]


# The vendors' clients


@everywhere
async def test_openai_sdk_plain_and_streamed(chat: openai.AsyncOpenAI, model: str) -> None:
    plain = await chat.chat.completions.create(model=model, messages=USER)
    stream = await chat.chat.completions.create(model=model, messages=USER, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == plain.choices[0].message.content
    assert text.startswith("You said: Hello")


@everywhere
async def test_anthropic_sdk_at_its_own_path_and_at_the_shared_one(
    claude: anthropic.AsyncAnthropic, model: str
) -> None:
    own = await claude.messages.create(model=model, max_tokens=64, messages=USER)
    asked = {"model": model, "max_tokens": 64, "messages": USER}
    there = await claude.post(CHAT, body=asked, cast_to=Message)
    assert there.content == own.content
    assert own.content[0].type == "text"
    stream = await claude.post(
        CHAT,
        body={**asked, "stream": True},
        cast_to=Message,
        stream=True,
        stream_cls=anthropic.AsyncStream[RawMessageStreamEvent],
    )
    text = ""
    async for event in stream:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
    assert text == own.content[0].text


async def test_body_of_anthropic_by_the_openai_sdk_is_answered_as_such(
    chat: openai.AsyncOpenAI,
) -> None:
    asked = {"model": "chat", "max_tokens": 64, "messages": USER, "system": "Be brief."}
    answer = await chat.post("/chat/completions", body=asked, cast_to=httpx.Response)
    assert answer.json()["type"] == "message"
    answer = await chat.post(
        "/chat/completions",
        body={"model": "chat", "messages": USER, "tools": [TOOL]},
        cast_to=httpx.Response,
    )
    assert answer.json()["type"] == "message"


async def test_errors_reach_each_sdk_as_its_own(
    shared: Gateway, chat: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await chat.chat.completions.create(model="nothing", messages=USER)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(anthropic.NotFoundError) as missing:
        await claude.post(CHAT, body={"model": "nothing", "messages": USER}, cast_to=Message)
    assert isinstance(missing.value.body, dict)
    assert missing.value.body["type"] == "error"
    assert missing.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger = chat.with_options(api_key="sk-penstock-live-nothing")
        await stranger.chat.completions.create(model="chat", messages=USER)
    assert refused.value.code == "invalid_key"
    with pytest.raises(anthropic.AuthenticationError):
        other = claude.with_options(api_key="sk-penstock-live-nothing")
        await other.post(CHAT, body={"model": "chat", "messages": USER}, cast_to=Message)
    # 401 leaves before the body is read: a plain request gets the envelope of `prefer`.
    answer = httpx.post(f"{shared.url}{CHAT}", json={"model": "chat"}, trust_env=False)
    assert (answer.status_code, answer.json()["type"]) == (401, "error")


async def test_sdk_of_openai_at_its_prefix(shared: Gateway, chat: openai.AsyncOpenAI) -> None:
    there = chat.with_options(base_url=f"{shared.url}{OPENAI_PREFIX}")
    answer = await there.chat.completions.create(model="claude", messages=USER)
    assert isinstance(answer, ChatCompletion)
    models = [model.id async for model in there.models.list()]
    assert models == [model.id async for model in chat.models.list()]
    assert set(MODELS.values()) < set(models)
    assert (await there.models.retrieve("chat")).id == "chat"
    with pytest.raises(openai.NotFoundError) as unknown:
        await there.models.retrieve("nothing")
    assert unknown.value.code == "model_not_found"


# No vendor's client


@everywhere
def test_plain_request_of_anthropics_form_gets_the_default_max_tokens(
    shared: Gateway, model: str
) -> None:
    many: list[Any] = [{"role": "user", "content": "Hello [[sim tokens=60]]"}]
    answer = shared.post(CHAT, {"model": model, "messages": many})
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert (content["type"], content["stop_reason"]) == ("message", "max_tokens")
    assert content["usage"]["output_tokens"] == DEFAULT
    # Its own path has no default.
    answer = shared.post(MESSAGES, {"model": model, "messages": USER}, **ANTHROPIC)
    assert answer.status_code == 400
    assert "max_tokens" in answer.json()["error"]["message"]


@everywhere
def test_plain_bodies_of_both_dialects_are_streamed_in_their_own(
    shared: Gateway, model: str
) -> None:
    asked = {"model": model, "messages": USER, "stream": True}
    messages = kinds(shared.post(CHAT, asked).text)
    assert messages[0] == "message_start" and messages[-1] == "message_stop"
    system = {"role": "system", "content": "Be brief."}
    for sign in ({"n": 1}, {"stop": ["zebra"]}, {"messages": [system, *USER]}):
        chunks = kinds(shared.post(CHAT, {**asked, **sign}).text)
        assert set(chunks[:-1]) == {"chat.completion.chunk"}
        assert chunks[-1] == "[DONE]"
    cursor = kinds(shared.post(CHAT, {"model": model, "input": "Hello", "stream": True}).text)
    assert set(cursor[:-1]) == {"chat.completion.chunk"}


def test_stream_that_breaks_ends_with_the_error_of_its_dialect(shared: Gateway) -> None:
    """The error is an event after content, where no status can leave any more."""
    cut: list[Any] = [{"role": "user", "content": "Hello [[sim tokens=40 fault=cut:3]]"}]
    asked = {"model": "chat", "messages": cut, "stream": True}
    anthropics = shared.post(CHAT, asked).text
    assert "event: error" in anthropics and '"type":"error"' in anthropics.replace(" ", "")
    openais = shared.post(CHAT, {**asked, "n": 1}).text
    assert "event: error" not in openais
    assert '"error"' in openais and "[DONE]" not in openais


def test_large_body_is_read_by_its_shape(shared: Gateway) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 100_000}, *USER]
    answer = shared.post(CHAT, {"model": "chat", "messages": long, "n": 1})
    assert answer.json()["object"] == "chat.completion"
    answer = shared.post(CHAT, {"model": "chat", "messages": long, "tools": [TOOL]})
    assert answer.json()["type"] == "message"


# Endpoints on offer


def test_endpoints_follow_a_reload_and_are_on_no_page(start: Start) -> None:
    document: dict[str, Any] = {
        "endpoints": ["chat.completions", "models"],
        "upstreams": [{"name": "near", "dialect": "simulator"}],
        "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
    }
    gateway = start(document)
    asked = {"model": "sim-1", "messages": USER, "max_tokens": 9}
    assert gateway.post(CHAT, asked).status_code == 200
    unknown = gateway.post("/v1/nothing", asked)
    absent = gateway.post(MESSAGES, asked)
    assert absent.status_code == unknown.status_code == 403
    assert absent.json() == unknown.json()
    assert absent.json()["error"]["code"] == "endpoint_not_allowed"
    assert "<code>/v1/messages</code>" not in gateway.get("/").text

    change(gateway, endpoints=["messages", "models"])
    until(
        lambda: gateway.post(MESSAGES, asked).status_code == 200,
        what="the endpoints of the changed file",
    )
    assert gateway.post(CHAT, asked).status_code == 403
    assert gateway.get("/health").status_code == 200
