"""What a relay costs per event, for the shapes of stream that real servers send.

    python -P -m bench.relay [--instructions] [WORD ...]

Each shape (`tests/edge/dialects/stream_shapes.py`) runs with one event per read and with eight.
Microseconds are the least of many passes over the middle of one stream. WORD: only shapes whose
names have one of these words.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from time import process_time_ns

from edge.dialects.anthropic_messages.passthrough import MessagesRelay
from edge.dialects.openai_chat.chat_relay import ChatRelay
from edge.dialects.openai_responses.passthrough import ResponsesRelay
from middlewares.sse import Splitter
from tests.edge.dialects.stream_shapes import SHAPES, Shape

from . import in_process

_RELAYS = {"chat": ChatRelay, "messages": MessagesRelay, "responses": ResponsesRelay}
_TOGETHER = (1, 8)
_EVENTS = 200
_OPENING, _CLOSING = 16, 8
"""Events at both ends of a stream that are not measured."""
_PASSES = 100
_FEW, _MANY = 2, 22
"""Passes of the two runs that instructions are counted in."""


def reads(shape: Shape, together: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """The reads at the beginning of a stream, those to measure, and those at its end."""
    count = _EVENTS + _OPENING + _CLOSING
    stream = shape.events(list(islice(cycle(shape.words), count)))
    measured = stream[_OPENING : _OPENING + _EVENTS]
    blocks = [b"".join(measured[at : at + together]) for at in range(0, _EVENTS, together)]
    return stream[:_OPENING], blocks, stream[_OPENING + _EVENTS :]


def run(shape: Shape, together: int, passes: int) -> float:
    """Relay the middle of a stream so often; the least of microseconds per event."""
    opening, blocks, closing = reads(shape, together)
    relay, splitter = _RELAYS[shape.dialect]({}, "ours"), Splitter()
    for block in opening:
        relay.relay(splitter.split(block))
    least = float("inf")
    for _ in range(passes):
        began = process_time_ns()
        for block in blocks:
            relay.relay(splitter.split(block))
        least = min(least, process_time_ns() - began)
    for block in closing:
        relay.relay(splitter.split(block))
    if not relay.complete:
        raise SystemExit("the stream did not end")
    return least / 1000 / _EVENTS


def instructions(name: str, together: int) -> float:
    """Instructions per event, as valgrind counts them."""

    def arguments(passes: int) -> Sequence[str]:
        return ("--run", name, str(together), str(passes))

    return in_process.instructions("bench.relay", arguments, _FEW, _MANY) / _EVENTS


def main() -> None:
    """Print a row for each shape."""
    if sys.argv[1:2] == ["--run"]:
        name, together, passes = sys.argv[2:]
        run(SHAPES[name], int(together), int(passes))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--instructions", action="store_true")
    options = parser.parse_args()
    unit = "instructions" if options.instructions else "µs"
    print(f"| shape | {unit} per event | eight in a read |\n| --- | ---: | ---: |")
    for name, shape in SHAPES.items():
        if options.words and not any(word in name for word in options.words):
            continue
        figures = [
            f"{instructions(name, together):,.0f}"
            if options.instructions
            else f"{run(shape, together, _PASSES):.2f}"
            for together in _TOGETHER
        ]
        print(f"| {name} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
