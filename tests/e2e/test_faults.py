"""An upstream that fails: a true status or an error event, in our words, and one line of the log.

The simulator's errors are full of text that must reach no client (`SECRETS`).
"""

import asyncio
from typing import Any

import msgspec
import pytest

from edge.upstreams.simulator import SECRETS

from .program import Gateway
from .wire import ANTHROPIC, CHAT, MESSAGES, Reply, ask, chat, events, text_of

MODELS = {CHAT: "chat", MESSAGES: "claude"}
FAR = {CHAT: "far-openai", MESSAGES: "far-anthropic"}
KINDS = {502: "upstream_error", 503: "upstream_unavailable", 504: "upstream_timeout"}


class Case(msgspec.Struct, frozen=True):
    """A fault before the first content and the status it becomes."""

    fault: str
    status: int


BEFORE = (
    *(Case(f"status:{status}", 502) for status in (401, 403, 404, 409, 500, 502)),
    *(Case(f"status:{status}", 503) for status in (503, 529)),
    *(Case(f"status:{status}", 504) for status in (408, 504)),
    *(Case(f"status:{status}", 400) for status in (400, 422)),
    Case("status:413", 413),
    Case("status:429", 429),
    Case("overflow", 400),
    Case("cut:0", 502),
    Case("stall:0", 504),
    Case("garbage:0", 502),
    Case("html", 502),
    Case("empty", 502),
)
HARMLESS = (
    "slow-headers:0.3",
    "slow-first:0.3",
    "split-utf8",
    "byte-by-byte",
    "crlf",
    "pings:3",
    "crlf,pings:3,split-utf8",
    "byte-by-byte,crlf",
)


async def faulty(gateway: Gateway, path: str, words: str, *, stream: bool) -> Reply:
    body = chat(f"Hello [[sim {words}]]", MODELS[path], stream=stream)
    headers = {**gateway.bearer, **(ANTHROPIC if path == MESSAGES else {})}
    reply = await ask(gateway.url, path, body, headers)
    assert reply.whole
    shown = reply.head + reply.body
    assert not [secret for secret in (*SECRETS, "far-model", "req_") if secret.encode() in shown]
    return reply


async def line_of(gateway: Gateway, reply: Reply) -> dict[str, Any]:
    line = await asyncio.to_thread(gateway.request_line, reply.header("x-request-id"))
    assert not [secret for secret in SECRETS if secret.startswith("sk-") and secret in str(line)]
    return line


def check_error(error: dict[str, Any], path: str, kind: str) -> None:
    """A public error of a kind, in the dialect of the path."""
    if path == MESSAGES:
        overloaded = kind == "upstream_unavailable"
        assert error["type"] == ("overloaded_error" if overloaded else "api_error")
    else:
        assert (error["type"], error["code"]) == ("server_error", kind)


@pytest.mark.parametrize("case", BEFORE, ids=lambda case: case.fault)
async def test_a_failure_before_the_content_has_its_status(gateway: Gateway, case: Case) -> None:
    async def one(path: str, stream: bool) -> None:
        reply = await faulty(gateway, path, f"fault={case.fault}", stream=stream)
        seen = 529 if (case.status, path) == (503, MESSAGES) else case.status
        assert (reply.status, path, stream) == (seen, path, stream)
        assert reply.header("content-type") == "application/json"
        assert ("retry-after" in dict(reply.headers)) == (case.status in (429, 503))
        if kind := KINDS.get(case.status):
            check_error(reply.error, path, kind)
        line = await line_of(gateway, reply)
        assert (line["outcome"], line["status"]) == ("failed", seen)
        assert line["reason"].startswith(f"{FAR[path]}/far-model: ")

    await asyncio.gather(*(one(path, stream) for path in FAR for stream in (False, True)))


@pytest.mark.parametrize("fault", ["cut", "stall", "garbage", "error-event"])
async def test_a_failure_within_a_stream_is_its_last_event(gateway: Gateway, fault: str) -> None:
    async def one(path: str) -> None:
        reply = await faulty(gateway, path, f"tokens=20 rate=100 fault={fault}:8", stream=True)
        assert reply.status == 200
        assert text_of(reply.body).startswith("You said:")
        *_, last = found = events(reply.body)
        assert "[DONE]" not in found
        assert not [event for event in found if event.get("type") == "message_stop"]
        assert [event for event in found if "error" in event] == [last]
        line = await line_of(gateway, reply)
        kind = "upstream_timeout" if fault == "stall" else "upstream_error"
        if fault == "error-event":  # the provider says it is overloaded
            kind = "upstream_unavailable"
        check_error(last["error"], path, kind)
        assert (line["outcome"], line["problem"]) == ("cut", kind)
        assert line["reason"]

    await asyncio.gather(*map(one, FAR))


@pytest.mark.parametrize("fault", ["cut:1", "stall:1", "garbage:1", "error-event"])
async def test_a_failure_within_a_body_is_no_answer(gateway: Gateway, fault: str) -> None:
    async def one(path: str) -> None:
        reply = await faulty(gateway, path, f"fault={fault}", stream=False)
        status = {"stall:1": 504, "error-event": 503 if path == CHAT else 529}.get(fault, 502)
        assert (reply.status, path) == (status, path)
        assert (await line_of(gateway, reply))["outcome"] == "failed"

    await asyncio.gather(*map(one, FAR))


@pytest.mark.parametrize("fault", HARMLESS)
async def test_odd_but_right_streams_pass(gateway: Gateway, fault: str) -> None:
    async def one(path: str) -> None:
        reply = await faulty(gateway, path, f"tokens=12 fault={fault}", stream=True)
        assert reply.status == 200
        wide = "Größe, naïve, 日本語, 🎉: " if "split-utf8" in fault else ""
        assert text_of(reply.body).startswith(f"{wide}You said: Hello")
        last = events(reply.body)[-1]
        assert last == ("[DONE]" if path == CHAT else {"type": "message_stop"})
        line = await line_of(gateway, reply)
        assert (line["outcome"], line["output_tokens"]) == ("completed", 12)

    await asyncio.gather(*map(one, FAR))


async def test_content_that_does_not_come_in_time(gateway: Gateway) -> None:
    """Pings of the upstream are no content: its limit for that is a second here."""

    async def one(path: str) -> None:
        reply = await faulty(gateway, path, "fault=pings:100", stream=True)
        assert reply.status == 504
        check_error(reply.error, path, "upstream_timeout")
        assert "no content within 1 s" in (await line_of(gateway, reply))["reason"]

    await asyncio.gather(*map(one, FAR))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_is_not_there(gateway: Gateway, stream: bool) -> None:
    body = chat(model="nowhere", stream=stream)
    reply = await ask(gateway.url, CHAT, body, gateway.bearer)
    assert reply.status == 503
    assert int(reply.header("retry-after")) >= 1
    check_error(reply.error, CHAT, "upstream_unavailable")
    assert b"127.0.0.1" not in reply.head + reply.body
    assert (await line_of(gateway, reply))["upstream_status"] == 0
