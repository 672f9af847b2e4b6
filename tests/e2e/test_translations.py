"""Every caller's dialect over every upstream's, on a real server over real sockets.

What a caller gets is held against the vendors' own types (`tests.schemas`), plain and streamed, and
the two must say the same.
"""

import asyncio
import json
from itertools import product
from typing import Any

import pytest

from edge.upstreams.simulator import SECRETS
from tests.schemas import Summary, check_stream, summary

from .program import Gateway, Program, release
from .surfaces import MODELS, PAIRS, PARAMETERS, SURFACES, TOOLS, TRANSLATIONS, Wish
from .wire import Reply, ask, read_on

every_pair = pytest.mark.parametrize(("surface", "upstream"), PAIRS)
every_translation = pytest.mark.parametrize(("surface", "upstream"), TRANSLATIONS)


HIDDEN = (*SECRETS, "far-model", *(f"far-{word}" for word in (*MODELS, "brief")))


async def put(
    gateway: Gateway,
    surface: str,
    upstream: str,
    text: str,
    *,
    stream: bool,
    wish: Wish,
    brief: bool = False,
) -> Reply:
    by = SURFACES[surface]
    model = f"brief-{MODELS[upstream]}" if brief else MODELS[upstream]
    body = by.body(text, model, stream, wish)
    reply = await ask(gateway.url, by.path, body, {**gateway.bearer, **by.headers})
    assert reply.whole
    shown = reply.head + reply.body
    assert not [secret for secret in HIDDEN if secret.encode() in shown]
    return reply


async def twins(
    gateway: Gateway, surface: str, upstream: str, text: str, wish: Wish | None = None
) -> Summary:
    """What the streamed and the unstreamed answer both say; the log has the same usage."""
    wish = wish or Wish()
    plain, streamed = await asyncio.gather(
        put(gateway, surface, upstream, text, stream=False, wish=wish),
        put(gateway, surface, upstream, text, stream=True, wish=wish),
    )
    assert (plain.status, streamed.status) == (200, 200), plain.body + streamed.body
    assert streamed.header("content-type").startswith("text/event-stream")
    dialect = SURFACES[surface].dialect
    said = summary(dialect, plain.body)
    flown = check_stream(dialect, streamed.body, include_usage=True if dialect[0] == "c" else None)
    assert flown.without_ids() == said.without_ids()
    assert flown.usage == said.usage
    assert said.usage is not None
    for reply in (plain, streamed):
        line = await asyncio.to_thread(gateway.request_line, reply.header("x-request-id"))
        assert line["outcome"] == "completed"
        assert line["output_tokens"] == said.usage["output"]
        assert line["input_tokens"] == said.usage["input"]
    return said


@every_pair
async def test_text(gateway: Gateway, surface: str, upstream: str) -> None:
    said = await twins(gateway, surface, upstream, "Größe 日本 [[sim tokens=30 cached=7]]")
    assert said.text.startswith("You said: Größe 日本")
    assert said.stop == "end"
    assert said.usage is not None
    assert said.usage["output"] == 30
    assert said.usage["cache_read"] == 7


@every_pair
async def test_an_answer_cut_by_its_limit(gateway: Gateway, surface: str, upstream: str) -> None:
    said = await twins(gateway, surface, upstream, "Hi [[sim tokens=90]]", Wish(limit=20))
    assert said.stop == "length"
    assert said.usage is not None
    assert said.usage["output"] == 20


@pytest.mark.parametrize(("surface", "upstream"), [p for p in PAIRS if p[0] != "completions"])
async def test_parallel_tool_calls(gateway: Gateway, surface: str, upstream: str) -> None:
    said = await twins(gateway, surface, upstream, "Hi [[sim tools=3]]", Wish(tools=True))
    assert [name for _, name, _ in said.calls] == [TOOLS[0], TOOLS[1], TOOLS[0]]
    assert {json.loads(arguments)["city"] for _, _, arguments in said.calls} == {"sample"}
    assert len({id_ for id_, _, _ in said.calls}) == 3
    assert said.stop == "tools"


@pytest.mark.parametrize(("surface", "upstream"), [p for p in PAIRS if p[0] != "completions"])
async def test_a_forced_call(gateway: Gateway, surface: str, upstream: str) -> None:
    said = await twins(gateway, surface, upstream, "Hi", Wish(tools=True, forced=True))
    assert len(said.calls) == 1


