"""The vendors' own clients against the simulator's server."""

from collections.abc import AsyncIterator

import anthropic
import openai
import pytest

from edge.upstreams.simulator import SimulatorServer
from tests.edge.upstreams.simulated import WEATHER


@pytest.fixture
async def server() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as running:
        yield running


@pytest.fixture
async def chat(server: SimulatorServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="sim", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def claude(server: SimulatorServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=server.url, api_key="sim", max_retries=0
    ) as client:
        yield client


async def test_openai_plain_and_streamed(chat: openai.AsyncOpenAI) -> None:
    plain = await chat.chat.completions.create(
        model="sim-1", messages=[{"role": "user", "content": "Hello"}]
    )
    stream = await chat.chat.completions.create(
        model="sim-1",
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    text = ""
    usage = None
    async for chunk in stream:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == plain.choices[0].message.content
    assert usage == plain.usage


async def test_openai_accumulates_parallel_tool_calls(chat: openai.AsyncOpenAI) -> None:
    async with chat.chat.completions.stream(
        model="sim-1",
        messages=[{"role": "user", "content": "Hi [[sim tools=3 thinking=1]]"}],
        tools=[
            {"type": "function", "function": {"name": name, "parameters": WEATHER}}
            for name in ("weather", "forecast")
        ],
    ) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["weather", "forecast", "weather"]
    assert {call.function.arguments for call in calls} == {'{"city":"sample","days":3}'}
    assert len({call.id for call in calls}) == 3


async def test_openai_embeddings_and_models(chat: openai.AsyncOpenAI) -> None:
    packed = await chat.embeddings.create(model="sim-embed", input=["a", "b"])
    floats = await chat.embeddings.create(
        model="sim-embed", input=["a", "b"], encoding_format="float"
    )
    assert [item.embedding for item in packed.data] == [item.embedding for item in floats.data]
    assert "sim-1" in [model.id async for model in await chat.models.list()]
    assert (await chat.models.retrieve("sim-9")).id == "sim-9"


async def test_openai_errors(chat: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        await chat.chat.completions.create(
            model="sim-1",
            messages=[{"role": "user", "content": "Hi [[sim fault=status:429 retry-after=2]]"}],
        )
    assert limited.value.response.headers["retry-after"] == "2"
    stream = await chat.chat.completions.create(
        model="sim-1",
        messages=[{"role": "user", "content": "Hi [[sim fault=error-event:3]]"}],
        stream=True,
    )
    with pytest.raises(openai.APIError, match="SimProvider"):
        async for _ in stream:
            pass


async def test_anthropic_plain_and_streamed(claude: anthropic.AsyncAnthropic) -> None:
    plain = await claude.messages.create(
        model="sim-1",
        max_tokens=2000,
        messages=[{"role": "user", "content": "Hello"}],
        thinking={"type": "enabled", "budget_tokens": 1024},
    )
    async with claude.messages.stream(
        model="sim-1",
        max_tokens=2000,
        messages=[{"role": "user", "content": "Hello"}],
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as stream:
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    for block, other in zip(final.content, plain.content, strict=True):
        assert other.to_dict().items() <= block.to_dict().items()
    assert final.usage.output_tokens == plain.usage.output_tokens
    assert final.stop_reason == plain.stop_reason == "end_turn"


async def test_anthropic_tool_loop_with_thinking(claude: anthropic.AsyncAnthropic) -> None:
    question: anthropic.types.MessageParam = {
        "role": "user",
        "content": "Hi [[sim tools=2 thinking=1]]",
    }
    tools: list[anthropic.types.ToolParam] = [
        {"name": "weather", "input_schema": WEATHER},
        {"name": "forecast", "input_schema": WEATHER},
    ]
    async with claude.messages.stream(
        model="sim-1", max_tokens=2000, messages=[question], tools=tools
    ) as stream:
        first = await stream.get_final_message()
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [call.input for call in calls] == [{"city": "sample", "days": 3}] * 2
    second = await claude.messages.create(
        model="sim-1",
        max_tokens=2000,
        tools=tools,
        messages=[
            question,
            {"role": "assistant", "content": first.content},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
                    for call in calls
                ],
            },
        ],
    )
    assert second.stop_reason == "end_turn"
    texts = [block.text for block in second.content if block.type == "text"]
    assert "rain and rain" in texts[0]


async def test_anthropic_counts_lists_and_errors(claude: anthropic.AsyncAnthropic) -> None:
    counted = await claude.messages.count_tokens(
        model="sim-1", messages=[{"role": "user", "content": "Hello"}]
    )
    assert counted.input_tokens > 0
    assert "sim-2" in [model.id async for model in await claude.models.list()]
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        await claude.messages.create(
            model="sim-1",
            max_tokens=9,
            messages=[{"role": "user", "content": "Hi [[sim fault=status:529]]"}],
        )
    assert overloaded.value.status_code == 529
    with pytest.raises(anthropic.APIStatusError, match="SimProvider"):
        async with claude.messages.stream(
            model="sim-1",
            max_tokens=900,
            messages=[{"role": "user", "content": "Hi [[sim fault=error-event:4]]"}],
        ) as stream:
            await stream.get_final_message()


async def test_responses_plain_and_streamed(chat: openai.AsyncOpenAI) -> None:
    plain = await chat.responses.create(
        model="sim-1",
        input="Hello [[sim tools=2 tokens=7]]",
        tools=[
            {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False},
            {"type": "custom", "name": "patch"},
        ],
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content"],
    )
    async with chat.responses.stream(
        model="sim-1",
        input="Hello [[sim tools=2 tokens=7]]",
        tools=[
            {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False},
            {"type": "custom", "name": "patch"},
        ],
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content"],
    ) as stream:
        text = "".join(
            [event.delta async for event in stream if event.type == "response.output_text.delta"]
        )
        final = await stream.get_final_response()
    kinds = ["reasoning", "message", "function_call", "custom_tool_call"]
    assert [item.type for item in final.output] == [item.type for item in plain.output] == kinds
    assert text == final.output_text == plain.output_text
    assert final.usage == plain.usage


async def test_a_responses_tool_loop_with_reasoning(chat: openai.AsyncOpenAI) -> None:
    tool: openai.types.responses.FunctionToolParam = {
        "type": "function",
        "name": "weather",
        "parameters": WEATHER,
        "strict": False,
    }
    first = await chat.responses.create(
        model="sim-1",
        input="Hi [[sim tools=1 thinking=1 strict=1]]",
        tools=[tool],
        include=["reasoning.encrypted_content"],
        store=False,
    )
    call = first.output[-1]
    assert call.type == "function_call"
    history: list[openai.types.responses.ResponseInputItemParam] = [
        {"role": "user", "content": "Hi [[sim tools=1 thinking=1 strict=1]]"},
        *[item.to_dict() for item in first.output],  # type: ignore[list-item]
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
    ]
    second = await chat.responses.create(model="sim-1", input=history, tools=[tool])
    assert "rain" in second.output_text


async def test_responses_compaction_counts_and_errors(chat: openai.AsyncOpenAI) -> None:
    compacted = await chat.responses.compact(model="sim-1", input="A long story")
    assert [item.type for item in compacted.output] == ["compaction"]
    counted = await chat.responses.input_tokens.count(model="sim-1", input="Hello")
    assert counted.input_tokens > 0
    with pytest.raises(openai.BadRequestError) as gone:
        await chat.responses.create(model="sim-1", input="Hi", previous_response_id="resp_1")
    assert gone.value.code == "previous_response_not_found"
    stream = await chat.responses.create(
        model="sim-1", input="Hi [[sim fault=error-event:4]]", stream=True
    )
    with pytest.raises(openai.APIError, match="SimProvider"):
        async for _ in stream:
            pass
