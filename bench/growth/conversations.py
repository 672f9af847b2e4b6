"""Cost of a request by the length of its conversation: bytes, and turns of the same bytes."""

import json
from typing import Any

from bench import in_process
from bench.teams import ANSWER, PLAN

from .table import Row, Table, least

BYTES = (1_000, 10_000, 100_000, 1_000_000, 4_000_000)
TURNS = (2, 20, 200, 2_000)
_FIXED = 200_000


def _body(turns: int, size: int) -> bytes:
    each = max(1, (size - 60 * turns) // turns)
    text = ("Some words that a person or a model may write. " * (each // 47 + 1))[:each]
    messages = [
        {"role": "assistant" if n % 2 else "user", "content": f"{n} {text}"} for n in range(turns)
    ]
    messages.append({"role": "user", "content": "And now?"})
    return json.dumps({"model": "m1", "max_tokens": 100, "messages": messages}).encode()


async def measure() -> list[Table]:
    """By bytes with turns of 2 kB, and by turns of 200 kB in all; passed on and translated."""
    by_bytes = [Row(size, await _costs(max(1, size // 2000), size)) for size in BYTES]
    by_turns = [Row(turns, await _costs(turns, _FIXED)) for turns in TURNS]
    columns = ("passed on, µs", "translated to Messages, µs")
    return [
        Table(
            "Bytes of a conversation",
            "bytes",
            columns,
            by_bytes,
            ("Linear in its bytes.",),
            columns,
        ),
        Table("Turns of 200 kB", "turns", columns, by_turns, (), columns),
    ]


async def _costs(turns: int, size: int) -> list[float]:
    from bench.instructions import _messages_answer
    from tests.edge.scripted import Answer, Scripted, ScriptedGateway

    kind = [(b"content-type", b"application/json")]
    costs = []
    translated = json.dumps(_messages_answer(["Hello"])[0]).encode()
    for upstream, content in (("oai", ANSWER), ("ant", translated)):
        (model,) = in_process.DOCUMENT["models"]
        document: dict[str, Any] = {
            "server": {"max_body": 32_000_000},
            "models": [{**model, "targets": [f"{upstream}/x"], "context": 10_000_000}],
            "upstreams": [
                {"name": "oai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
                {"name": "ant", "dialect": "anthropic", "base_url": "http://127.0.0.1:9/v1"},
            ],
            "plans": [PLAN],
            "auth": {"mode": "none", "default_plan": "bench"},
            "limits": {"safety_net": "600M/min"},
        }
        gateway = ScriptedGateway(Scripted(Answer([content], headers=kind)), document=document)
        body = _body(turns, size)

        async def ask(number: int, of: Any = gateway, body: bytes = body) -> None:
            await in_process.ask(of, body, 1, 1)

        costs.append(await least(ask, max(1, min(100, 1_000_000 // size)), 5))
    return costs