@pytest.mark.parametrize(("surface", "upstream"), [p for p in PAIRS if p[0] != "completions"])
async def test_thinking(gateway: Gateway, surface: str, upstream: str) -> None:
    said = await twins(gateway, surface, upstream, "Hi", Wish(thinking=True))
    assert "I read the question again" in said.thinking
    assert said.text.startswith("You said: Hi")


@pytest.mark.parametrize(("surface", "upstream"), [p for p in PAIRS if p[0] != "completions"])
async def test_a_structured_answer(gateway: Gateway, surface: str, upstream: str) -> None:
    said = await twins(gateway, surface, upstream, "Hi", Wish(schema=True))
    assert set(json.loads(said.text)) == set(PARAMETERS["properties"])
    assert not said.calls
    assert said.stop == "end"


@every_pair
async def test_a_refusal(gateway: Gateway, surface: str, upstream: str) -> None:
    said = await twins(gateway, surface, upstream, "Hi [[sim refusal=1]]")
    assert said.stop == "refusal"


@every_translation
@pytest.mark.parametrize("fault", ["split-utf8", "byte-by-byte", "crlf,pings:3,split-utf8"])
async def test_odd_but_right_streams(
    gateway: Gateway, surface: str, upstream: str, fault: str
) -> None:
    text = f"Hi [[sim tokens=12 fault={fault}]]"
    reply = await put(gateway, surface, upstream, text, stream=True, wish=Wish())
    said = check_stream(SURFACES[surface].dialect, reply.body)
    wide = "Größe, naïve, 日本語, 🎉: " if "split-utf8" in fault else ""
    assert said.text.startswith(f"{wide}You said: Hi")


# Faults


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_stream_that_breaks_ends_with_an_error(
    gateway: Gateway, simulator: Program, surface: str
) -> None:
    """router-for-me/CLIProxyAPI#3055, openai/codex#41340: a cut upstream is never a success."""
    by = SURFACES[surface]
    faults = ("cut", "end", "garbage", "error-event", "stall")
    all_have_begun = asyncio.Barrier(len(faults) * len(MODELS))

    async def begun() -> None:
        if await all_have_begun.wait() == 0:
            await asyncio.to_thread(release, simulator)

    async def one(model: str, fault: str) -> None:
        text = f"Hi [[sim tokens=20 fault=hold:9,{fault}:10]]"
        if fault == "stall":
            text = f"Hi [[sim tokens=20 fault={fault}:9]]"
        body = by.body(text, f"brief-{model}" if fault == "stall" else model, True, Wish())
        headers = {**gateway.bearer, **by.headers}
        reply = await read_on(gateway.url, by.path, body, headers, until=b'"You"', then=begun)
        asked = (model, fault)
        assert (reply.status, reply.whole, asked) == (200, True, asked)
        shown = reply.head + reply.body
        assert not [secret for secret in HIDDEN if secret.encode() in shown]
        check_stream(by.dialect, reply.body, error=True)
        assert b'"You"' in reply.body, f"{asked}: what came before it is not lost"
        line = await asyncio.to_thread(gateway.request_line, reply.header("x-request-id"))
        assert (line["outcome"], asked) == ("cut", asked)
        assert line["problem"] in ("upstream_error", "upstream_timeout", "upstream_unavailable")

    await asyncio.gather(*(one(model, fault) for model in MODELS.values() for fault in faults))


STATUSES = {
    "status:401": 502,
    "status:403": 502,
    "status:404": 502,
    "status:429": 429,
    "status:500": 502,
    "status:503": 503,
    "status:529": 503,
    "status:504": 504,
    "overflow": 400,
    "cut:0": 502,
    "stall:0": 504,
    "garbage:0": 502,
    "html": 502,
    "empty": 502,
}


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_failure_before_the_content_has_its_status(gateway: Gateway, surface: str) -> None:
    """praxis-proxy/ai#1005: JSON with a status, for streams too; raine/claude-code-proxy#29."""

    async def one(upstream: str, fault: str, stream: bool) -> None:
        text = f"Hi [[sim fault={fault}]]"
        brief = fault == "stall:0"
        wish = Wish()
        reply = await put(gateway, surface, upstream, text, stream=stream, wish=wish, brief=brief)
        status = STATUSES[fault]
        seen = 529 if (status, surface) == (503, "messages") else status
        asked = (upstream, fault, stream)
        assert (reply.status, asked) == (seen, asked), reply.body
        if fault == "overflow":
            said: dict[str, Any] = reply.error
            words = "prompt is too long" if surface == "messages" else "maximum context length"
            assert words in said["message"]

    await asyncio.gather(*(one(*asked) for asked in product(MODELS, STATUSES, (False, True))))
