"""Traces of a real gateway of two workers, as a collector and an upstream see them."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from typing import Any

from middlewares.tracing.ids import new_span_id, new_trace_id
from tests.middlewares.stores.redis_server import RedisServer
from tests.otlp_receiver import receiver, tree
from tests.waiting import DEADLINE

from .conftest import Start
from .operator import change, status
from .program import until
from .scripted_upstream import SSE, Answer, frames, scripted_upstream
from .wire import CHAT, chat, line, lines_to_both_workers, request

EXPORTED = ("penstock_spans_total", (("result", "exported"),))


def answer(model: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    about = {"id": "c1", "object": "chat.completion", "created": 1, "model": model}
    return json.dumps(
        {**about, "choices": [{**choice, "finish_reason": "stop"}], "usage": usage}
    ).encode()


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    about = {"id": "c2", "object": "chat.completion.chunk", "created": 1, "model": "up-well"}
    return {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


SCRIPTS = {
    "up-well": [
        Answer(
            streamed=True,
            headers=SSE,
            pieces=frames(chunk({"content": "Hi"}), chunk({}, "stop"), done=True),
        ),
        Answer(pieces=[answer("up-well")]),
    ],
    "up-ill": [Answer(status=500, pieces=[b'{"error":{"message":"canary-of-upstream"}}'])],
}


def document(upstream: str, collector: str, **tracing: Any) -> dict[str, Any]:
    return {
        "tracing": {"endpoint": collector, "ratio": 1, "service_name": "edge", **tracing},
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [{"name": "far", "dialect": "openai", "base_url": upstream}],
        "models": [
            {"id": "well", "targets": ["far/up-well"]},
            {"id": "ill", "targets": ["far/up-ill"], "fallbacks": ["well"]},
        ],
        "fallback": {"retries": 0},
        "breaker": {"min_failures": 1000},  # so that each request tries the ill one first
    }


async def test_two_workers_send_trees_that_meet_the_upstreams_headers(
    start: Start, redis_server: RedisServer
) -> None:
    with receiver() as collector, scripted_upstream(SCRIPTS) as upstream:
        settings = document(
            upstream.url, collector.url, headers={"x-tracing-key": "env:UPSTREAM_KEY"}
        )
        settings |= {"server": {"workers": 2}, "store": {"counters": redis_server.url()}}
        gateway = await asyncio.to_thread(start, settings)
        assert gateway.key
        sent: dict[str, tuple[str, str]] = {}
        async with AsyncExitStack() as stack:
            lines = await lines_to_both_workers(gateway, stack)
            for number, connection in enumerate(lines * 3):
                trace, parent = f"{new_trace_id():032x}", f"{new_span_id():016x}"
                model = ("well", "ill", "well")[number % 3]
                stream = number % 3 == 2
                headers = {
                    **gateway.bearer,
                    "traceparent": f"00-{trace}-{parent}-01",
                    "baggage": "user=canary-of-baggage",
                }
                body = chat("canary-of-prompt", model, stream=stream)
                await connection.send(request(CHAT, body, headers))
                assert (await connection.reply()).status == 200
                sent[trace] = (parent, model)
        refused = await asyncio.to_thread(
            gateway.post, CHAT, chat("canary-of-prompt", "canary-of-model")
        )
        assert refused.status_code == 404
        # With those of the refusal, and of the request that made the key.
        spans = len(sent) * 2 + sum(model == "ill" for _, model in sent.values()) + 2
        await asyncio.to_thread(
            until, lambda: len(collector.spans()) >= spans, what=f"{spans} spans"
        )
        await asyncio.to_thread(
            until, lambda: gateway.metrics().get(EXPORTED) == spans, what="a count of the spans"
        )
        found = collector.spans()
        assert len(found) == len({span.id for span in found}) == spans
        assert {span.resource["service.name"] for span in found} == {"edge"}
        assert len({span.resource["service.instance.id"] for span in found}) == 2
        assert {headers["x-tracing-key"] for headers in collector.headers} == {
            "up-canary-6f1c7d02b9"
        }
        by_client: dict[str, str] = {}
        for trace, (parent, model) in sent.items():
            own = [span for span in found if span.trace == trace]
            attempts = ["chat up-well"] if model == "well" else ["chat up-ill", "chat up-well"]
            assert tree(own) == {"POST /v1/chat/completions": {one: {} for one in attempts}}
            (server,) = [span for span in own if span.kind == "SERVER"]
            assert server.parent == parent
            by_client |= {span.id: trace for span in own if span.kind == "CLIENT"}
        arrived = {}
        for asked in (asked for each in upstream.asked.values() for asked in each):
            version, trace, parent, flags = asked.headers["traceparent"].split("-")
            assert (version, flags) == ("00", "01")
            assert "baggage" not in asked.headers
            arrived[parent] = trace
        assert arrived == by_client
        made, refusal = sorted(
            (span for span in found if span.trace not in sent), key=lambda span: span.started
        )
        assert made.name == "POST /admin/v1/*"
        assert (refusal.kind, refusal.parent) == ("SERVER", "")
        for exported in collector.exports:
            assert b"canary" not in exported
        line_of = gateway.request_line(refused.headers["x-request-id"])
        assert line_of["trace_id"] == refusal.trace


async def test_a_reloaded_ratio_holds_and_a_stopping_gateway_sends_its_last_spans(
    start: Start,
) -> None:
    """Half of 200 requests: outside of 60 to 140 once in a hundred million runs."""
    with receiver() as collector, scripted_upstream(SCRIPTS) as upstream:
        settings = document(upstream.url, collector.url, ratio=0)
        gateway = await asyncio.to_thread(start, settings)
        for _ in range(5):
            answered = await asyncio.to_thread(gateway.post, CHAT, chat("Hello", "well"))
            assert answered.status_code == 200
        tracing = {**settings["tracing"], "ratio": 0.5}
        digest = await asyncio.to_thread(change, gateway, tracing=tracing)
        await asyncio.to_thread(
            until, lambda: status(gateway)["workers"][0]["digest"] == digest, what="the reload"
        )
        async with AsyncExitStack() as stack:
            lines = [await stack.enter_async_context(line(gateway.url)) for _ in range(5)]
            for _ in range(200 // len(lines)):
                for one in lines:
                    await one.send(request(CHAT, chat("Hello", "well"), gateway.bearer))
                await asyncio.gather(*(one.reply() for one in lines))
        assert await asyncio.to_thread(gateway.stop) == 0
        servers = [span for span in collector.spans() if span.name == f"POST {CHAT}"]
        flags = [asked.headers["traceparent"][-2:] for asked in upstream.asked["up-well"]]
        assert flags[:5] == ["00"] * 5
        assert flags.count("01") == len(servers)
        assert 60 <= len(servers) <= 140


@contextmanager
def black_hole() -> Iterator[str]:
    """The URL of a port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            with closing(socket.create_connection(listener.getsockname())):
                thread.join(DEADLINE)
            for one in held:
                one.close()


def test_a_collector_that_does_not_answer_delays_nothing(start: Start) -> None:
    """Start, requests and stop go on; that they take no longer is measured in `bench`."""
    with black_hole() as url, scripted_upstream(SCRIPTS) as upstream:
        gateway = start(document(upstream.url, url))
        for _ in range(20):
            assert gateway.post(CHAT, chat("Hello", "well")).status_code == 200
        assert gateway.stop() == 0
        lines = [entry for entry in gateway.log if "traces" in entry["event"]]
        assert len(lines) <= 1
        loggers = {str(entry.get("logger", "")).partition(".")[0] for entry in gateway.log}
        assert not loggers & {"opentelemetry", "urllib3"}
