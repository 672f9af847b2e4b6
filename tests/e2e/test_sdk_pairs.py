"""The vendors' own Python clients over upstreams of every dialect.

Their helpers accumulate a stream into a final object: it must be the unstreamed answer, ids aside
(the simulator derives them from the request), and what it holds must be taken back as history.
"""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest

from .program import Gateway
from .surfaces import MODELS, PARAMETERS, TOOLS

everywhere = pytest.mark.parametrize("model", MODELS.values())
WORDS = "Hello [[sim cached=3 tools=2 thinking=1 tokens=40]]"
THOUGHT = "I read the question again"


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


def without_ids(value: Any) -> Any:
    """Plain data, less ids, times and what is derived from them."""
    gone = {"id", "created", "created_at", "completed_at", "call_id", "parsed", "parsed_arguments"}
    gone |= {"signature", "encrypted_content", "reasoning_details"}
    if isinstance(value, dict):
        return {k: without_ids(v) for k, v in value.items() if k not in gone and v is not None}
    return [without_ids(item) for item in value] if isinstance(value, list) else value


@everywhere
async def test_chat(chat: openai.AsyncOpenAI, model: str) -> None:
    functions: list[Any] = [
        {"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in TOOLS
    ]
    asked: list[Any] = [{"role": "user", "content": WORDS}]
    plain = await chat.chat.completions.create(
        model=model, messages=asked, tools=functions, reasoning_effort="low"
    )
    async with chat.chat.completions.stream(
        model=model,
        messages=asked,
        tools=functions,
        reasoning_effort="low",
        stream_options={"include_usage": True},
    ) as stream:
        final = await stream.get_final_completion()
    assert final.usage == plain.usage
    assert plain.usage is not None
    assert plain.usage.prompt_tokens_details is not None
    assert plain.usage.prompt_tokens_details.cached_tokens == 3
    message = plain.choices[0].message
    assert final.choices[0].finish_reason == plain.choices[0].finish_reason == "tool_calls"
    theirs = final.choices[0].message
    assert theirs.content == message.content
    assert (message.content or "").startswith("You said: Hello")
    assert THOUGHT in (message.model_extra or {})["reasoning_content"]
    calls = message.tool_calls or []
    streamed = theirs.tool_calls or []
    named = [
        (call.function.name, call.function.arguments) for call in calls if call.type == "function"
    ]
    assert named == [(call.function.name, call.function.arguments) for call in streamed]
    assert [name for name, _ in named] == list(TOOLS)
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"result of {call.id}"}
        for call in calls
    ]
    history: list[Any] = [
        {"role": "user", "content": "Hi"},
        message.model_dump(exclude_none=True),
        *results,
    ]
    after = await chat.chat.completions.create(model=model, messages=history, tools=functions)
    said = after.choices[0].message.content or ""
    assert said.count("result of ") == 2


@everywhere
async def test_messages(claude: anthropic.AsyncAnthropic, model: str) -> None:
    tools: list[Any] = [{"name": name, "input_schema": PARAMETERS} for name in TOOLS]
    asked: list[Any] = [{"role": "user", "content": WORDS}]
    how: Any = {
        "model": model,
        "max_tokens": 4000,
        "tools": tools,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    plain = await claude.messages.create(messages=asked, **how)
    async with claude.messages.stream(messages=asked, **how) as stream:
        final = await stream.get_final_message()
    left, right = without_ids(final.model_dump()), without_ids(plain.model_dump())
    assert left["content"] == right["content"]
    assert [block["type"] for block in right["content"]] == ["thinking", "text", *["tool_use"] * 2]
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens"):
        assert getattr(final.usage, name) == getattr(plain.usage, name)
    assert plain.usage.cache_read_input_tokens == 3
    assert final.stop_reason == plain.stop_reason == "tool_use"
    calls = [block for block in final.content if block.type == "tool_use"]
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": call.id, "content": f"result of {call.name}"}
        for call in calls
    ]
    content: Any = [block.model_dump(exclude_none=True) for block in final.content]
    history: list[Any] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": results},
    ]
    after = await claude.messages.create(messages=history, **how)
    text = "".join(block.text for block in after.content if block.type == "text")
    assert all(f"result of {name}" in text for name in TOOLS)


@everywhere
async def test_responses(chat: openai.AsyncOpenAI, model: str) -> None:
    tools: list[Any] = [
        {"type": "function", "name": name, "parameters": PARAMETERS, "strict": True}
        for name in TOOLS
    ]
    how: Any = {
        "model": model,
        "tools": tools,
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }
    plain = await chat.responses.create(input=WORDS, **how)
    async with chat.responses.stream(input=WORDS, **how) as stream:
        final = await stream.get_final_response()
    assert final.usage == plain.usage
    assert plain.usage is not None
    assert plain.usage.input_tokens_details.cached_tokens == 3
    left, right = without_ids(final.model_dump()), without_ids(plain.model_dump())
    assert left["output"] == right["output"]
    kinds = [item.type for item in plain.output]
    assert kinds == ["reasoning", "message", "function_call", "function_call"]
    results: list[Any] = [
        {"type": "function_call_output", "call_id": item.call_id, "output": f"got {item.name}"}
        for item in plain.output
        if item.type == "function_call"
    ]
    after = await chat.responses.create(
        input=results, previous_response_id=plain.id, model=model, tools=tools
    )
    assert all(f"got {name}" in after.output_text for name in TOOLS)
    kept = await chat.responses.retrieve(plain.id)
    assert kept.output_text == plain.output_text
    items = [item async for item in chat.responses.input_items.list(plain.id)]
    assert len(items) == 1
    await chat.responses.delete(plain.id)
    with pytest.raises(openai.NotFoundError):
        await chat.responses.retrieve(plain.id)


@everywhere
async def test_completions(chat: openai.AsyncOpenAI, model: str) -> None:
    plain = await chat.completions.create(model=model, prompt="Hello [[sim tokens=9]]")
    stream = await chat.completions.create(
        model=model,
        prompt="Hello [[sim tokens=9]]",
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text == plain.choices[0].text
    assert text.startswith("You said: Hello")
    assert chunks[-1].usage == plain.usage
    assert plain.choices[0].finish_reason == "stop"


@everywhere
async def test_errors_are_the_sdk_s_own(
    chat: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic, model: str
) -> None:
    with pytest.raises(openai.RateLimitError):
        await chat.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "[[sim fault=status:429]]"}]
        )
    with pytest.raises(openai.BadRequestError) as refused:
        await chat.responses.create(model=model, input="[[sim fault=overflow]]")
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        await claude.messages.create(
            model=model,
            max_tokens=9,
            messages=[{"role": "user", "content": "[[sim fault=overflow]]"}],
        )
    with pytest.raises(anthropic.APIStatusError) as broken:
        async with claude.messages.stream(
            model=model,
            max_tokens=900,
            messages=[{"role": "user", "content": "[[sim tokens=30 fault=cut:9]]"}],
        ) as stream:
            await stream.get_final_message()
    assert "api_error" in str(broken.value)


@everywhere
async def test_tokens_are_counted_before_they_are_spent(
    claude: anthropic.AsyncAnthropic, model: str
) -> None:
    messages: list[Any] = [{"role": "user", "content": "How many tokens is this? " * 40}]
    counted = await claude.messages.count_tokens(model=model, messages=messages)
    answer = await claude.messages.create(model=model, max_tokens=99, messages=messages)
    assert answer.usage.input_tokens <= counted.input_tokens < 4 * answer.usage.input_tokens
