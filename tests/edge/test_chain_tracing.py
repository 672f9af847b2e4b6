"""Traces of requests through the whole chain: trees, attributes, and what no span has."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from edge.upstreams import ConnectFailed, Disconnected
from middlewares.error_kinds import KINDS
from middlewares.tracing import genai
from tests.asgi import Recorded, request
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway, Step
from tests.otlp_receiver import Collected, Span, tree

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
CHAT = {"model": "m1", "messages": [{"role": "user", "content": "Hello"}]}
DOCUMENT: dict[str, Any] = {
    "tracing": {"ratio": 1},
    "upstreams": [
        {"name": "both", "dialect": "simulator"},
        {"name": "oai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
        {
            "name": "ant",
            "dialect": "anthropic",
            "base_url": "https://models.example.com/v1",
            "provider_name": "aws.bedrock",
        },
    ],
    "models": [
        {"id": "m1", "targets": ["oai/o1"], "price": {"input": "1", "output": "2"}},
        {"id": "claude", "targets": ["ant/a1"]},
        {"id": "wide", "targets": ["oai/o1", "ant/a1"]},
        {"id": "falls", "targets": ["oai/o1"], "fallbacks": ["claude"]},
    ],
}


def chat_answer(**usage: Any) -> bytes:
    message = {"role": "assistant", "content": "Hi"}
    return json.dumps(
        {
            "id": "chatcmpl-7",
            "object": "chat.completion",
            "created": 1,
            "model": "o1-2026",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35, **usage},
        }
    ).encode()


MESSAGE = json.dumps(
    {
        "id": "msg_9",
        "type": "message",
        "role": "assistant",
        "model": "a1",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "output_tokens": 4,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 7,
        },
    }
).encode()


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    about = {"id": "c7", "object": "chat.completion.chunk", "created": 1, "model": "o1-2026"}
    return b"data: " + json.dumps({**about, "choices": [choice], **more}).encode() + b"\n\n"


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STREAM = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hi"}),
    chunk({}, "length"),
    chunk({}, None, usage=USAGE).replace(b'"choices": [{', b'"choices": [], "x": [{'),
    b"data: [DONE]\n\n",
)
UPSTREAM_CANARY = "upstream-canary-text"
REFUSAL = json.dumps({"error": {"message": UPSTREAM_CANARY, "type": "server_error"}}).encode()


def plain(body: bytes, status: int = 200, before: Sequence[Step] = ()) -> Answer:
    return Answer([body], status=status, headers=(JSON,), before=before)


class Traced:
    """A gateway all of whose requests are traced."""

    def __init__(self, *answers: Answer, **document: Any) -> None:
        self.collected = Collected()
        self.up = Scripted(*answers)
        self.gateway = ScriptedGateway(
            self.up, document={**DOCUMENT, **document}, processor=self.collected
        )

    async def post(
        self, body: Any, path: str = "/v1/chat/completions", *, query: str = "", **headers: str
    ) -> Recorded:
        return await request(
            self.gateway.app, "POST", path, json=body, headers=headers, query=query
        )

    @property
    def spans(self) -> list[Span]:
        return self.collected.spans()

    def one(self, kind: str) -> Span:
        (span,) = [span for span in self.spans if span.kind == kind]
        return span

    def sent(self, number: int = -1) -> dict[bytes, bytes]:
        """Headers of a request to the upstream, each of which is there once."""
        pairs = self.up.requests[number].headers
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)


async def test_the_tree_leads_from_the_caller_to_the_upstream() -> None:
    traced = Traced(plain(chat_answer()))
    answer = await traced.post(CHAT, traceparent=TRACEPARENT, tracestate="vendor=1")
    assert answer.status == 200
    server, client = traced.one("SERVER"), traced.one("CLIENT")
    assert tree(traced.spans) == {"POST /v1/chat/completions": {"chat o1": {}}}
    assert {server.trace, client.trace} == {TRACE}
    assert (server.parent, client.parent) == (CALLER, server.id)
    assert server.state == "vendor=1"
    assert traced.sent()[b"traceparent"] == f"00-{TRACE}-{client.id}-01".encode()
    assert traced.sent()[b"tracestate"] == b"vendor=1"
    assert len({CALLER, server.id, client.id}) == 3
    assert server.started <= client.started
    assert server.took >= client.took > 0


async def test_a_request_without_a_parent_begins_a_trace() -> None:
    traced = Traced(plain(chat_answer()))
    for given in ({}, {"traceparent": "00-nonsense"}, {"traceparent": f"ff-{TRACE}-{CALLER}-01"}):
        await traced.post(CHAT, tracestate="vendor=1", baggage="user=alice", **given)
        assert b"tracestate" not in traced.sent()
        assert b"baggage" not in traced.sent()
    servers = [span for span in traced.spans if span.kind == "SERVER"]
    assert len({span.trace for span in servers} - {TRACE}) == 3
    assert {span.parent for span in servers} == {""}


async def test_attributes_of_a_plain_answer() -> None:
    traced = Traced(
        plain(
            chat_answer(
                prompt_tokens_details={"cached_tokens": 12},
                completion_tokens_details={"reasoning_tokens": 2},
            )
        )
    )
    body = {**CHAT, "max_completion_tokens": 50, "temperature": 1, "top_p": 0.5, "seed": 7}
    body |= {"stop": ["a", "b"], "reasoning_effort": "low", "presence_penalty": 0.25}
    answer = await traced.post({**body, "response_format": {"type": "json_object"}})
    server, client = traced.one("SERVER"), traced.one("CLIENT")
    assert client.name == "chat o1"
    assert client.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "o1",
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ("a", "b"),
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.request.presence_penalty": 0.25,
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "chatcmpl-7",
        "gen_ai.response.model": "o1-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 12,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "http.response.status_code": 200,
        "penstock.upstream": "oai",
        "server.address": "127.0.0.1",
        "server.port": 9,
    }
    headers = dict(answer.headers)
    cost = float(headers[b"x-credits-used"])
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "server.address": server.attributes["server.address"],
        "server.port": server.attributes["server.port"],
        "penstock.request_id": headers[b"x-request-id"].decode(),
        "penstock.model": "m1",
        "penstock.served": "m1",
        "penstock.outcome": "completed",
        "penstock.credits": pytest.approx(cost),
    }
    assert not server.failed
    assert not client.failed
    assert not any(span.events for span in traced.spans)


async def test_input_tokens_of_anthropic_include_the_cache() -> None:
    traced = Traced(plain(MESSAGE))
    body = {"model": "claude", "max_tokens": 9, "top_k": 4, "messages": CHAT["messages"]}
    assert (await traced.post(body, "/v1/messages")).status == 200
    client = traced.one("CLIENT")
    assert client.attributes["gen_ai.provider.name"] == "aws.bedrock"
    assert (client.attributes["server.address"], client.attributes["server.port"]) == (
        "models.example.com",
        443,
    )
    assert client.attributes["gen_ai.request.top_k"] == 4
    assert client.attributes["gen_ai.response.finish_reasons"] == ("max_tokens",)
    assert {name: value for name, value in client.attributes.items() if "usage" in name} == {
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.cache_write.input_tokens": 7,
        "gen_ai.usage.cache_creation.input_tokens": 7,
    }


@pytest.mark.parametrize("pumping", [False, True])
async def test_attributes_of_a_stream(pumping: bool) -> None:
    traced = Traced(Answer(STREAM, pumping=pumping))
    assert (await traced.post({**CHAT, "stream": True})).status == 200
    client = traced.one("CLIENT")
    assert client.attributes["gen_ai.request.stream"] is True
    assert client.attributes["gen_ai.response.id"] == "c7"
    assert client.attributes["gen_ai.response.finish_reasons"] == ("length",)
    assert 0 < client.attributes["gen_ai.response.time_to_first_chunk"] <= client.took
    assert client.attributes["gen_ai.usage.output_tokens"] == 2


async def test_a_long_stream_has_its_id_and_its_reason() -> None:
    words = [chunk({"content": f"word {n} "}) for n in range(2000)]
    traced = Traced(Answer([*STREAM[:2], *words, *STREAM[2:]]))
    assert (await traced.post({**CHAT, "stream": True})).status == 200
    client = traced.one("CLIENT")
    assert client.attributes["gen_ai.response.id"] == "c7"
    assert client.attributes["gen_ai.response.finish_reasons"] == ("length",)


async def test_fallback_shows_both_attempts_with_ids_of_their_own() -> None:
    traced = Traced(plain(REFUSAL, 500), plain(MESSAGE))
    answer = await traced.post({**CHAT, "model": "falls"}, traceparent=TRACEPARENT)
    assert answer.status == 200
    first, second = (span for span in traced.spans if span.kind == "CLIENT")
    server = traced.one("SERVER")
    assert (first.name, second.name) == ("chat o1", "chat a1")
    assert {first.parent, second.parent} == {server.id}
    assert first.failed
    assert first.attributes["error.type"] == "upstream_error"
    assert first.attributes["http.response.status_code"] == 500
    assert "gen_ai.response.finish_reasons" not in first.attributes
    assert not second.failed
    assert server.attributes["penstock.fallback_depth"] == 1
    assert server.attributes["penstock.served"] == "claude"
    assert not server.failed
    for number, span in enumerate((first, second)):
        assert traced.sent(number)[b"traceparent"] == f"00-{TRACE}-{span.id}-01".encode()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({**CHAT, "model": "no-such-model"}, {}, 404),
        ({"model": "m1"}, {}, 400),
        ({**CHAT, "models": 7}, {}, 400),
    ],
)
async def test_a_refusal_has_no_span_of_an_attempt(
    body: Any, headers: dict[str, str], status: int
) -> None:
    traced = Traced(plain(chat_answer()))
    assert (await traced.post(body, **headers)).status == status
    (span,) = traced.spans
    assert span.kind == "SERVER"
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes["penstock.outcome"] == "refused"
    assert "error.type" not in span.attributes
    assert not span.failed


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (plain(REFUSAL, 500), "upstream_error", 502),
        (plain(b"", before=[ConnectFailed(UPSTREAM_CANARY)]), "upstream_unavailable", 503),
        (plain(b"", before=[Disconnected(UPSTREAM_CANARY, sent=True)]), "upstream_error", 502),
        (plain(b"<html>" + UPSTREAM_CANARY.encode()), "upstream_error", 502),
    ],
)
async def test_a_failure_names_its_kind_and_nothing_else(
    answer: Answer, kind: str, status: int
) -> None:
    traced = Traced(answer, fallback={"retries": 0})
    assert (await traced.post(CHAT)).status == status
    server, client = traced.one("SERVER"), traced.one("CLIENT")
    for span in (server, client):
        assert span.failed
        assert span.attributes["error.type"] == kind
    assert server.attributes["penstock.outcome"] == "failed"
    assert UPSTREAM_CANARY.encode() not in traced.collected.exported()


async def test_a_cut_stream_ended_with_an_error() -> None:
    traced = Traced(Answer([*STREAM[:2], Disconnected(UPSTREAM_CANARY, sent=True)]))
    await traced.post({**CHAT, "stream": True})
    server, client = traced.one("SERVER"), traced.one("CLIENT")
    assert client.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert client.attributes["error.type"] == server.attributes["error.type"] == "upstream_error"
    assert server.attributes["penstock.outcome"] == "cut"
    assert server.attributes["http.response.status_code"] == 200
    assert server.failed


async def test_unsampled_requests_send_the_flag_0_and_failures_are_traced_once_a_second() -> None:
    traced = Traced(plain(REFUSAL, 500), tracing={"ratio": 0}, fallback={"retries": 0})
    for _ in range(3):
        assert (await traced.post(CHAT)).status == 502
        assert traced.sent()[b"traceparent"].endswith(b"-00")
    server, client = traced.one("SERVER"), traced.one("CLIENT")
    assert client.parent == server.id
    assert client.attributes["gen_ai.request.model"] == "o1"


async def test_the_flag_of_callers_is_believed_up_to_a_rate() -> None:
    traced = Traced(plain(chat_answer()), tracing={"ratio": 0, "parent_rate": 2})
    for _ in range(4):
        await traced.post(CHAT, traceparent=TRACEPARENT)
    servers = [span for span in traced.spans if span.kind == "SERVER"]
    assert 2 <= len(servers) < 4
    assert traced.sent()[b"traceparent"].startswith(f"00-{TRACE}-".encode())


async def test_an_upstream_without_trace_gets_no_header() -> None:
    upstreams = [{**one, "trace": False} for one in DOCUMENT["upstreams"]]
    collected = Collected()
    up = Scripted(plain(chat_answer()))
    document = {**DOCUMENT, "upstreams": upstreams}
    gateway = ScriptedGateway(up, document=document, configured=True, processor=collected)
    headers = {"traceparent": TRACEPARENT}
    answer = await request(gateway.app, "POST", "/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.status == 200
    assert not up.header(b"traceparent")
    assert [span.kind for span in collected.spans()] == ["CLIENT", "SERVER"]


async def test_without_tracing_no_header_is_sent_and_none_of_the_callers() -> None:
    up = Scripted(plain(chat_answer()))
    gateway = ScriptedGateway(up, document=DOCUMENT)
    headers = {"traceparent": TRACEPARENT, "tracestate": "a=1", "baggage": "b=1"}
    answer = await request(gateway.app, "POST", "/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.status == 200
    for name in (b"traceparent", b"tracestate", b"baggage"):
        assert not up.header(name)
    assert gateway.exchanges[0].trace_id == 0
    assert "trace_id" not in gateway.log[0]


async def test_the_log_line_has_the_trace_of_sampled_requests() -> None:
    traced = Traced(plain(chat_answer()))
    await traced.post(CHAT, traceparent=TRACEPARENT)
    assert traced.gateway.log[0]["trace_id"] == TRACE
    unsampled = Traced(plain(chat_answer()), tracing={"ratio": 0})
    await unsampled.post(CHAT)
    assert "trace_id" not in unsampled.gateway.log[0]


async def test_probes_are_not_traced_and_unknown_paths_show_nothing_of_themselves() -> None:
    traced = Traced(plain(chat_answer()))
    assert (await request(traced.gateway.app, "GET", "/livez")).status == 200
    assert not traced.spans
    await request(traced.gateway.app, "GET", "/somebody@example.com")
    assert traced.one("SERVER").name == "GET"
    assert b"somebody" not in traced.collected.exported()


@pytest.mark.parametrize("path", ["/livez", "/metrics"])
async def test_a_trace_of_a_probe_that_has_no_spans_is_in_no_exemplar(path: str) -> None:
    traced = Traced(plain(chat_answer()))
    headers = {"traceparent": TRACEPARENT}
    for method in ("GET", "POST"):
        await request(traced.gateway.app, method, path, headers=headers)
    await traced.post(CHAT)
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    shown = (await request(traced.gateway.app, "GET", "/metrics", headers=accept)).body.decode()
    lines = [line for line in shown.splitlines() if "request_id=" in line]
    assert any('endpoint="ops"' in line for line in lines)
    assert {"trace_id=" in line for line in lines if 'endpoint="ops"' in line} == {False}
    own = [line for line in lines if 'endpoint="chat.completions"' in line]
    assert own and all(traced.one("SERVER").trace in line for line in own)


async def test_embeddings_and_completions_have_operations_of_their_own() -> None:
    vectors = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "model": "o1",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    traced = Traced(plain(json.dumps(vectors).encode()))
    body = {"model": "m1", "input": "x", "encoding_format": "float", "dimensions": 1}
    assert (await traced.post(body, "/v1/embeddings")).status == 200
    client = traced.one("CLIENT")
    assert client.name == "embeddings o1"
    assert client.attributes["gen_ai.request.encoding_formats"] == ("float",)
    assert client.attributes["gen_ai.embeddings.dimension.count"] == 1
    legacy = Traced(plain(chat_answer()))
    assert (await legacy.post({"model": "m1", "prompt": "x"}, "/v1/completions")).status == 200
    assert legacy.one("CLIENT").name == "text_completion o1"


def typed(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, tuple):
        return isinstance(value, tuple) and all(type(one) is wanted[0] for one in value)
    return type(value) is wanted


CANARIES = {
    "prompt": "canary-prompt-5af1",
    "argument": "canary-argument-77bc",
    "file": "canary-file-name-90d3.pdf",
    "key": "sk-canary-live-0123456789abcdef",
    "mail": "canary-person@example.com",
    "answer": "canary-answer-e88a",
    "tool": "canary_tool_4411",
    "header": "canary-header-1b2c",
    "upstream": UPSTREAM_CANARY,
}


def revealing_body() -> dict[str, Any]:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {
            "name": CANARIES["tool"],
            "arguments": json.dumps({"q": CANARIES["argument"]}),
        },
    }
    url = f"data:text/plain;base64,{'QUJD' * 4}"
    file = {"filename": CANARIES["file"], "file_data": url}
    said = f"{CANARIES['prompt']} {CANARIES['mail']} {CANARIES['key']}"
    return {
        "model": "m1",
        "messages": [
            {"role": "system", "content": said},
            {"role": "user", "content": [{"type": "text", "text": said}]},
            {"role": "user", "content": [{"type": "file", "file": file}]},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": CANARIES["argument"]},
        ],
        "tools": [{"type": "function", "function": {"name": CANARIES["tool"]}}],
        "user": CANARIES["mail"],
        "prompt_cache_key": CANARIES["mail"],
        "metadata": {"user_id": CANARIES["mail"]},
        "previous_response_id": CANARIES["mail"],
        "reasoning_effort": CANARIES["mail"],
    }


REVEALING_HEADERS = {
    "authorization": f"Bearer {CANARIES['key']}",
    "baggage": f"user={CANARIES['mail']}",
    "x-session-id": CANARIES["mail"],
    "user-agent": CANARIES["header"],
    "x-request-id": CANARIES["header"],
    "cookie": f"a={CANARIES['key']}",
}


async def exported_of(content: bool) -> tuple[bytes, list[Span]]:
    """What is exported of an answer, a stream, a failure and a refusal, full of canaries."""
    answered = chat_answer().replace(b'"Hi"', json.dumps(CANARIES["answer"]).encode())
    streamed = [part.replace(b'"Hi"', b'"canary-answer-e88a"') for part in STREAM]
    refused = plain(REFUSAL, 500)
    exported, spans = b"", []
    for answer in (plain(answered), Answer(streamed), refused):
        traced = Traced(
            answer,
            tracing={"ratio": 1, "content": content},
            fallback={"retries": 0},
            media={},
        )
        body = {**revealing_body(), "stream": len(answer.body) > 1}
        query = f"key={CANARIES['key']}"
        await traced.post(body, query=query, **REVEALING_HEADERS)
        unknown = {**body, "model": CANARIES["mail"]}
        await traced.post(unknown, query=query, **REVEALING_HEADERS)
        exported += traced.collected.exported()
        spans += traced.spans
    return exported, spans


async def test_no_exported_byte_has_anything_that_was_written_to_a_model_or_by_it() -> None:
    exported, spans = await exported_of(content=False)
    assert len(spans) == 9
    for name, canary in CANARIES.items():
        assert canary.encode() not in exported, name
    assert not [span for span in spans if set(span.attributes) & genai.CONTENT]


async def test_with_content_messages_are_there_and_media_are_hashes() -> None:
    exported, spans = await exported_of(content=True)
    client = next(span for span in spans if span.kind == "CLIENT")
    messages = json.loads(client.attributes["gen_ai.input.messages"])
    assert [message["role"] for message in messages] == [
        *("system", "user", "user", "assistant", "tool")
    ]
    assert CANARIES["prompt"] in messages[1]["parts"][0]["content"]
    (media,) = messages[2]["parts"]
    assert (media["type"], media["modality"]) == ("blob", "document")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", media["content"])
    assert messages[3]["parts"][0]["name"] == CANARIES["tool"]
    answers = [
        json.loads(span.attributes["gen_ai.output.messages"])
        for span in spans
        if "gen_ai.output.messages" in span.attributes
    ]
    expected = [{"type": "text", "content": CANARIES["answer"]}]
    assert [answer[0]["parts"] for answer in answers] == [expected, expected]
    assert [answer[0]["finish_reason"] for answer in answers] == ["stop", "length"]
    tools = json.loads(client.attributes["gen_ai.tool.definitions"])
    assert tools == [{"type": "function", "name": CANARIES["tool"]}]
    for name in ("file", "header", "upstream"):
        assert CANARIES[name].encode() not in exported, name


async def test_every_name_and_type_is_of_the_conventions() -> None:
    _, spans = await exported_of(content=True)
    seen = set()
    for span in spans:
        for name, value in span.attributes.items():
            if name.startswith("gen_ai."):
                assert span.kind == "CLIENT"
                assert typed(value, genai.TYPES[name]), (name, value)
                seen.add(name)
        error = span.attributes.get("error.type")
        assert error is None or error in KINDS
    assert len(seen) > 10
