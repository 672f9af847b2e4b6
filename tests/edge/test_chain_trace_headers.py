"""Every kind of request sends the trace of its attempt, once, and never the caller's own."""

import json
from typing import Any

import pytest

from tests.asgi import request
from tests.edge.media.forms.wire import form, part
from tests.edge.scripted import JSON, SSE, Answer, Scripted, ScriptedGateway
from tests.otlp_receiver import Collected

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLERS = {
    "traceparent": f"00-{TRACE}-{CALLER}-01",
    "tracestate": "vendor=1",
    "baggage": "user=canary",
}
DOCUMENT: dict[str, Any] = {
    "tracing": {"ratio": 1},
    "models": [
        {"id": "chat", "targets": ["oai/o1"]},
        {"id": "claude", "targets": ["ant/a1"]},
        {"id": "resp", "targets": ["res/r1"]},
        {
            "id": "media",
            "targets": ["oai/o1"],
            "modalities": ["text", "audio"],
            "price": {"image": "1", "character": "1", "audio_minute": "1"},
        },
    ],
    "upstreams": [
        {"name": "oai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
        {"name": "ant", "dialect": "anthropic", "base_url": "http://127.0.0.1:9/v1"},
        {"name": "res", "dialect": "responses", "base_url": "http://127.0.0.1:9/v1"},
    ],
}
MESSAGES = [{"role": "user", "content": "Hello"}]
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
CHAT = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "o1",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
}
CHUNK = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "o1",
    "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}],
}
MESSAGE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "a1",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "r1",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
}
VECTORS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "model": "o1",
    "usage": {"prompt_tokens": 1, "total_tokens": 1},
}
IMAGES = {"created": 1, "data": [{"b64_json": "QUJD"}]}
SPOKEN = {"text": "Hello."}


def answer(content: Any) -> Answer:
    return Answer([json.dumps(content).encode()], headers=(JSON,))


STREAM = Answer(
    [b"data: " + json.dumps(CHUNK).encode() + b"\n\n", b"data: [DONE]\n\n"], headers=(SSE,)
)
SOUND = Answer([b"ID3\x04" + bytes(64)], headers=((b"content-type", b"audio/mpeg"),))
WAV = (
    b"RIFF"
    + (36 + 1600).to_bytes(4, "little")
    + b"WAVEfmt "
    + (16).to_bytes(4, "little")
    + b"\1\0\1\0"
    + (8000).to_bytes(4, "little")
    + (16000).to_bytes(4, "little")
    + b"\2\0\x10\0"
    + b"data"
    + (1600).to_bytes(4, "little")
    + bytes(1600)
)
FORM = form(part("model", b"media"), part("file", WAV, filename="a.wav", kind="audio/wav"))

KINDS: dict[str, tuple[str, Any, Answer, str]] = {
    "chat": (
        "/v1/chat/completions",
        {"model": "chat", "messages": MESSAGES},
        answer(CHAT),
        "chat o1",
    ),
    "stream": (
        "/v1/chat/completions",
        {"model": "chat", "messages": MESSAGES, "stream": True},
        STREAM,
        "chat o1",
    ),
    "translated": (
        "/v1/chat/completions",
        {"model": "claude", "messages": MESSAGES},
        answer(MESSAGE),
        "chat a1",
    ),
    "messages": (
        "/v1/messages",
        {"model": "claude", "max_tokens": 9, "messages": MESSAGES},
        answer(MESSAGE),
        "chat a1",
    ),
    "responses": ("/v1/responses", {"model": "resp", "input": "x"}, answer(RESPONSE), "chat r1"),
    "completions": (
        "/v1/completions",
        {"model": "chat", "prompt": "x"},
        answer(CHAT),
        "text_completion o1",
    ),
    "embeddings": (
        "/v1/embeddings",
        {"model": "chat", "input": "x"},
        answer(VECTORS),
        "embeddings o1",
    ),
    "count_tokens": (
        "/v1/messages/count_tokens",
        {"model": "claude", "messages": MESSAGES},
        answer({"input_tokens": 7}),
        "count_tokens a1",
    ),
    "images": (
        "/v1/images/generations",
        {"model": "media", "prompt": "x"},
        answer(IMAGES),
        "generate_content o1",
    ),
    "speech": (
        "/v1/audio/speech",
        {"model": "media", "input": "x", "voice": "alloy"},
        SOUND,
        "generate_content o1",
    ),
    "transcription": ("/v1/audio/transcriptions", FORM, answer(SPOKEN), "generate_content o1"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_sends_the_span_of_its_attempt(kind: str) -> None:
    path, body, scripted, name = KINDS[kind]
    collected, up = Collected(), Scripted(scripted)
    gateway = ScriptedGateway(up, document=DOCUMENT, processor=collected)
    headers = dict(CALLERS)
    sent: dict[str, Any] = {"json": body}
    if isinstance(body, bytes):
        headers["content-type"] = "multipart/form-data; boundary=B"
        sent = {"body": body}
    got = await request(gateway.app, "POST", path, headers=headers, **sent)
    assert got.status == 200, got.text
    (client,) = [span for span in collected.spans() if span.kind == "CLIENT"]
    assert client.name == name
    assert client.trace == TRACE
    assert up.header(b"traceparent") == [f"00-{TRACE}-{client.id}-01".encode()]
    assert up.header(b"tracestate") == [b"vendor=1"]
    assert up.header(b"baggage") == []
