"""Upstream answers whose label, status or packing is not what was asked for."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.asgi import Call, Recorded, http_scope, request
from tests.edge.scripted import JSON, SSE, Answer, Scripted, ScriptedGateway, Step

BOM = b"\xef\xbb\xbf"
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
CALLERS = {"chat": CHAT, "messages": MESSAGES, "responses": RESPONSES}
GZIP = (b"content-encoding", b"gzip")

_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "up"}
PLAIN = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "up",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Good day."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "up",
    "content": [
        {"type": "thinking", "thinking": "Greet.", "signature": "c2lnbmVk"},
        {"type": "text", "text": "Good day."},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 3},
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "up",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Good day.", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
}
WHOLE = {"only-oai": PLAIN, "only-ant": MESSAGE, "only-res": RESPONSE}


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({**_CHUNK, "choices": [choice]}).encode() + b"\n\n"


EVENTS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Good "}),
    chunk({"content": "day."}),
    chunk({}, "stop"),
    b"data: " + json.dumps({**_CHUNK, "choices": [], "usage": PLAIN["usage"]}).encode() + b"\n\n",
    b"data: [DONE]\n\n",
]


def named(*events: dict[str, Any]) -> list[bytes]:
    lines = [(event["type"], json.dumps(event)) for event in events]
    return [f"event: {name}\ndata: {data}\n\n".encode() for name, data in lines]


STREAMS: dict[str, list[bytes]] = {
    "only-oai": EVENTS,
    "only-ant": named(
        {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Good day."},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 3},
        },
        {"type": "message_stop"},
    ),
    "only-res": named(
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress"}},
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "item_id": "msg_1",
            "content_index": 0,
            "delta": "Good day.",
        },
        {"type": "response.completed", "response": RESPONSE},
    ),
}
_ERROR = b'"error":{"message":"Too many","type":"rate_limit_error","code":"rate_limit_exceeded"}'
ERRORS = {
    "only-oai": b"{%b}" % _ERROR,
    "only-ant": b'{"type":"error",%b}' % _ERROR,
    "only-res": b'{"object":"response","status":"failed",%b}' % _ERROR,
}


def gateway(*answers: Answer) -> ScriptedGateway:
    document = {
        "upstreams": [
            {"name": "both", "dialect": "simulator"},
            {"name": "oai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
            {"name": "ant", "dialect": "anthropic", "base_url": "http://127.0.0.1:9/v1"},
            {"name": "res", "dialect": "responses", "base_url": "http://127.0.0.1:9/v1"},
        ],
        "models": [
            {"id": "only-oai", "targets": ["oai/o1"]},
            {"id": "only-ant", "targets": ["ant/a1"]},
            {"id": "only-res", "targets": ["res/r1"]},
        ],
    }
    return ScriptedGateway(Scripted(*answers), document=document)


def asked(caller: str, *, stream: bool, model: str = "only-oai") -> dict[str, Any]:
    turn = [{"role": "user", "content": "Hello"}]
    body: dict[str, Any] = {"model": model, "stream": stream}
    body["input" if caller == "responses" else "messages"] = turn
    return {**body, "max_tokens": 50} if caller == "messages" else body


async def ask(
    found: ScriptedGateway, caller: str = "chat", *, stream: bool, model: str = "only-oai"
) -> Recorded:
    sent = asked(caller, stream=stream, model=model)
    return await request(found.app, "POST", CALLERS[caller], json=sent)


def said(answer: Recorded) -> str:
    """The text of a stream of any dialect."""
    text = ""
    for line in answer.body.decode().splitlines():
        if not line.startswith("data: {"):
            continue
        event = json.loads(line[6:])
        if event.get("type") == "response.output_text.delta":
            text += event["delta"]
        elif event.get("type") == "content_block_delta":
            text += event["delta"].get("text", "")
        for choice in event.get("choices", ()):
            text += choice["delta"].get("content") or ""
    return text


every_caller = pytest.mark.parametrize("caller", CALLERS)
pumped = pytest.mark.parametrize("pumping", [False, True])


@every_caller
@pumped
@pytest.mark.parametrize(
    "label", [b"text/plain; charset=utf-8", b"application/octet-stream", b"application/json", b""]
)
async def test_stream_under_another_label_is_passed_on(
    caller: str, label: bytes, pumping: bool
) -> None:
    headers = [(b"content-type", label)] if label else []
    found = gateway(Answer(EVENTS, headers=headers, pumping=pumping))
    answer = await ask(found, caller, stream=True)
    assert (answer.status, said(answer)) == (200, "Good day.")
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    assert found.exchanges[0].outcome == "completed" and found.exchanges[0].usage_reported


@pytest.mark.parametrize("first", [b"", BOM, b"\r\n\n", b": hi\n\n", b"event: x\ndata: {}\n\n"])
@pytest.mark.parametrize("headers", [[SSE], []])
async def test_stream_is_known_by_its_first_bytes_however_they_are_cut(
    first: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    whole = first.replace(b"event: x\ndata: {}\n\n", b"retry: 10\n\n") + b"".join(EVENTS)
    for pieces in ([whole], [bytes([byte]) for byte in whole]):
        answer = await ask(gateway(Answer(pieces, headers=headers)), stream=True)
        assert (answer.status, said(answer)) == (200, "Good day.")
        assert BOM not in answer.body


@every_caller
@pytest.mark.parametrize(
    ("label", "body"),
    [
        (b"text/html", b"<html><body>Bad gateway data: no</body></html>"),
        (b"application/json", b'{"status":"ok"}'),
        (b"application/json", b'{"choices":'),
        (b"application/x-ndjson", b'{"message":{"content":"Hi"}}\n{"done":true}\n'),
        (b"text/plain", b"datum"),
        (b"text/plain", b""),
        (b"", b"<html>"),
    ],
)
async def test_no_stream_and_no_answer_is_a_failure(caller: str, label: bytes, body: bytes) -> None:
    found = gateway(Answer([body], headers=[(b"content-type", label)] if label else []))
    answer = await ask(found, caller, stream=True)
    assert answer.status == 502
    assert found.upstream.responses[0].closed.is_set()


@pytest.mark.parametrize("label", [JSON, SSE, (b"content-type", b"text/plain")])
@pytest.mark.parametrize("first", [b"", BOM, b"\n"])
@pytest.mark.parametrize("model", ERRORS)
async def test_error_under_200_for_a_stream_keeps_its_kind(
    model: str, label: tuple[bytes, bytes], first: bytes
) -> None:
    found = gateway(Answer([first + ERRORS[model]], headers=[label]))
    answer = await ask(found, stream=True, model=model)
    assert answer.status == 429
    assert b"Too many" not in answer.body


@pytest.mark.parametrize("model", WHOLE)
@every_caller
async def test_whole_answer_to_a_streamed_request_is_streamed(caller: str, model: str) -> None:
    found = gateway(Answer([json.dumps(WHOLE[model]).encode()], headers=[JSON]))
    answer = await ask(found, caller, stream=True, model=model)
    assert (answer.status, said(answer)) == (200, "Good day.")
    usage = found.exchanges[0].usage
    assert usage is not None and (usage.input, usage.output) == (9, 3)
    assert found.exchanges[0].outcome == "completed" and found.exchanges[0].usage_reported
    assert b'"up"' not in answer.body and b'"whole"' not in answer.body
    if (caller, model) == ("messages", "only-ant"):
        assert b"c2lnbmVk" in answer.body  # the signature, as it was


@pytest.mark.parametrize("model", STREAMS)
@pytest.mark.parametrize("caller", [*CALLERS])
@pytest.mark.parametrize("label", [SSE, JSON])
async def test_stream_in_answer_to_an_unstreamed_request_is_put_together(
    caller: str, model: str, label: tuple[bytes, bytes]
) -> None:
    found = gateway(Answer([BOM, *STREAMS[model]], headers=[label]))
    answer = await ask(found, caller, stream=False, model=model)
    assert answer.status == 200, found.exchanges[0].attempts[0].error
    assert answer.header("content-type") == "application/json"
    assert "Good day." in json.dumps(answer.json())
    usage = found.exchanges[0].usage
    assert usage is not None and (usage.input, usage.output) == (9, 3)
    assert b'"up"' not in answer.body and b'"whole"' not in answer.body


@pytest.mark.parametrize("model", STREAMS)
async def test_broken_stream_in_answer_to_an_unstreamed_request_is_a_failure(model: str) -> None:
    for steps in (STREAMS[model][:2], [b"data: {}\n\n"], [b"data: nothing"]):
        assert (await ask(gateway(Answer(steps)), stream=False, model=model)).status == 502


@pytest.mark.parametrize("status", [200, 201, 202, 203])
@pytest.mark.parametrize("stream", [False, True])
async def test_any_status_of_success_with_an_answer_is_an_answer(status: int, stream: bool) -> None:
    body: list[Step] = [*EVENTS] if stream else [json.dumps(PLAIN).encode()]
    answer = await ask(
        gateway(Answer(body, status=status, headers=[SSE if stream else JSON])), stream=stream
    )
    assert answer.status == 200
    assert b"Good " in answer.body


async def test_status_of_success_without_an_answer_is_a_failure() -> None:
    for stream in (False, True):
        answer = await ask(gateway(Answer([], status=204, headers=[])), stream=stream)
        assert answer.status == 502


@every_caller
async def test_byte_order_mark_before_a_plain_answer_is_dropped(caller: str) -> None:
    body = BOM + json.dumps(PLAIN).encode()
    answer = await ask(gateway(Answer([body[:1], body[1:]], headers=[JSON])), caller, stream=False)
    assert answer.status == 200
    assert b"Good day." in answer.body and BOM not in answer.body


async def test_byte_order_mark_before_an_error_body_hides_nothing() -> None:
    said = b'{"error":{"message":"No","type":"invalid_request_error","param":"top_p"}}'
    up = Answer([BOM + said], status=400, headers=[JSON])
    answer = await ask(gateway(up), stream=False)
    plain = await ask(gateway(Answer([said], status=400, headers=[JSON])), stream=False)
    assert answer.status == 400
    assert answer.json() == plain.json()


def deflated(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


PACKED = {
    b"gzip": gzip.compress,
    b"X-GZIP ": gzip.compress,
    b"deflate": zlib.compress,
    b"identity, gzip": gzip.compress,
    b" Deflate": lambda data: deflated(data, -zlib.MAX_WBITS),
}


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("caller", ["chat", "messages"])
async def test_compressed_plain_answer_is_decompressed(coding: bytes, caller: str) -> None:
    body = PACKED[coding](json.dumps(PLAIN).encode())
    for pieces in ([body], [bytes([byte]) for byte in body]):
        up = Answer(pieces, headers=[JSON, (b"content-encoding", coding)])
        answer = await ask(gateway(up), caller, stream=False)
        assert answer.status == 200
        assert b"Good day." in answer.body
        assert answer.header("content-encoding") is None


def flushed(coding: bytes) -> Iterator[bytes]:
    """The events of a stream, each compressed and flushed on its own."""
    packer = zlib.compressobj(wbits=31 if coding == b"gzip" else 15)
    for event in EVENTS:
        yield packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


@pumped
@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
@pytest.mark.parametrize("label", [SSE, (b"content-type", b"text/plain")])
async def test_compressed_stream_arrives_event_by_event(
    coding: bytes, label: tuple[bytes, bytes], pumping: bool
) -> None:
    role, first, *rest = flushed(coding)
    gate = asyncio.Event()
    up = Answer(
        [role, first, gate, *rest],
        headers=[label, (b"content-encoding", coding)],
        pumping=pumping,
    )
    found = gateway(up)
    sent = json.dumps(asked("chat", stream=True)).encode()
    scope = http_scope("POST", CHAT, headers={"content-length": str(len(sent))})
    async with Call(found.app, scope, body=sent) as call:
        while b"Good " not in await call.chunk():
            pass
        gate.set()  # the rest is only sent now
        answer = await call.done()
    assert said(answer) == "Good day."
    assert found.exchanges[0].outcome == "completed"


async def test_compressed_error_body_is_read() -> None:
    said = b'{"error":{"message":"No","type":"invalid_request_error","param":"top_p"}}'
    up = Answer([gzip.compress(said)], status=400, headers=[JSON, GZIP])
    answer = await ask(gateway(up), stream=False)
    plain = await ask(gateway(Answer([said], status=400, headers=[JSON])), stream=False)
    assert (answer.status, answer.json()) == (400, plain.json())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, br"])
async def test_unknown_coding_is_a_failure_that_the_log_names(coding: bytes, stream: bool) -> None:
    found = gateway(Answer([b"\x0b\x02\x80"], headers=[JSON, (b"content-encoding", coding)]))
    answer = await ask(found, stream=stream)
    assert answer.status == 502
    assert coding.decode() in found.exchanges[0].attempts[0].error


async def test_unknown_coding_of_an_error_leaves_its_status() -> None:
    up = Answer([b"\x0b\x02\x80"], status=429, headers=[JSON, (b"content-encoding", b"br")])
    assert (await ask(gateway(up), stream=False)).status == 429


async def test_plain_answer_over_the_bound_once_decompressed_is_a_failure() -> None:
    body = json.dumps({**PLAIN, "padding": "x" * (2 << 20)}).encode()
    found = gateway(Answer([gzip.compress(body)], headers=[JSON, GZIP]))
    assert (await ask(found, stream=False)).status == 502
    assert "larger than 1048576 bytes" in found.exchanges[0].attempts[0].error
