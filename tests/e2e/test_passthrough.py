"""Bytes of an upstream that no library would write come through as they are, when they come."""

import asyncio
import json
from typing import Any

import anthropic
import pytest

from tests.edge.upstreams.fake import Fake, Peer, Script, answer
from tests.waiting import DEADLINE

from .conftest import UPSTREAM_KEY, Start, over_http
from .program import Gateway
from .wire import ANTHROPIC, CHAT, MESSAGES, ask, chat, events, line, request

EVENT_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-secret: yes\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
SIGNATURE = "EqQBCkYIBRgCKkDx+/=" * 40

MESSAGE = (
    b'event: message_start\ndata: {"type": "message_start" , "message":{"id":"msg_01","type":'
    b'"message","role":"assistant","model":"far-model","content":[],"stop_reason":null,'
    b'"usage":{"input_tokens":17,"cache_read_input_tokens":4,"cache_creation_input_tokens":2,'
    b'"output_tokens":1,"service_tier":"standard"},"container":{"id":"c_1"}}}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
    b'{"type":"thinking","thinking":"","signature":"","binding":{"v":1}}}\n\n',
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    '{"type":"thinking_delta","thinking":"\\u00e9 é \\/ 日本 \\ud83c\\udf89 '
    '\\"model\\":\\"far-model\\""}}\n\n'.encode(),
    b'event: content_block_delta\ndata: {"index":0,  "type":"content_block_delta","delta":'
    b'{"signature":"%b","type":"signature_delta"}}\n\n' % SIGNATURE.encode(),
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    b'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":'
    b'{"type":"text","text":"","citations":null}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,"delta":'
    b'{"type":"text_delta","text":"1.0 1e5 12345678901234567890"}, "new_field":1.10}\n\n',
    b'event: something_new\ndata: {"type":"something_new","of":["tomorrow"]}\n\n',
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":1}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn",'
    b'"stop_sequence":null},"usage":{"output_tokens":23},"context_management":{"x":[]}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)

CHUNKS = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model": "far-model",'
    b'"system_fingerprint":null,"choices":[{"index":0,"delta":{"role":"assistant","content":""},'
    b'"finish_reason":null}],"usage":null}\n\n',
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model": "far-model",'
    '"choices":[{"index":0,"delta":{"content":"\\u00e9 é 日本 1.0"},"finish_reason":null,'
    '"logprobs":{"new": 1.10}}],"obfuscation":"aaa","usage":null}\n\n'.encode(),
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model": "far-model",'
    b'"choices":[{"index":0,"delta":{"reasoning_content":" hm ","x":{"y":[ 1 ]}},'
    b'"finish_reason":"stop"}],"usage":null}\n\n',
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model": "far-model",'
    b'"choices":[],"usage":{"prompt_tokens":31,"completion_tokens":9,"total_tokens":40,'
    b'"prompt_tokens_details":{"cached_tokens":7}, "new":2.50}}\n\n',
    b"data: [DONE]\n\n",
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def streaming(*parts: bytes) -> Script:
    """A script that answers every request with a stream, a chunk for each part."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(EVENT_STREAM)
            for part in parts:
                await peer.send(chunk(part))
            await peer.send(b"0\r\n\r\n")

    return script


async def begin(start: Start, fake: Fake) -> Gateway:
    return await asyncio.to_thread(start, over_http(fake.url))


@pytest.mark.parametrize("cut", [None, 1, 7])
async def test_a_message_keeps_every_byte_but_the_models_name(
    start: Start, cut: int | None
) -> None:
    whole = b"".join(MESSAGE)
    parts = MESSAGE if cut is None else [whole[n : n + cut] for n in range(0, len(whole), cut)]
    async with Fake(streaming(*parts)) as fake:
        gateway = await begin(start, fake)
        headers = {"x-api-key": gateway.key, **ANTHROPIC, "anthropic-beta": "a-1,b-2"}
        asked = chat("Hi", "claude", stream=True, thinking={"type": "enabled", "new": [1.10]})
        reply = await ask(gateway.url, f"{MESSAGES}?beta=true", asked, headers)
        assert reply.whole
        # The name is spelt compactly where it is rewritten, and nowhere else.
        expected = whole.replace(b'"model":"far-model"', b'"model":"claude"', 1)
        assert reply.body == expected
        (sent,) = fake.requests
        assert sent.target == b"/v1/messages?beta=true"
        assert sent.header(b"x-api-key") == UPSTREAM_KEY.encode()
        assert sent.header(b"anthropic-beta") == b"a-1,b-2"
        assert sent.header(b"authorization") is None
        assert gateway.key.encode() not in b"".join(value for _, value in sent.headers)
        assert json.loads(sent.body) == {**asked, "model": "far-model"}
        assert "x-secret" not in dict(reply.headers)
        logged = await asyncio.to_thread(gateway.request_line, reply.header("x-request-id"))
        assert [logged[f"{kind}_tokens"] for kind in ("input", "output", "cache_read")] == [
            17,
            23,
            4,
        ]
        assert logged["cache_write_tokens"] == 2
        # And the vendor's client puts the same thinking block together.
        async with anthropic.AsyncAnthropic(
            base_url=gateway.url, api_key=gateway.key, max_retries=0
        ) as client:
            messages: list[Any] = [{"role": "user", "content": "Hi"}]
            async with client.messages.stream(
                model="claude", max_tokens=9, messages=messages
            ) as stream:
                final = await stream.get_final_message()
        block = final.content[0]
        assert block.type == "thinking"
        assert block.signature == SIGNATURE
        assert block.thinking == 'é é / 日本 🎉 "model":"far-model"'
        assert final.usage.output_tokens == 23


@pytest.mark.parametrize("wanted", [True, False, None])
async def test_chunks_keep_every_byte_but_name_and_usage(start: Start, wanted: bool | None) -> None:
    options = {} if wanted is None else {"stream_options": {"include_usage": wanted, "new": 1.5}}
    async with Fake(streaming(*CHUNKS)) as fake:
        gateway = await begin(start, fake)
        asked = chat("Hi", "chat", stream=True, temperature=0.10, new={"a": [1]}, **options)
        reply = await ask(gateway.url, CHAT, asked, gateway.bearer)
        expected = [part.replace(b'"model": "far-model"', b'"model":"chat"') for part in CHUNKS]
        if not wanted:
            del expected[3]
            expected = [part.replace(b',"usage":null', b"") for part in expected]
        assert reply.body == b"".join(expected)
        (sent,) = fake.requests
        there = json.loads(sent.body)
        assert there.pop("stream_options") == {
            **asked.pop("stream_options", {}),
            "include_usage": True,
        }
        assert there == {**asked, "model": "far-model"}
        logged = await asyncio.to_thread(gateway.request_line, reply.header("x-request-id"))
        assert [logged[f"{kind}_tokens"] for kind in ("input", "output", "cache_read")] == [
            24,
            9,
            7,
        ]
        metrics = await asyncio.to_thread(gateway.metrics)
        assert metrics["penstock_tokens_total", (("kind", "cache_read"), ("model", "chat"))] == 7


async def test_unstreamed_answers_keep_every_byte_but_the_models_name(start: Start) -> None:
    body = (
        '{ "id":"x", "new" : [1.10, 1e5, 12345678901234567890], "model" : "far-model-2026", '
        '"choices":[{"message":{"content":"\\u00e9 é \\"model\\": \\"far-model\\""}}],'
        '"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    ).encode()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer(body, headers=b"content-type: application/json\r\n"))

    async with Fake(script) as fake:
        gateway = await begin(start, fake)
        reply = await ask(gateway.url, CHAT, chat("Hi", "chat"), gateway.bearer)
        assert reply.body == body.replace(b'"far-model-2026"', b'"chat"')


async def test_each_event_is_with_the_client_before_the_next_one_exists(start: Start) -> None:
    """The upstream waits with each event until the client has had the one before."""
    arrived = asyncio.Semaphore(1)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(EVENT_STREAM)
        await peer.send(chunk(CHUNKS[0]))
        for part in (CHUNKS[1], CHUNKS[1], CHUNKS[1], *CHUNKS[2:]):
            async with asyncio.timeout(DEADLINE):
                await arrived.acquire()
            await peer.send(chunk(part))
        await peer.send(b"0\r\n\r\n")

    async with Fake(script) as fake:
        gateway = await begin(start, fake)
        options = {"include_usage": True}
        asked = chat("Hi", "chat", stream=True, stream_options=options)
        async with line(gateway.url) as connection:
            await connection.send(request(CHAT, asked, gateway.bearer))
            reply = await connection.head()
            async for part in connection.parts(reply):
                reply.body += part
                arrived.release()
        assert reply.whole
        assert events(reply.body)[-1] == "[DONE]"
        assert len(events(reply.body)) == len(CHUNKS) + 2
