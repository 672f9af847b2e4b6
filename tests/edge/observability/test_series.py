"""The number of series has a bound that no client can move."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from middlewares import KINDS
from middlewares.metric_rows import HistogramRow, Row
from middlewares.metric_table import TABLE
from middlewares.stores import KeyDirectory, MemoryKeyStore
from tests.asgi import Recorded, request
from tests.edge.scripted import Answer, Scripted, ScriptedGateway

DOCS = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
CHAT = "/v1/chat/completions"
JUNK = 5000

OWNERS: dict[str, list[tuple[str, ...]]] = {
    "fixed": [
        *((), ("kind",), ("from",), ("result",), ("outcome",), ("state",), ("version",)),
        *(("kind", "outcome"), ("how", "result")),
    ],
    "endpoint": [("endpoint",)],
    "model": [("model",), ("model", "kind")],
    "target": [("upstream", "target"), ("upstream", "model", "stream")],
    "upstream": [
        *(("upstream",), ("upstream", "state"), ("upstream", "outcome")),
        *(("upstream", "kind"), ("upstream", "status")),
    ],
    "answer": [("endpoint", "model", "status", "outcome")],
}
"""The labels of rows by what makes their number grow."""
VALUES = {
    "tokens": 4,
    "units": 3,
    "upstream_answer_seconds": 2,
    "pool_connections": 2,
    "vendor_files": 4,
    "upstream_errors": len(KINDS),
    "upstream_attempts": 0,  # one for each status, which is counted apart
}
"""How many values the other labels of a row have."""


Ask = Callable[[int], Awaitable[Recorded]]


def series(row: Row) -> int:
    """Series of one combination of labels."""
    return len(row.buckets) + 3 if isinstance(row, HistogramRow) else 1


def of_each(owner: str) -> int:
    return sum(
        series(row) * VALUES.get(row.name, 1) for row in TABLE if row.labels in OWNERS[owner]
    )


def documented(owner: str) -> int:
    found = re.search(rf"^\| {owner} \| (\d+)", DOCS, re.MULTILINE)
    assert found, owner
    return int(found[1])


def test_every_row_has_an_owner() -> None:
    known = [labels for owned in OWNERS.values() for labels in owned]
    assert len(known) == len(set(known))
    assert {row.labels for row in TABLE} == set(known)


def test_documentation_says_how_many_series_each_thing_has() -> None:
    for owner in ("endpoint", "model", "target", "upstream"):
        assert documented(owner) == of_each(owner), owner
    assert documented("fixed") >= of_each("fixed")


def bound(samples: set[tuple[str, tuple[tuple[str, str], ...]]], gateway: ScriptedGateway) -> int:
    """The documented bound, for the endpoints, statuses and combinations that were seen."""

    def seen(name: str, *labels: str) -> int:
        found = {
            tuple(value for label, value in given if label in labels)
            for sample, given in samples
            if sample == f"penstock_{name}"
        }
        return len(found)

    settings = gateway.settings
    targets = {target for model in settings.models for target in model.targets}
    return (
        documented("fixed")
        + documented("endpoint") * seen("requests_total", "endpoint")
        + documented("model") * (len(settings.models) + 1)
        + documented("target") * len(targets)
        + documented("upstream") * len(settings.upstreams)
        + seen("upstream_attempts_total", "upstream", "status")
        + seen("requests_total", "endpoint", "model", "status", "outcome")
    )


def found_in(gateway: ScriptedGateway) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    gateway.metrics.flush()
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in gateway.metrics.registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


async def test_junk_of_clients_makes_no_series(full: bool) -> None:
    """Models, paths, keys, and what else they can choose."""
    answer = b'{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"x"}}]}'
    gateway = ScriptedGateway(
        Scripted(Answer([answer], headers=[(b"content-type", b"application/json")])),
        document={
            "models": [
                {"id": "m1", "targets": ["both/x"]},
                {"id": "wild-*", "targets": ["both/*"]},
            ]
        },
    )
    keys = KeyDirectory(MemoryKeyStore())
    await keys.start()
    closed = ScriptedGateway(
        Scripted(Answer()),
        document={"auth": {"mode": "keys"}},
        keys=keys,
        metrics=gateway.metrics,
    )

    async def ask(n: int) -> Recorded:
        body: dict[str, Any] = {"model": "m1", "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"user-agent": f"junk/{n}", "x-request-id": f"junk-{n}"}
        app, path = gateway.app, CHAT
        match n % 5:
            case 0:
                body["model"] = f"junk-{n}"
            case 1:
                body["model"] = f"wild-{n}"
            case 2:
                path = f"/v1/junk/{n}"
            case 3:
                app = closed.app
                headers["authorization"] = f"Bearer sk-junk-{n}"
        content = msgspec.json.encode(body)
        return await request(app, "POST", path, body=content, headers=headers)

    try:
        await flood(ask, gateway, JUNK if full else JUNK // 5)
    finally:
        await keys.aclose()


async def flood(ask: Ask, gateway: ScriptedGateway, requests: int) -> None:
    statuses = [(await ask(n)).status for n in range(10)]
    assert statuses == [404, 200, 403, 401, 200] * 2
    before = found_in(gateway)
    for n in range(10, requests):
        await ask(n)
    assert found_in(gateway) == before
    assert len(before) <= bound(before, gateway)
    assert not [labels for _, labels in before if "junk" in str(labels)]
