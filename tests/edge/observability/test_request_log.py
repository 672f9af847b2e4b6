"""The log line and the metrics of requests through the chain."""

import asyncio
import json
from typing import Any

import pytest

from edge.observability.log_setup import configure, info_logger
from edge.observability.request_log import RequestLogMiddleware, request_line
from edge.upstreams import ConnectFailed, Disconnected
from middlewares import Attempt, Exchange, Principal, Target, Usage
from middlewares.asgi import Receive, Scope, Send
from tests.asgi import Call, http_scope, request
from tests.edge.scripted import JSON, UPSTREAM_KEY, Answer, Scripted, ScriptedGateway

from .log_output import Out

CHAT = "/v1/chat/completions"
BODY = {"model": "m1", "messages": [{"role": "user", "content": "prompt-canary"}]}
PLAIN = (
    b'{"model":"up","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":4,'
    b'"prompt_tokens_details":{"cached_tokens":6}}}'
)
HI = b'data: {"model":"up","choices":[{"delta":{"content":"Hi"}}]}\n\n'
END = (
    b'data: {"model":"up","choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4}}\n\n'
)


async def test_metrics_after_mixed_requests_are_exact() -> None:
    up = Scripted(
        Answer([PLAIN], headers=[JSON]),
        Answer([PLAIN], headers=[JSON]),
        Answer([HI, END]),
        Answer([HI, Disconnected("cut")]),
        Answer(before=[ConnectFailed("no")]),
        Answer(status=429),
        Answer([HI, asyncio.Event()]),
    )
    gateway = ScriptedGateway(up)
    for stream in (False, False, True, True, False, False):
        await request(gateway.app, "POST", CHAT, json={**BODY, "stream": stream})
    sent = json.dumps({**BODY, "stream": True}).encode()
    scope = http_scope("POST", CHAT, headers={"content-length": str(len(sent))})
    async with Call(gateway.app, scope, body=sent) as call:
        await call.chunk()
        assert gateway.sample("penstock_requests_in_flight") == 1
        call.hang_up()
        await call.done()
    for _ in range(3):
        await request(gateway.app, "POST", CHAT, json={**BODY, "model": "nope"})
    await request(gateway.app, "GET", "/v1/models")
    await request(gateway.app, "GET", "/v1/random-" + "x" * 50)

    def count(status: str, outcome: str, model: str = "m1") -> float | None:
        return gateway.sample(
            "penstock_requests_total",
            endpoint="chat.completions",
            model=model,
            status=status,
            outcome=outcome,
        )

    assert count("200", "completed") == 3
    assert count("200", "cut") == 1
    assert count("503", "failed") == 1
    assert count("429", "failed") == 1
    assert count("200", "hung_up") == 1
    assert count("404", "refused", "") == 3
    assert gateway.sample("penstock_requests_in_flight") == 0

    def problems(kind: str) -> float | None:
        return gateway.sample("penstock_problems_total", kind=kind)

    assert problems("model_not_found") == 3
    assert problems("upstream_error") == problems("upstream_unavailable") == 1
    assert problems("rate_limited") == problems("endpoint_not_allowed") == 1

    def tokens(kind: str) -> float | None:
        return gateway.sample("penstock_tokens_total", model="m1", kind=kind)

    assert (tokens("input"), tokens("output"), tokens("cache_read")) == (4 + 4 + 10, 12, 12)
    assert tokens("cache_write") is None

    def attempts(status: str) -> float | None:
        return gateway.sample("penstock_upstream_attempts_total", upstream="both", status=status)

    assert (attempts("200"), attempts("0"), attempts("429")) == (5, 1, 1)
    endpoint = {"endpoint": "chat.completions"}
    assert gateway.sample("penstock_request_duration_seconds_count", **endpoint) == 10
    assert gateway.sample("penstock_time_to_first_content_seconds_count", model="m1") == 3
    text = gateway.metrics.exposition()[0].decode()
    assert "random" not in text and "nope" not in text


# The line


