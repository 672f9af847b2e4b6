"""The vendors' own clients against the real server, as their users have them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest

from .program import Gateway, Program, release

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
    "required": ["city"],
}
CHAT_TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": PARAMETERS}}
    for name in ("weather", "forecast")
]
MESSAGES_TOOLS: list[Any] = [
    {"name": name, "input_schema": PARAMETERS} for name in ("weather", "forecast")
]
SECRETS_OF_THE_PROVIDER = ("SimProvider", "simsecret", "sim-gpu", "sk-sim", "far-model")


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@pytest.fixture
async def chat(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def claude(gateway: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=gateway.url, api_key=gateway.key, max_retries=0
    ) as client:
        yield client


async def test_chat_plain_and_streamed_are_twins(chat: openai.AsyncOpenAI) -> None:
    messages = user("Hello [[sim cached=3]]")
    plain = await chat.chat.completions.create(model="chat", messages=messages)
    stream = await chat.chat.completions.create(
        model="chat", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == plain.choices[0].message.content
    assert plain.usage is not None
    assert plain.usage.prompt_tokens_details is not None
    assert plain.usage.prompt_tokens_details.cached_tokens == 3
    assert [chunk.usage for chunk in chunks if chunk.usage] == [plain.usage]
    assert chunks[-1].choices == []
    assert {chunk.model for chunk in chunks} == {"chat"} == {plain.model}


async def test_usage_is_not_shown_to_who_did_not_ask(
    chat: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    async with chat.chat.completions.with_streaming_response.create(
        model="chat", messages=user("Hello"), stream=True
    ) as response:
        request_id = response.headers["x-request-id"]
        stream = await response.parse()
        chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)
    line = gateway.request_line(request_id)
    assert line["output_tokens"] > 0
    assert line["input_tokens"] > 0
    assert line["outcome"] == "completed"


async def test_chat_accumulates_parallel_tool_calls(chat: openai.AsyncOpenAI) -> None:
    async with chat.chat.completions.stream(
        model="chat", messages=user("Hi [[sim tools=3]]"), tools=CHAT_TOOLS
    ) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["weather", "forecast", "weather"]
    assert {call.function.arguments for call in calls} == {'{"city":"sample","days":3}'}
    assert len({call.id for call in calls}) == 3
    assert final.choices[0].finish_reason == "tool_calls"


async def test_chat_takes_tool_results_back(chat: openai.AsyncOpenAI) -> None:
    first = await chat.chat.completions.create(
        model="chat", messages=user("Hi [[sim tools=2]]"), tools=CHAT_TOOLS
    )
    message = first.choices[0].message
    assert message.tool_calls is not None
    turns: list[Any] = [
        *user("Hi"),
        message.model_dump(exclude_none=True),
        *(
            {"role": "tool", "tool_call_id": call.id, "content": f"result of {call.id}"}
            for call in message.tool_calls
        ),
    ]
    second = await chat.chat.completions.create(model="chat", messages=turns, tools=CHAT_TOOLS)
    said = second.choices[0].message.content or ""
    assert all(f"result of {call.id}" in said for call in message.tool_calls)


@pytest.mark.parametrize("model", ["chat", "sim-1"])
async def test_embeddings(chat: openai.AsyncOpenAI, model: str) -> None:
    packed = await chat.embeddings.create(model=model, input=["a", "b"], dimensions=8)
    floats = await chat.embeddings.create(
        model=model, input=["a", "b"], dimensions=8, encoding_format="float"
    )
    assert [item.embedding for item in packed.data] == [item.embedding for item in floats.data]
    assert [len(item.embedding) for item in floats.data] == [8, 8]
    assert floats.model == model
    assert floats.usage.total_tokens > 0


async def test_models_of_both_vendors(
    chat: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic
) -> None:
    ids = {"sim-1", "chat", "claude", "resp", "brief-chat", "brief-claude", "brief-resp", "nowhere"}
    assert {model.id async for model in await chat.models.list()} == ids
    assert (await chat.models.retrieve("claude")).id == "claude"
    assert {model.id async for model in await claude.models.list()} == ids
    assert (await claude.models.retrieve("chat")).type == "model"
    with pytest.raises(openai.NotFoundError):
        await chat.models.retrieve("far-model")
    with pytest.raises(anthropic.NotFoundError):
        await claude.models.retrieve("far-model")


async def test_messages_plain_and_streamed_are_twins(claude: anthropic.AsyncAnthropic) -> None:
    messages = user("Hello [[sim cached=5 written=2]]")
    plain = await claude.messages.create(model="claude", max_tokens=500, messages=messages)
    async with claude.messages.stream(model="claude", max_tokens=500, messages=messages) as stream:
        text = "".join([part async for part in stream.text_stream])
        final = await stream.get_final_message()
    (block,) = plain.content
    assert block.type == "text"
    assert text == block.text
    assert (plain.usage.cache_read_input_tokens, plain.usage.cache_creation_input_tokens) == (5, 2)
    for name in (
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    ):
        assert getattr(final.usage, name) == getattr(plain.usage, name), name
    assert final.model == plain.model == "claude"
    assert final.stop_reason == plain.stop_reason == "end_turn"


async def test_messages_accumulates_parallel_tool_calls(claude: anthropic.AsyncAnthropic) -> None:
    async with claude.messages.stream(
        model="claude",
        max_tokens=500,
        messages=user("Hi [[sim tools=3 thinking=1]]"),
        tools=MESSAGES_TOOLS,
    ) as stream:
        final = await stream.get_final_message()
    calls = [block for block in final.content if block.type == "tool_use"]
    assert [call.name for call in calls] == ["weather", "forecast", "weather"]
    assert [call.input for call in calls] == [{"city": "sample", "days": 3}] * 3
    assert len({call.id for call in calls}) == 3
    assert final.stop_reason == "tool_use"


async def test_thinking_goes_there_and_back_with_its_signature(
    claude: anthropic.AsyncAnthropic,
) -> None:
    """The provider refuses a thinking block that is not the one it signed; it is then left out."""
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    async with claude.messages.stream(
        model="claude", max_tokens=2000, messages=user("Hi [[sim thinking=3]]"), thinking=thinking
    ) as stream:
        first = await stream.get_final_message()
    block = first.content[0]
    assert block.type == "thinking"
    assert block.signature
    turns: list[Any] = [
        *user("Hi"),
        {"role": "assistant", "content": [part.model_dump() for part in first.content]},
        *user("Go on"),
    ]
    second = await claude.messages.create(
        model="claude", max_tokens=2000, messages=turns, thinking=thinking
    )
    assert second.stop_reason == "end_turn"
    turns[1]["content"][0]["signature"] = "Zm9yZ2Vk"
    third = await claude.messages.create(
        model="claude", max_tokens=2000, messages=turns, thinking=thinking
    )
    assert (third.stop_reason, third.content[-1].type) == ("end_turn", "text")


@pytest.mark.parametrize(
    ("upstream", "seen"),
    [
        (400, 400),
        (401, 502),
        (403, 502),
        (404, 502),
        (429, 429),
        (500, 502),
        (503, 503),
        (504, 504),
        (529, 503),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_status_of_the_provider_reaches_chat_clients(
    chat: openai.AsyncOpenAI, upstream: int, seen: int, stream: bool
) -> None:
    words = f"[[sim retry-after=7 fault=status:{upstream}]]"
    with pytest.raises(openai.APIStatusError) as raised:
        await chat.chat.completions.create(model="chat", messages=user(words), stream=stream)
    error = raised.value
    assert error.status_code == seen
    _check_public(str(error.body), error.response.headers)
    if seen in (429, 503):
        assert error.response.headers["retry-after"] == "7"
    assert isinstance(error, openai.RateLimitError) == (seen == 429)


@pytest.mark.parametrize(
    ("upstream", "seen", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (401, 502, "api_error"),
        (403, 502, "api_error"),
        (404, 502, "api_error"),
        (429, 429, "rate_limit_error"),
        (500, 502, "api_error"),
        (503, 529, "overloaded_error"),
        (504, 504, "api_error"),
        (529, 529, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_status_of_the_provider_reaches_messages_clients(
    claude: anthropic.AsyncAnthropic, upstream: int, seen: int, kind: str, stream: bool
) -> None:
    words = f"[[sim retry-after=7 fault=status:{upstream}]]"
    with pytest.raises(anthropic.APIStatusError) as raised:
        await claude.messages.create(
            model="claude", max_tokens=100, messages=user(words), stream=stream
        )
    error = raised.value
    assert error.status_code == seen
    assert isinstance(error.body, dict)
    assert error.body["error"]["type"] == kind
    assert error.body["request_id"] == error.response.headers["request-id"] == error.request_id
    _check_public(str(error.body), error.response.headers)
    if seen in (429, 529):
        assert error.response.headers["retry-after"] == "7"


def _check_public(body: str, headers: Any) -> None:
    shown = body + str(list(headers.items()))
    assert not [secret for secret in SECRETS_OF_THE_PROVIDER if secret in shown], shown


async def test_our_own_refusals_are_the_classes_clients_know(gateway: Gateway) -> None:
    stranger = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="sk-no", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        await stranger.models.list()
    known = stranger.with_options(api_key=gateway.key)
    with pytest.raises(openai.PermissionDeniedError):
        await known.fine_tuning.jobs.list()
    with pytest.raises(openai.NotFoundError) as unknown:
        await known.chat.completions.create(model="gpt-none", messages=user("Hello"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        await known.chat.completions.create(model="chat", messages=[])
    assert wrong.value.param == "messages"
    await stranger.close()

    other = anthropic.AsyncAnthropic(base_url=gateway.url, api_key="sk-no", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        await other.models.list()
    known_there = other.with_options(api_key=gateway.key)
    with pytest.raises(anthropic.PermissionDeniedError):
        await known_there.messages.batches.list()
    with pytest.raises(anthropic.NotFoundError):
        await known_there.messages.create(model="none", max_tokens=9, messages=user("Hello"))
    with pytest.raises(anthropic.BadRequestError):
        await known_there.messages.create(model="claude", max_tokens=9, messages=[])
    await other.close()


async def test_a_model_that_no_translation_reaches_is_said(chat: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="not offered at this endpoint"):
        await chat.embeddings.create(model="claude", input="Hello")


@pytest.mark.parametrize("fault", ["error-event:6", "cut:6", "stall:6", "garbage:6"])
async def test_a_failure_within_a_stream_raises(
    chat: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, simulator: Program, fault: str
) -> None:
    """It comes when its client has seen something of the answer."""
    words = f"[[sim tokens=20 fault=hold:5,{fault}]]"
    brief = "brief-" if "stall" in fault else ""
    stream = await chat.chat.completions.create(
        model=f"{brief}chat", messages=user(words), stream=True
    )
    seen = 0
    with pytest.raises(openai.APIError) as raised:
        async for _ in stream:
            seen += 1
            if seen == 2 and not brief:
                await asyncio.to_thread(release, simulator)
    assert seen > 1
    _check_public(str(raised.value) + str(raised.value.body), {})
    async with claude.messages.stream(
        model=f"{brief}claude", max_tokens=100, messages=user(words)
    ) as messages:
        with pytest.raises(anthropic.APIStatusError) as refused:
            async for event in messages:
                if event.type == "text" and not brief:
                    await asyncio.to_thread(release, simulator)
    _check_public(str(refused.value.body), {})


async def test_a_client_that_retries_is_refused_again(gateway: Gateway) -> None:
    client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=1)
    with pytest.raises(openai.RateLimitError) as raised:
        await client.chat.completions.create(
            model="chat", messages=user("[[sim retry-after=1 fault=status:429]] retried")
        )
    assert raised.value.response.request.headers["x-stainless-retry-count"] == "1"
    await client.close()
