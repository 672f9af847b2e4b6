"""Requests to a gateway in this process, without sockets, and what a run of them costs."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

DOCUMENT: dict[str, Any] = {
    "models": [
        {
            "id": "m1",
            "targets": ["oai/x"],
            "context": 200_000,
            "price": {"input": "1.00", "output": "2.00"},
        }
    ],
    "upstreams": [{"name": "oai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}],
}
"""A model with a price, and its upstream, for a `tests.edge.scripted.ScriptedGateway`."""

_COUNTED = re.compile(r"I +refs: +([\d,]+)")
_JSON = (b"content-type", b"application/json")


async def ask(
    gateway: Any,
    body: bytes,
    count: int,
    at_once: int,
    headers: Sequence[tuple[bytes, bytes]] = (),
    *,
    status: int = 200,
) -> None:
    """Send so many requests of Chat to a `ScriptedGateway`, `at_once` of them at a time, and drop
    what it keeps of them. Raises SystemExit for a status other than `status`."""

    async def some(number: int) -> None:
        for _ in range(number):
            await _ask_once(gateway, "POST", "/v1/chat/completions", body, headers, status)

    if at_once == 1:
        await some(count)
    else:
        await asyncio.gather(*(some(count // at_once) for _ in range(at_once)))
    _drop(gateway)


async def get(
    gateway: Any, path: str, kept: Callable[[MutableMapping[str, Any]], object] | None = None
) -> None:
    """Read `path` of a `ScriptedGateway`. kept: called with each message of the answer. Raises
    SystemExit for a status other than 200."""
    await _ask_once(gateway, "GET", path, b"", (), 200, kept)
    _drop(gateway)


def _drop(gateway: Any) -> None:
    for kept in (
        *(gateway.upstream.requests, gateway.upstream.responses),
        *(gateway.exchanges, gateway.log),
    ):
        kept.clear()


async def _ask_once(
    gateway: Any,
    method: str,
    path: str,
    body: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    wanted: int,
    kept: Callable[[MutableMapping[str, Any]], object] | None = None,
) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [_JSON, *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
        "scheme": "http",
        "state": {},
    }
    given = [{"type": "http.request", "body": body, "more_body": False}]
    status = 0

    async def receive() -> MutableMapping[str, Any]:
        return given.pop() if given else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        if kept is not None:
            kept(message)

    await gateway.app(scope, receive, send)
    if status != wanted:
        reason = gateway.exchanges[-1].reason if gateway.exchanges else ""
        raise SystemExit(f"{path}: status {status}: {reason}")


def instructions(
    module: str, arguments: Callable[[int], Sequence[str]], few: int, many: int
) -> float:
    """Instructions per request, as valgrind counts them in runs of `few` and of `many` requests.

    module: is run as `python -m`. arguments: for a number of requests.
    """
    totals = []
    for count in (few, many):
        run = subprocess.run(
            [
                *("valgrind", "--tool=cachegrind", "--cache-sim=no"),
                *("--cachegrind-out-file=/dev/null", sys.executable, "-P", "-m", module),
                *arguments(count),
            ],
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
        )
        found = _COUNTED.search(run.stderr)
        if run.returncode or found is None:
            raise SystemExit(run.stderr[-2000:])
        totals.append(int(found[1].replace(",", "")))
    return (totals[1] - totals[0]) / (many - few)