async def test_request_line_of_a_stream() -> None:
    gateway = ScriptedGateway(Scripted(Answer([HI, END])))
    headers = {"x-request-id": "theirs-1"}
    answer = await request(
        gateway.app,
        "POST",
        CHAT,
        json={**BODY, "stream": True},
        headers=headers,
        query="key=secret",
    )
    (line,) = gateway.log
    times = {name: line.pop(name) for name in list(line) if name.endswith("_ms")}
    assert line == {
        "event": "request",
        "request_id": answer.header("x-request-id"),
        "client_request_id": "theirs-1",
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "outcome": "completed",
        "bytes_out": len(answer.body),
        "client": "127.0.0.1",
        "key": "127.0.0.1",
        "model": "m1",
        "stream": True,
        "served": "m1",
        "upstream": "both",
        "upstream_model": "upstream-model-x",
        "upstream_status": 200,
        "input_tokens": 10,
        "output_tokens": 4,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
    }
    assert set(times) == {"duration_ms", "upstream_ms", "first_content_ms"}
    assert 0 <= times["upstream_ms"] <= times["first_content_ms"] <= times["duration_ms"]


def test_request_line_names_key_and_owner() -> None:
    principal = Principal(id="key_1", owner="ops\n", name="laptop")
    line = request_line({"method": "GET", "path": "/"}, Exchange(principal=principal), 2.0)
    assert (line["key"], line["key_name"], line["owner"]) == ("key_1", "laptop", "ops\\u000a")


def test_request_line_lists_two_attempts() -> None:
    exchange = Exchange(served="m1", fallback_from="m0", refused="budget_exceeded")
    exchange.attempts = [
        Attempt(
            Target("a", "x"),
            started=1.0,
            ended=1.5,
            status=200,
            problem="upstream_error",
            error="a/x: broke\n",
            usage=Usage(10, 2),
        ),
        Attempt(Target("b", "y"), started=1.5, ended=1.75, status=200),
    ]
    line = request_line({"method": "POST", "path": CHAT}, exchange, 2.0)
    assert line["attempts"] == [
        {
            "upstream": "a",
            "upstream_model": "x",
            "status": 200,
            "ms": 500.0,
            "problem": "upstream_error",
            "input_tokens": 10,
            "output_tokens": 2,
            "reason": "a/x: broke\\u000a",
        },
        {"upstream": "b", "upstream_model": "y", "status": 200, "ms": 250.0},
    ]
    assert (line["fallback_from"], line["downgraded_for"]) == ("m0", "budget_exceeded")
    assert (line["served"], line["upstream"]) == ("m1", "b")


async def test_request_line_names_dropped_members() -> None:
    gateway = ScriptedGateway(Scripted(Answer([b"{}"], headers=[JSON])))
    novel = {f"novel-{n}-" + "x" * 300: 1 for n in range(20)}
    asked = {**BODY, "model": "only-ant", "seed": 7, "sk-secretsecret": 1, **novel}
    await request(gateway.app, "POST", CHAT, json=asked)
    (line,) = gateway.log
    assert "`seed`" in line["dropped"]
    assert len(line["dropped"]) == 16
    assert max(map(len, line["dropped"])) <= 200
    assert "secretsecret" not in str(line)


async def test_request_line_failure_has_reason_and_refusal_no_upstream() -> None:
    gateway = ScriptedGateway(Scripted(Answer(before=[ConnectFailed("connection refused")])))
    await request(gateway.app, "POST", CHAT, json=BODY)
    await request(gateway.app, "GET", "/nothing")
    failed, refused = gateway.log
    assert failed["problem"] == "upstream_unavailable"
    assert failed["reason"] == "both/upstream-model-x: connection refused"
    assert (failed["status"], failed["outcome"], failed["upstream_status"]) == (503, "failed", 0)
    assert "first_content_ms" not in failed and "input_tokens" not in failed
    assert (refused["status"], refused["problem"]) == (404, "not_found")
    assert "upstream" not in refused and "model" not in refused


async def test_request_line_escapes_control_characters() -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    await request(gateway.app, "POST", CHAT, json={**BODY, "model": "a\x1b[2J\u2028b c"})
    await request(gateway.app, "GET", "/no\x1b[2J\x85/there")
    model, path = gateway.log
    assert model["model"] == r"a\u001b[2J\u2028b c"
    assert path["path"] == r"/no\u001b[2J\u0085/there"


