"""The vendors' Python SDKs on priced streams with pings, over upstreams of every dialect.

Their decoders read the gateway's own bytes: the SDK's HTTP client is the real one, its transport
calls the gateway in this process.
"""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.asgi import Call, http_scope
from tests.edge.blank_lines import CALLERS, COST, Form, Haltingly, decorated
from tests.edge.dialogue import MODELS

SAID = "Hello my friend, there."
USED = (30, 20)


class InMemory(httpx2.AsyncBaseTransport):
    """Sends each request to the gateway, and tells it what has been read of the answer."""

    def __init__(self, halting: Haltingly) -> None:
        self._halting = halting
        self.got = b""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        scope = http_scope(
            request.method,
            request.url.path,
            headers=[(name, value) for name, value in request.headers.raw],
        )
        call = Call(self._halting.gateway.app, scope, body=await request.aread())
        await call.__aenter__()
        await call.started()
        return httpx2.Response(call.status, headers=call.headers, content=self._read(call))

    async def _read(self, call: Call) -> AsyncIterator[bytes]:
        try:
            while more := await call.chunk():
                self.got += more
                self._halting.heard(self.got)
                yield more
        finally:
            await call.__aexit__(None, None, None)


async def chat(client: openai.AsyncOpenAI, model: str) -> tuple[str, Any]:
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    return text, usage and (usage.prompt_tokens, usage.completion_tokens)


async def completion(client: openai.AsyncOpenAI, model: str) -> tuple[str, Any]:
    stream = await client.completions.create(
        model=model, prompt="Hi", stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    return text, usage and (usage.prompt_tokens, usage.completion_tokens)


async def response(client: openai.AsyncOpenAI, model: str) -> tuple[str, Any]:
    async with client.responses.stream(model=model, input="Hi") as stream:
        final = await stream.get_final_response()
    return final.output_text, final.usage and (final.usage.input_tokens, final.usage.output_tokens)


async def message(client: anthropic.AsyncAnthropic, model: str) -> tuple[str, Any]:
    asked: Any = {"model": model, "max_tokens": 500}
    async with client.messages.stream(
        messages=[{"role": "user", "content": "Hi"}], **asked
    ) as stream:
        final = await stream.get_final_message()
    text = "".join(block.text for block in final.content if block.type == "text")
    return text, (final.usage.input_tokens, final.usage.output_tokens)


ASK: dict[str, Any] = {
    "chat.completions": chat,
    "completions": completion,
    "responses": response,
    "messages": message,
}


@pytest.mark.parametrize(("caller", "upstream"), list(itertools.product(CALLERS, MODELS)))
@pytest.mark.parametrize("form", [bytes, decorated])
async def test_sdk_on_priced_stream_with_pings_reads_text_and_usage(
    caller: str, upstream: str, form: Form
) -> None:
    wire = InMemory(Haltingly(upstream, form))
    options: Any = {"http_client": httpx2.AsyncClient(transport=wire), "max_retries": 0}
    if caller == "messages":
        client: Any = anthropic.AsyncAnthropic(base_url="http://h", api_key="k", **options)
    else:
        client = openai.AsyncOpenAI(base_url="http://h/v1", api_key="k", **options)
    async with client:
        assert await ASK[caller](client, MODELS[upstream]) == (SAID, USED)
    assert COST.encode() + b"\n" in wire.got
