"""Instructions of the CPU per request and per streamed event: figures that a busy machine repeats.

    python -m bench.instructions [--than CHECKOUT] [--limited] [--traced SHARE] [MODE ...]

A mode is plain or stream, the caller's dialect and the upstream's: `stream-messages-chat`. Requests
go through the whole chain in one process, without sockets, to an upstream in memory. valgrind
counts the instructions of the interpreter for a few requests and for many; the difference is what
the requests cost. The garbage collector is off, as its turns fall elsewhere in each version.

--than: another checkout, with its own `.venv`, which is measured in turns with this one, by its own
copy of this script.
--limited: callers have rates, windows and credits.
--traced: the share of requests that are traced; the first figure is then that without tracing, of
    this checkout. Spans are made, and not exported.
"""

import argparse
import asyncio
import gc
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

FEW, MANY = 20, 60
EVENTS = 400
_DIALECTS = {"chat": "oai", "messages": "ant", "responses": "res"}
_PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
MODES = tuple(
    f"{form}-{caller}-{upstream}"
    for caller in _DIALECTS
    for upstream in _DIALECTS
    for form in ("plain", "stream")
)
_PLAN = {
    "id": "bench",
    "requests": "600M/min",
    "tokens": "600M/min",
    "concurrency": 100_000,
    "windows": [{"length": "5h", "credits": "1000000.00"}],
    "overflow": "credits",
}
_TEXT = "Hello there, how are you today? " * 8
_QUESTION = {"role": "user", "content": "Hello, who are you? " * 4}
_MODEL = "upstream-model-x"
_VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
_COUNTED = re.compile(r"I +refs: +([\d,]+)")


def _event(data: dict[str, Any], *, named: bool) -> bytes:
    name = f"event: {data['type']}\n" if named else ""
    return f"{name}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _chat(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    about = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": _MODEL}
    return {**about, "choices": [choice]}


def _chat_answer(words: Iterable[str]) -> tuple[dict[str, Any], list[bytes]]:
    usage = {"prompt_tokens": 30, "completion_tokens": 50, "total_tokens": 80}
    message = {"role": "assistant", "content": _TEXT}
    whole = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": _MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    chunks = [
        _chat({"role": "assistant", "content": ""}),
        *(_chat({"content": word}) for word in words),
        _chat({}, "stop"),
        {**_chat({}), "choices": [], "usage": usage},
    ]
    return whole, [*(_event(chunk, named=False) for chunk in chunks), b"data: [DONE]\n\n"]


def _messages_answer(words: Iterable[str]) -> tuple[dict[str, Any], list[bytes]]:
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": _MODEL}
    usage = {"input_tokens": 30, "output_tokens": 50}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    whole = {**about, "content": [{"type": "text", "text": _TEXT}], **end, "usage": usage}
    start = {**about, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": word},
            }
            for word in words
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 50}},
        {"type": "message_stop"},
    ]
    return whole, [_event(event, named=True) for event in events]


