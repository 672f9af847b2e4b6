"""What the log says of an upstream that fails; and streams that are odd, but right.

The simulator's errors are full of text that must reach no client (`SECRETS`). What clients see is
in `test_fault_matrix`.
"""

import asyncio
from typing import Any

import pytest

from edge.upstreams.simulator import SECRETS

from .program import Gateway, Program, release
from .wire import ANTHROPIC, CHAT, MESSAGES, Reply, ask, chat, events, read_on, text_of

HIDDEN = (*SECRETS, "far-model", "req_")
MODELS = {CHAT: "chat", MESSAGES: "claude"}
FAR = {CHAT: "far-openai", MESSAGES: "far-anthropic"}


FAULTS = {"status:429": 429, "status:500": 502, "cut:0": 502, "html": 502}
"""Some before the first content, and their statuses; all of them are in `test_fault_matrix`."""
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


async def faulty(
    gateway: Gateway, path: str, words: str, *, stream: bool, brief: bool = False
) -> Reply:
    model = f"brief-{MODELS[path]}" if brief else MODELS[path]
    body = chat(f"Hello [[sim {words}]]", model, stream=stream)
    headers = {**gateway.bearer, **(ANTHROPIC if path == MESSAGES else {})}
    reply = await ask(gateway.url, path, body, headers)
    assert reply.whole
    shown = reply.head + reply.body
    assert not [secret for secret in HIDDEN if secret.encode() in shown]
    return reply


async def line_of(gateway: Gateway, reply: Reply) -> dict[str, Any]:
    line = await asyncio.to_thread(gateway.request_line, reply.header("x-request-id"))
    assert not [secret for secret in SECRETS if secret.startswith("sk-") and secret in str(line)]
    return line


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failure_is_one_line_of_the_log(gateway: Gateway, fault: str) -> None:
    """It says where, and what the upstream said, less what looks like a key."""

    async def one(path: str, stream: bool) -> None:
        reply = await faulty(gateway, path, f"fault={fault}", stream=stream)
        assert (reply.status, path, stream) == (FAULTS[fault], path, stream)
        line = await line_of(gateway, reply)
        assert (line["outcome"], line["status"]) == ("failed", FAULTS[fault])
        assert line["reason"].startswith(f"{FAR[path]}/far-model: ")

    await asyncio.gather(*(one(path, stream) for path in FAR for stream in (False, True)))


@pytest.mark.parametrize("fault", ["cut", "stall", "garbage", "error-event"])
async def test_so_is_a_failure_within_a_stream(
    gateway: Gateway, simulator: Program, fault: str
) -> None:
    both_have_begun = asyncio.Barrier(len(FAR))

    async def begun() -> None:
        if await both_have_begun.wait() == 0:
            await asyncio.to_thread(release, simulator)

    async def one(path: str) -> None:
        # What it says before comes by itself: a fault that comes with it is one before the content.
        words = f"tokens=20 fault=hold:7,{fault}:8"
        if fault == "stall":
            words = f"tokens=20 fault={fault}:8"
        by = {**gateway.bearer, **(ANTHROPIC if path == MESSAGES else {})}
        model = f"brief-{MODELS[path]}" if fault == "stall" else MODELS[path]
        body = chat(f"Hello [[sim {words}]]", model, stream=True)
        reply = await read_on(gateway.url, path, body, by, until=b'"You"', then=begun)
        assert (reply.status, reply.whole) == (200, True)
        assert not [one for one in HIDDEN if one.encode() in reply.head + reply.body]
        assert text_of(reply.body).startswith("You said:")
        line = await line_of(gateway, reply)
        kinds = {"stall": "upstream_timeout", "error-event": "upstream_unavailable"}
        kind = kinds.get(fault, "upstream_error")
        assert (line["outcome"], line["problem"]) == ("cut", kind)
        assert line["reason"]

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


async def test_the_log_says_which_limit_passed(gateway: Gateway) -> None:
    async def one(path: str) -> None:
        reply = await faulty(gateway, path, "fault=pings:100", stream=True, brief=True)
        assert reply.status == 504
        assert "no content within 2 s" in (await line_of(gateway, reply))["reason"]

    await asyncio.gather(*map(one, FAR))


async def test_address_of_an_unreachable_upstream_is_not_shown(gateway: Gateway) -> None:
    reply = await ask(gateway.url, CHAT, chat(model="nowhere"), gateway.bearer)
    assert reply.status == 503
    assert b"127.0.0.1" not in reply.head + reply.body
    assert (await line_of(gateway, reply))["upstream_status"] == 0