async def test_request_log_skips_ops_of_operators_and_can_be_off() -> None:
    document = {"server": {"ops_networks": ["10.0.0.0/8"]}}
    gateway = ScriptedGateway(Scripted(Answer()), document=document)
    for path in ("/health", "/metrics"):
        await request(gateway.app, "GET", path, client=("10.1.2.3", 1))
    assert gateway.log == []
    for path, status in (("/health", 200), ("/metrics", 404)):
        await request(gateway.app, "GET", path, client=("192.0.2.9", 1))
        assert (gateway.log[-1]["path"], gateway.log[-1]["status"]) == (path, status)
    silent = ScriptedGateway(Scripted(Answer()), document={"log": {"requests": False}})
    await request(silent.app, "GET", "/v1/models")
    assert silent.log == []


async def test_request_log_cancelled_request_is_logged() -> None:
    gateway = ScriptedGateway(Scripted(Answer(before=[asyncio.Event()])))
    sent = json.dumps(BODY).encode()
    async with Call(gateway.app, http_scope("POST", CHAT), body=sent) as call:
        await gateway.upstream.opening.wait()
        await call.cancel()
    (line,) = gateway.log
    assert (line["status"], line["upstream_status"]) == (0, 0)


async def test_request_log_and_metrics_contain_no_secrets() -> None:
    canary = "sk-acme-live-canarycanarycanary"
    echo = b'{"error":{"message":"bad key ' + UPSTREAM_KEY + b" or " + canary.encode() + b'"}}'
    up = Scripted(
        Answer([echo], status=401),
        Answer([echo], headers=[JSON]),
        Answer([b"data: " + echo + b"\n\n"]),
        Answer([HI, b"data: " + echo + b"\n\n"]),
        Answer([PLAIN], headers=[JSON]),
    )
    gateway = ScriptedGateway(up)
    headers = {
        "authorization": f"Bearer {canary}",
        "x-api-key": canary,
        "cookie": canary,
    }
    for stream in (False, False, True, True, False):
        await request(
            gateway.app,
            "POST",
            CHAT,
            json={**BODY, "stream": stream},
            headers=headers,
            query=f"key={canary}",
        )
    assert len(gateway.log) == 5
    seen = json.dumps(gateway.log) + gateway.metrics.exposition()[0].decode()
    for secret in (canary, UPSTREAM_KEY.decode(), "prompt-canary"):
        assert secret not in seen


async def test_request_log_error_of_the_app_propagates() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    app = RequestLogMiddleware(failing, log=lambda event, fields: None)
    with pytest.raises(ZeroDivisionError):
        await request(app, "GET", "/")


@pytest.mark.parametrize("error", [OSError("disk full"), BrokenPipeError(), ValueError("closed")])
async def test_request_log_unwritable_output_is_ignored(error: Exception, restored: None) -> None:
    out = Out(error)
    sink = configure(out=out)
    gateway = ScriptedGateway(Scripted(Answer([PLAIN], headers=[JSON])))

    async def logged(scope: Scope, receive: Receive, send: Send) -> None:
        await RequestLogMiddleware(gateway.app, log=info_logger())(scope, receive, send)

    assert (await request(logged, "POST", CHAT, json=BODY)).status == 200
    sink.flush()
    assert out.writes == 1
    assert (await request(logged, "POST", CHAT, json=BODY)).status == 200


async def test_request_log_lifespan_passes() -> None:
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    await RequestLogMiddleware(app, log=lambda *_: None)({"type": "lifespan"}, nothing, nothing)
    assert reached == ["lifespan"]


async def test_request_log_quiet_endpoints_are_skipped() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).endpoint = scope["path"][1:]

    log = RequestLogMiddleware(
        app,
        log=lambda _, line: seen.append(line["path"]),
        quiet=lambda exchange: exchange.endpoint == "hush",
    )
    for path in ("/hush", "/loud"):
        async with Call(log, http_scope("GET", path)) as call:
            await call.ended()
    assert seen == ["/loud"]
