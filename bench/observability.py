"""What metrics and traces cost: CPU time and instructions per request and per streamed event.

    python -P -m bench.observability [--count N] [--rounds N] [--instructions]

Requests go through the whole chain in one process, without sockets, to an upstream in memory. Each
round measures the same requests, one after the other, in four gateways:

without    neither metrics nor traces: their layers are taken out of the chain
metrics    as it is without a collector of traces
none       metrics, and a collector, for which no request is chosen
all        metrics, and traces of all requests

The cost of traces of 1 %, the default, is that of none and a hundredth of the way to all. Spans are
encoded and sent by the exporter of the SDK, 512 at a time, to a collector in a process of its own,
and all of that is in the figures but the collector. Differences are of the same round. An event is
measured by streams of many events less streams of few.

--instructions: also those of the CPU, counted by valgrind, which a busy machine repeats.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

from . import in_process

TAKEN_OUT = frozenset(("tracing", "metrics"))
RATIOS = {"without": None, "metrics": None, "none": 0.0, "all": 1.0}
"""The share of requests that are traced, by gateway; None: traces are off."""
RATIO = 0.01
EVENTS = (40, 400)
MOST_ADDED, MOST_SHARE = 10.0, 0.07
"""Microseconds, or share of a plain request, that metrics and traces of 1 % may add together."""
_AT_ONCE = 32
BATCH = 512
_WARM = 640
_QUESTION = {"role": "user", "content": "Hello, who are you? " * 4}
_COLLECTOR = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class Exported:
    """A processor of spans that exports each full batch at once, in the thread that made them."""

    def __init__(self, endpoint: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._waiting: list[Any] = []
        self.spans = 0

    def on_end(self, span: Any) -> None:
        """See `middlewares.tracing.spans.EndedSpans`."""
        self._waiting.append(span)
        if len(self._waiting) == BATCH:
            result = self._exporter.export(self._waiting)
            assert result.name == "SUCCESS"
            self.spans += len(self._waiting)
            self._waiting = []


class Subject(NamedTuple):
    """A gateway, and where its spans go."""

    gateway: Any
    exported: Exported


@contextmanager
def collector() -> Iterator[str]:
    """The endpoint of a collector that takes everything."""
    command = [sys.executable, "-c", _COLLECTOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/traces"
        finally:
            process.terminate()


def subject(name: str, endpoint: str, events: int = 0) -> Subject:
    """A gateway of `RATIOS`. events: of its streamed answers; 0: they are not streamed."""
    from tests.edge import scripted

    ratio = RATIOS[name]
    exported = Exported(endpoint)
    layers = scripted.OUTER_LAYERS
    if name == "without":
        layers = tuple(layer for layer in layers if layer.name not in TAKEN_OUT)
        assert len(layers) + len(TAKEN_OUT) == len(scripted.OUTER_LAYERS)
    with patch.object(scripted, "OUTER_LAYERS", layers):
        gateway = scripted.ScriptedGateway(
            scripted.Scripted(_answer(events)),
            document={
                **in_process.DOCUMENT,
                "limits": {"address": "600M/min", "safety_net": "600M/min"},
                "tracing": {"ratio": ratio or 0.0},
            },
            processor=None if ratio is None else exported,
        )
    return Subject(gateway, exported)


def _answer(events: int) -> Any:
    """An answer of Chat in so many pieces of text; 0: one that is not streamed."""
    from tests.edge.scripted import JSON, SSE, Answer

    about = {"id": "c1", "object": "chat.completion", "created": 1, "model": "x"}
    usage = {"prompt_tokens": 30, "completion_tokens": 50, "total_tokens": 80}
    if not events:
        message = {"role": "assistant", "content": "Hello there. " * 20}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return Answer(
            [json.dumps({**about, "choices": [choice], "usage": usage}).encode()], 200, [JSON]
        )
    chunk = {**about, "object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [{"content": f"word{n} "} for n in range(events)]
    chunks = [
        {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    chunks.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({**chunk, "choices": [], "usage": usage})
    pieces = [b"data: %b\n\n" % json.dumps(one).encode() for one in chunks]
    return Answer([*pieces, b"data: [DONE]\n\n"], 200, [SSE])


async def ask(to: Subject, count: int, at_once: int, *, stream: bool) -> None:
    """Send so many requests, `at_once` of them at a time, and write what was counted."""
    body = json.dumps(
        {"model": "m1", "max_tokens": 1000, "messages": [_QUESTION], "stream": stream}
    ).encode()
    await in_process.ask(to.gateway, body, count, at_once)
    to.gateway.metrics.flush()


Costs = dict[str, list[float]]
"""By gateway, of each round."""


async def _cpu(endpoint: str, count: int, rounds: int, events: int = 0) -> Costs:
    """Microseconds of CPU time per request. events: see `subject`."""
    names = tuple(RATIOS)
    subjects = {name: subject(name, endpoint, events) for name in names}
    for one in subjects.values():
        await ask(one, _WARM, _AT_ONCE, stream=events > 0)
    costs: Costs = {name: [] for name in subjects}
    for turn in range(rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            gc.collect()
            began = time.process_time()
            await ask(subjects[name], count, _AT_ONCE, stream=events > 0)
            took = time.process_time() - began
            costs[name].append(took / (count // _AT_ONCE * _AT_ONCE) * 1e6)
    for one in subjects.values():
        await one.gateway.accounts.aclose()
        await one.gateway.ledger_writer.aclose()
    return costs


def with_share(costs: Costs) -> Costs:
    """With what traces of 1 % cost, before those of all."""
    pairs = zip(costs["none"], costs["all"], strict=True)
    share = [none + RATIO * (every - none) for none, every in pairs]
    before = {name: costs[name] for name in ("without", "metrics", "none")}
    return {**before, "1 %": share, "all": costs["all"]}


def added(costs: Costs, name: str) -> float:
    """What a gateway needs more than the one without, the median of the rounds."""
    return median(x - y for x, y in zip(costs[name], costs["without"], strict=True))


def _of_an_event(few: Costs, many: Costs) -> Costs:
    fewer, more = EVENTS
    return {
        name: [(y - x) / (more - fewer) for x, y in zip(few[name], many[name], strict=True)]
        for name in few
    }


async def _requests(name: str, count: int, events: int) -> None:
    gc.disable()
    # Written once at the end: under valgrind more would be written for each request than is.
    slow = patch("middlewares.metrics.metrics._GATHER_SECONDS", 3600.0)
    with collector() as endpoint, slow:
        await ask(subject(name, endpoint, events), count, 1, stream=events > 0)


def _instructions(name: str, events: int = 0) -> float:
    """Instructions per request, as valgrind counts them."""
    few, many = (10, 30) if events else (100, 300)
    return in_process.instructions(
        "bench.observability",
        lambda count: ["--run", name, str(count), str(events)],
        few,
        many,
    )


def _print_times(count: int, rounds: int) -> None:
    with collector() as endpoint:
        plain = with_share(asyncio.run(_cpu(endpoint, count, rounds)))
        few, many = (asyncio.run(_cpu(endpoint, _AT_ONCE, rounds, events)) for events in EVENTS)
    event = with_share(_of_an_event(few, many))
    print("| gateway | plain request | it adds | | an event | it adds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    base = median(plain["without"])
    for name in plain:
        more = added(plain, name)
        print(
            f"| {name} | {median(plain[name]):.1f} µs | {more:+.1f} µs | {more / base:+.1%} "
            f"| {median(event[name]):.2f} µs | {added(event, name):+.2f} µs |"
        )
    more = added(plain, "1 %")
    kept = more <= MOST_ADDED or more <= MOST_SHARE * base
    print(
        f"\n{'' if kept else '! '}Metrics and traces of 1 % add {more:.1f} µs, {more / base:.1%}; "
        f"at most {MOST_ADDED:.0f} µs or {MOST_SHARE:.0%} are allowed.",
        flush=True,
    )


def _print_instructions() -> None:
    plain = with_share({name: [_instructions(name)] for name in RATIOS})
    fewer, more = EVENTS
    event = {
        name: (_instructions(name, more) - _instructions(name, fewer)) / (more - fewer)
        for name in ("without", "none")
    }
    print("\n| gateway | instructions of a plain request | it adds | | of an event |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (count,) in plain.items():
        of_event = f"{event[name]:,.0f}" if name in event else ""
        extra = added(plain, name)
        share = extra / plain["without"][0]
        print(f"| {name} | {count:,.0f} | {extra:+,.0f} | {share:+.1%} | {of_event} |")


def main() -> None:
    """Print a table, or two."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=640, help="plain requests of a round")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    if given.run is not None:
        name, count, events = given.run
        asyncio.run(_requests(name, int(count), int(events)))
        return
    _print_times(given.count, given.rounds)
    if given.instructions:
        _print_instructions()


if __name__ == "__main__":
    main()
