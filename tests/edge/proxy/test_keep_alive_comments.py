"""Comments in streams, for clients that dispatch an event at every blank line.

openai-go before 3.43 decodes the data of each event as JSON, of empty ones too; openai-python does
once it has seen an `id:` line. So a comment of ours stands directly in front of an event, and what
an upstream writes beside `event` and `data` goes no further.
"""

import asyncio
import itertools
import json
import random
import re

import pytest

from edge.proxy.translate import PASSTHROUGH
from edge.upstreams import Disconnected
from middlewares import sse
from middlewares.sse import Splitter
from tests.asgi import Call, http_scope
from tests.edge.blank_lines import (
    CALLERS,
    COST,
    NAME,
    PRICED,
    Form,
    Haltingly,
    Strict,
    body_of,
    decorated,
    kind,
)
from tests.edge.dialogue import MODELS, SAY
from tests.edge.scripted import Answer, Scripted, ScriptedGateway, Step

pairs = pytest.mark.parametrize(("caller", "upstream"), list(itertools.product(CALLERS, MODELS)))


def calling(gateway: ScriptedGateway, caller: str, upstream: str, **headers: str) -> Call:
    sent = json.dumps(body_of(caller, upstream)).encode()
    headers = {"content-length": str(len(sent)), **headers}
    return Call(gateway.app, http_scope("POST", CALLERS[caller], headers=headers), body=sent)


async def pinged(call: Call, so_far: bytes, times: int) -> bytes:
    """What has come once so many more signs of life have."""
    wanted = Strict(so_far).pings + times
    while Strict(so_far).pings < wanted:
        so_far += await call.chunk()
    return so_far


@pairs
@pytest.mark.parametrize("form", [bytes, decorated])
async def test_priced_stream_with_pings_holds_no_empty_event(
    caller: str, upstream: str, form: Form
) -> None:
    halting = Haltingly(upstream, form)
    got = b""
    async with calling(halting.gateway, caller, upstream) as call:
        while more := await call.chunk():
            got += more
            halting.heard(got)
        await call.done()
    read = Strict(got)
    assert NAME not in got.decode()
    cost = read.lines.index(COST)
    last = {"messages": "event: message_stop", "responses": "event: response.completed"}
    assert read.lines[cost + 1] == last.get(caller, "data: [DONE]")
    assert len(read.events) - read.lines[:cost].count("") == 1
    assert read.lines.count(COST) == 1
    said = re.sub(r"[^a-zA-Z.,]", "", json.dumps(read.events))
    assert said.index("Hello") < said.index("my") < said.index("friend,") < said.index("there.")
    assert halting.gateway.exchanges[0].usage_reported


@pairs
@pytest.mark.parametrize("at_once", [False, True])
async def test_priced_stream_in_one_read_names_its_cost_before_the_last_event(
    caller: str, upstream: str, at_once: bool
) -> None:
    say = SAY[upstream]()
    steps = [decorated(say.start()), decorated(say.text("Hello")), decorated(say.stop())]
    answer = Answer([b"".join(steps)] if at_once else [bytes([b]) for b in b"".join(steps)])
    gateway = ScriptedGateway(Scripted(answer), document=PRICED)
    async with calling(gateway, caller, upstream) as call:
        recorded = await call.done()
    read = Strict(recorded.body)
    assert NAME not in recorded.text
    assert len(read.events) - read.lines[: read.lines.index(COST)].count("") == 1
    assert not read.lines[read.lines.index(COST) + 1].startswith(":")


@pairs
@pytest.mark.parametrize("begun", [False, True])
async def test_stream_that_ends_in_an_error_after_pings_holds_no_empty_event(
    caller: str, upstream: str, begun: bool
) -> None:
    say = SAY[upstream]()
    broken = asyncio.Event()
    steps: list[Step] = [decorated(say.start() + (say.text("Half") if begun else b"")), broken]
    steps.append(Disconnected("cut"))
    gateway = ScriptedGateway(
        Scripted(Answer(steps)), document=PRICED, hold=0.001, keep_alive=0.001
    )
    async with calling(gateway, caller, upstream) as call:
        got = await pinged(call, b"", 2)
        broken.set()
        got += await call.rest()
        await call.done()
    last = Strict(got).events[-1]
    assert "error" in last or kind(last) in ("error", "response.failed")
    assert NAME not in got.decode()


@pytest.mark.parametrize("caller", CALLERS)
async def test_stream_that_is_joined_or_replayed_holds_no_empty_event(caller: str) -> None:
    """All three get the comments of the one that was made, as they stood in it."""
    say = SAY["openai"]()
    go_on = asyncio.Event()
    steps: list[Step] = [say.start(), say.text("Hello"), go_on, decorated(say.stop())]
    gateway = ScriptedGateway(
        Scripted(Answer(steps)), document=PRICED, hold=0.001, keep_alive=0.001
    )
    key = {"idempotency-key": "k1"}
    async with calling(gateway, caller, "openai", **key) as made:
        got = await pinged(made, b"", 2)
        async with calling(gateway, caller, "openai", **key) as joined:
            await pinged(joined, b"", 2)
            go_on.set()
            got += await made.rest()
            await made.done()
            assert (await joined.done()).body == got
    async with calling(gateway, caller, "openai", **key) as replayed:
        assert (await replayed.done()).body == got
    read = Strict(got)
    assert read.lines.count(COST) == 1
    assert len(gateway.upstream.requests) == 1


def relayed(dialect: str, chunks: list[bytes]) -> bytes:
    """What the caller of a dialect gets of a stream in the same."""
    relay = PASSTHROUGH[dialect].relay({}, "ours", {})
    splitter = Splitter()
    blocks = [splitter.split(chunk) for chunk in chunks]
    return b"".join(relay.relay(block) for block in blocks if block) + relay.relay_end()


@pytest.mark.parametrize("dialect", MODELS)
@pytest.mark.parametrize("seed", range(8))
def test_relay_passes_only_events_wherever_lines_beside_them_stand(dialect: str, seed: int) -> None:
    seeded = random.Random(seed)
    say = SAY[dialect]()
    words = b"".join(say.text(f"word {n} ") for n in range(12))
    events = [*sse.split(say.start() + words + say.stop())]
    expected = relayed(dialect, events)
    mixed = b"".join(decorated(e) if seeded.random() < 0.4 else e for e in events)
    edges = sorted(seeded.randrange(len(mixed)) for _ in range(seeded.choice((0, 3, 30, 300))))
    chunks = [mixed[a:b] for a, b in itertools.pairwise([0, *edges, len(mixed)]) if a < b]
    got = relayed(dialect, chunks)
    assert got.replace(b": keep-alive\n", b"") == expected
    Strict(got)