def _responses_answer(words: Iterable[str]) -> tuple[dict[str, Any], list[bytes]]:
    about = {"id": "resp_1", "object": "response", "created_at": 1, "model": _MODEL}
    part = {"type": "output_text", "text": _TEXT, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    usage = {"input_tokens": 30, "output_tokens": 50, "total_tokens": 80}
    whole = {
        **about,
        "status": "completed",
        "output": [{**item, "content": [part]}],
        "usage": usage,
    }
    at = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    begun = {**about, "status": "in_progress", "output": []}
    empty = {**item, "status": "in_progress", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        {"type": "response.content_part.added", **at, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": word} for word in words),
        {"type": "response.output_text.done", **at, "text": _TEXT},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": whole["output"][0]},
        {"type": "response.completed", "response": whole},
    ]
    for number, event in enumerate(events):
        event["sequence_number"] = number
    return whole, [_event(event, named=True) for event in events]


_ANSWERS: dict[str, Callable[[Iterable[str]], tuple[dict[str, Any], list[bytes]]]] = {
    "chat": _chat_answer,
    "messages": _messages_answer,
    "responses": _responses_answer,
}


def _request(caller: str, *, stream: bool) -> bytes:
    said = "input" if caller == "responses" else "messages"
    most = "max_output_tokens" if caller == "responses" else "max_tokens"
    body = {"model": "m1", most: 1000, said: [_QUESTION], "stream": stream}
    if caller == "responses":
        body["store"] = False
    return json.dumps(body).encode()


class _Discarding:
    """Takes spans in place of an exporter."""

    def on_end(self, span: object) -> None:
        return


async def requests(mode: str, count: int, *, limited: bool, traced: float | None = None) -> None:
    """So many requests through the chain of the checkout in the working directory.

    limited: they are counted and paid for. traced: share that is traced; None: no tracing.
    """
    sys.path.insert(0, str(Path.cwd()))
    from tests.edge.scripted import Answer, Scripted, ScriptedGateway

    form, caller, upstream = mode.split("-")
    stream = form == "stream"
    whole, events = _ANSWERS[upstream](f"word{n} " for n in range(EVENTS))
    kind = b"text/event-stream" if stream else b"application/json"
    pieces = events if stream else [json.dumps(whole).encode()]
    place = {"id": "m1", "targets": [f"{_DIALECTS[upstream]}/{_MODEL}"], "context": 200_000}
    speak = {"oai": "openai", "ant": "anthropic", "res": "responses"}
    document: dict[str, Any] = {
        "server": {"max_body": 10_000},
        "models": [{**place, "price": {"input": "1.00", "output": "2.00"}}],
        "upstreams": [
            {"name": name, "dialect": dialect, "base_url": "http://127.0.0.1:9/v1"}
            for name, dialect in speak.items()
        ],
    }
    if limited:
        document |= {"plans": [_PLAN], "auth": {"mode": "none", "default_plan": "bench"}}
    tracing: dict[str, Any] = {}
    if traced is not None:
        document["tracing"] = {"ratio": traced}
        tracing["processor"] = _Discarding()
    gateway = ScriptedGateway(
        Scripted(Answer(pieces, headers=[(b"content-type", kind)])), document=document, **tracing
    )
    body = _request(caller, stream=stream)
    status = 0

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    gc.disable()
    for _ in range(count):
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": _PATHS[caller],
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "scheme": "http",
            "state": {},
        }
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive(given: list[dict[str, Any]] = given) -> MutableMapping[str, Any]:
            return given.pop() if given else await asyncio.Event().wait()  # type: ignore[return-value]

        await gateway.app(scope, receive, send)
        last = gateway.exchanges[-1]
        if status != 200 or last.outcome != "completed":
            raise SystemExit(
                f"{mode}: status {status}, {last.outcome} {last.problem} {last.reason}"
            )
        for kept in (
            gateway.upstream.requests,
            gateway.upstream.responses,
            gateway.exchanges,
            gateway.log,
        ):
            kept.clear()


def counted(checkout: Path, mode: str, *, limited: bool, traced: float | None = None) -> float:
    """Instructions per request of `mode` in a checkout, as valgrind counts them."""
    many = MANY if mode.startswith("stream") else 5 * MANY
    few = FEW if mode.startswith("stream") else 5 * FEW
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(count: int, *under: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [
                *(*under, str(checkout / ".venv/bin/python"), "-P"),
                *(str(checkout / "bench/instructions.py"), "--run", str(count), mode),
                *(["--limited"] if limited else []),
                *([f"--traced={traced}"] if traced is not None else []),
            ],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
        )

    run(0)  # compiles the modules that no run compiled before
    totals = []
    for count in (few, many):
        done = run(count, *_VALGRIND)
        found = _COUNTED.search(done.stderr)
        if done.returncode or found is None:
            raise SystemExit(f"{checkout}: {mode}:\n{done.stderr[-2000:]}")
        totals.append(int(found[1].replace(",", "")))
    return (totals[1] - totals[0]) / (many - few)


def main() -> None:
    """Print a row of a Markdown table for each mode."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modes", nargs="*", metavar="MODE", choices=[[], *MODES])
    parser.add_argument("--than", type=Path, metavar="CHECKOUT")
    parser.add_argument("--limited", action="store_true")
    parser.add_argument("--traced", type=float, metavar="SHARE")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run is not None:
        asyncio.run(requests(given.modes[0], given.run, limited=given.limited, traced=given.traced))
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("needs valgrind (apt-get install valgrind)")
    measured: list[tuple[Path, float | None]] = [(Path.cwd(), given.traced)]
    if given.than is not None:
        measured.insert(0, (given.than.resolve(), None))
    elif given.traced is not None:
        measured.insert(0, (Path.cwd(), None))
    heads = ["before", "now", "change"] if len(measured) > 1 else ["instructions"]
    print(f"| mode | {' | '.join(heads)} | an event |")
    print(f"| --- |{' ---: |' * (len(heads) + 1)}")
    for mode in given.modes or MODES:
        figures = [
            counted(checkout, mode, limited=given.limited, traced=traced)
            for checkout, traced in measured
        ]
        row = [mode, *(f"{figure:,.0f}" for figure in figures)]
        if len(measured) > 1:
            row.append(f"{figures[1] / figures[0] - 1:+.1%}")
        row.append(f"{figures[-1] / EVENTS:,.0f}" if mode.startswith("stream") else "")
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
