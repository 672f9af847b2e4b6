"""`penstock status` over two workers: what is under way, and what has failed."""

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from .conftest import Start, over_http, shared_store
from .operator import run_status, status
from .program import Gateway, Program, release, until
from .wire import CHAT, chat, lines_to_both_workers
from .wire import request as as_bytes

SCHEMA = json.loads((Path(__file__).parent / "status.schema.json").read_text())


def valid(found: dict[str, Any]) -> dict[str, Any]:
    """The status, whose form is the documented one."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(found, SCHEMA)
    return found


def asked(gateway: Gateway) -> dict[str, Any]:
    code, out, err = run_status(gateway, "--json")
    assert (code, err) == (0, "")
    return valid(json.loads(out))


async def test_status_sums_what_two_workers_do(
    start: Start, simulator: Program, request: pytest.FixtureRequest
) -> None:
    document = over_http(simulator.url)
    document["server"] = {"workers": 2}
    document["store"] = await shared_store(request)
    document["breaker"] = {"min_failures": 2, "open_for": "10min", "max_open_for": "10min"}
    nowhere = {"name": "nowhere", "dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}
    document["upstreams"].append(nowhere)
    document["models"].append({"id": "gone", "targets": ["nowhere/far-model"]})
    gateway = start(document)
    idle = asked(gateway)
    assert [one["name"] for one in idle["upstreams"]] == [
        *("near", "far-openai", "far-anthropic", "far-responses", "nowhere")
    ]
    assert (idle["requests"], idle["streams"], idle["errors"]) == (0, 0, [])
    assert {one["state"] for one in idle["upstreams"]} == {"closed"}

    for _ in range(4):
        assert gateway.post(CHAT, chat(model="gone"), **gateway.bearer).status_code >= 500
    held = chat("Hello [[sim tokens=40 fault=hold:5]]", "chat", stream=True)
    async with AsyncExitStack() as stack:
        lines = await lines_to_both_workers(gateway, stack)
        for connection in lines:
            await connection.send(_request(held, gateway))
            await connection.reader.readuntil(b"data: ")
        open_now = len(lines)

        def all_of_them() -> dict[str, Any] | None:
            """The status, once the worker that answers has read the newest of the other."""
            found = asked(gateway)
            gone = next(one for one in found["upstreams"] if one["name"] == "nowhere")
            whole = (found["streams"], found["requests"]) == (open_now, open_now)
            return found if whole and gone["failures"] >= 2 and gone["broken_targets"] else None

        found = until(all_of_them, what="every stream in the status")
        workers = [(one["requests"], one["streams"]) for one in found["workers"]]
        assert len(workers) == 2 and all(requests > 0 for requests, _ in workers)
        assert [sum(column) for column in zip(*workers, strict=True)] == [open_now] * 2
        upstreams = {one["name"]: one for one in found["upstreams"]}
        assert upstreams["far-openai"]["in_flight"] == open_now
        assert upstreams["nowhere"]["state"] == "open"
        assert upstreams["nowhere"]["retry_at"] is not None
        error = found["errors"][0]
        assert (error["upstream"], error["model"], error["status"]) == ("nowhere", "far-model", 0)
        assert error["problem"] and error["request_id"]
        shown = f"{open_now} requests, {open_now} streams, 0 queued"
        table = until(lambda: _table_with(gateway, shown), what="the same in the table")
        assert max(map(len, table.splitlines()[1:])) <= 80
        release(simulator)
        for connection in lines:
            await connection.reader.readuntil(b"[DONE]")
    until(lambda: status(gateway)["streams"] == 0, what="no stream in the status")


def test_status_members_are_all_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/reference.md").read_text()
    section = page.partition("\n## The status\n")[2].partition("\n## ")[0]
    running = SCHEMA["$defs"]["running"]["properties"]
    inner = ("fleet", "last_reload", "ledger", "tables")
    rows = ("workers", "upstreams", "errors")
    names = [*running, *(name for table in inner for name in running[table]["properties"])]
    names += [name for table in rows for name in running[table]["items"]["properties"]]
    assert [name for name in names if f"`{name}`" not in section] == []


def _table_with(gateway: Gateway, text: str) -> str | None:
    code, out, _ = run_status(gateway)
    assert code == 0
    return out if text in out else None


def _request(body: dict[str, Any], gateway: Gateway) -> bytes:
    return as_bytes(CHAT, body, gateway.bearer)


def test_status_of_one_worker_has_the_documented_form(start: Start) -> None:
    gateway = start(
        {
            "auth": {"admin_token": "env:ADMIN_TOKEN"},
            "upstreams": [{"name": "near", "dialect": "simulator"}],
            "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
        }
    )
    found = asked(gateway)
    assert found["worker_count"] == 1
    assert valid(status(gateway) | {"problems": []})["config"] == str(gateway.file)
    gateway.kill()
    code, out, _ = run_status(gateway, "--json")
    assert code == 1
    assert valid(json.loads(out))["state"] == "down"
