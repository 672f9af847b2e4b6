"""What translating the conversation of a coding agent costs: reading, weighing and writing it.

    .venv/bin/python -P -m bench.translation [--sizes 10000,1000000] [PAIR ...]

A pair is the caller's dialect and the upstream's: `chat-messages`. Figures are milliseconds of
processor time, the least of many repetitions, so a busy machine changes them little. What a request
of that size costs besides (limits, media, its way through the layers) is not in them.
"""

import argparse
import gc
from collections.abc import Callable
from time import thread_time_ns

from edge.billing.token_estimate import weigh
from edge.dialects.codec import TargetModel
from edge.dialects.signatures import fingerprint
from edge.proxy.translate import CLIENTS, UPSTREAMS
from edge.requests.json_body import members_of
from middlewares.exchange import Dialect

from .coding_agent import request

_SPOKEN: dict[str, tuple[Dialect, str]] = {
    "chat": ("openai", "gpt-4.1"),
    "messages": ("anthropic", "claude-sonnet-4-5"),
    "responses": ("responses", "gpt-5"),
}
PAIRS = tuple(f"{caller}-{target}" for caller in _SPOKEN for target in _SPOKEN if caller != target)
_LEAST_REPEATS, _MOST_REPEATS = 7, 200
_BYTES = 10_000_000
"""Bytes that the repetitions of one figure read together, as far as their number allows."""


def _least(step: Callable[[], object], size: int) -> float:
    """Milliseconds of the fastest repetition."""
    times = []
    for _ in range(min(_MOST_REPEATS, max(_LEAST_REPEATS, _BYTES // size))):
        began = thread_time_ns()
        step()
        times.append(thread_time_ns() - began)
    return min(times) / 1e6


def measured(pair: str, size: int) -> tuple[int, float, float, float]:
    """Bytes of the request, and milliseconds to read, weigh and write it."""
    caller, _, target = pair.partition("-")
    dialect, model = _SPOKEN[target]
    body = request(caller, size)
    fields = members_of(body)
    read, write = CLIENTS[caller].read, UPSTREAMS[dialect].write  # type: ignore[index]
    conversation = read(fields)
    to = TargetModel(model=model, origin=fingerprint(dialect, model))
    return (
        len(body),
        _least(lambda: read(fields), size),
        _least(lambda: weigh(conversation), size),
        _least(lambda: write(conversation, to), size),
    )


def main() -> None:
    """Print a row of a Markdown table for each size and pair."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pairs", nargs="*", metavar="PAIR", choices=[[], *PAIRS])
    parser.add_argument("--sizes", default="10000,100000,1000000,4000000")
    given = parser.parse_args()
    gc.disable()  # as in the thread that translates large requests
    print("| bytes | pair | read ms | weigh ms | write ms | together |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for size in map(int, given.sizes.split(",")):
        for pair in given.pairs or PAIRS:
            length, *steps = measured(pair, size)
            figures = " | ".join(f"{figure:.2f}" for figure in (*steps, sum(steps)))
            print(f"| {length} | {pair} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
