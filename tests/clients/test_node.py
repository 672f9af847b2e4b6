"""The SDKs for Node.js and the AI SDK, each on every upstream.

Each script of `node/` asks the same four things of its SDK and prints what its user would see: an
answer, the same answer streamed, and two tool calls with the answer after their results, unstreamed
and streamed. What is seen must not depend on the upstream.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.program import Gateway

from .conftest import DIALECTS
from .programs import node

SAID = "You said: Hello from Node, naïve café ☕\n\nThis answer was made by the simulator."
USED = {"input": 28, "output": 19, "cached": 3}
CALLED = [["weather", {"city": "sample", "days": 3}]] * 2
SETTLED = "The tool returned: 3 days of sun in sample and 3 days of sun in sample\n\n"


class Client(NamedTuple):
    """A script, which provider of the AI SDK it takes, and its words for why an answer ended."""

    script: str
    stopped: str
    called: str
    provider: str = ""


CLIENTS = {
    "openai-chat": Client("openai-chat.mjs", "stop", "tool_calls"),
    "openai-responses": Client("openai-responses.mjs", "completed", "completed"),
    "anthropic": Client("anthropic.mjs", "end_turn", "tool_use"),
    **{
        f"vercel-{provider}": Client("vercel.mjs", "stop", "tool-calls", provider)
        for provider in ("compatible", "openai-chat", "openai", "anthropic")
    },
}


PINGED = "Hello [[sim fault=slow-first:0.3]]"


@pytest.mark.parametrize("upstream", DIALECTS)
def test_stream_of_this_gateway_holds_pings_and_its_cost(upstream: str, gateway: Gateway) -> None:
    """What the clients here have to read."""
    asked = {"model": f"on-{upstream}", "messages": [{"role": "user", "content": PINGED}]}
    answer = gateway.post("/v1/chat/completions", {**asked, "stream": True})
    waited, _, rest = answer.text.partition("data: ")
    assert waited and set(waited.splitlines()) == {": keep-alive"}
    assert re.search(r"\n\n: x-credits-used [0-9.]+\ndata: \[DONE\]\n\n$", rest)


@pytest.mark.parametrize("upstream", DIALECTS)
@pytest.mark.parametrize("name", CLIENTS)
def test_an_sdk_sees_the_same_on_every_upstream(
    name: str, upstream: str, gateway: Gateway, tmp_path: Path
) -> None:
    client = CLIENTS[name]
    model = f"on-{upstream}"
    seen = node(
        client.script,
        tmp_path,
        GATEWAY=gateway.url,
        KEY=gateway.key,
        MODEL=model,
        PROVIDER=client.provider,
    )
    plain = {"text": SAID, "finish": client.stopped, "calls": [], "usage": USED, "model": model}
    assert seen["plain"] == plain
    assert seen["streamed"] == plain
    called, settled = seen["tools"]["called"], seen["tools"]["settled"]
    assert called["calls"] == CALLED
    assert called["finish"] == client.called
    assert called["usage"]["input"] > USED["input"], "tools weigh something"
    assert settled["text"].startswith(SETTLED)
    assert settled["finish"] == client.stopped
    assert settled["usage"]["input"] > called["usage"]["input"], "so do results"
    assert seen["toolsStreamed"] == seen["tools"]
