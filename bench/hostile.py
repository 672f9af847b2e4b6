"""What hostile requests cost beside 100 open streams: `python -m bench.hostile [WORDS]`.

Prints a line for each kind of hostile body and pair of dialects: processor time of the worker, the
longest gap in the streams and the longest time for /livez, beside the noise of this machine. Words
choose the kinds whose names have one of them. Lines that break CONTRACT's bounds begin with `!`:
25 ms for a body of 4 MB, 100 ms for the largest, beyond the pace of the streams and the noise.
"""

import sys
import tempfile
from pathlib import Path

from tests.e2e.hostile.arena import Arena, Helper, Outcome, document
from tests.e2e.hostile.kinds import DIALECTS, KINDS, WHOLE, elsewhere, streamed
from tests.e2e.program import Gateway, Program, peak_rss

PAIRS = [(caller, model) for caller in DIALECTS for model in DIALECTS]
MiB = 1 << 20


def bound(sent: int) -> float:
    """Seconds that a body of so many bytes may stop the loop."""
    return 0.025 if sent <= 4 * MiB else 0.1


def breaks(outcome: Outcome) -> bool:
    """Whether the loop stood for longer than it may, as far as /livez can tell."""
    return outcome.livez - outcome.noise > bound(outcome.sent)


def run(arena: Arena, words: list[str]) -> int:
    """Every kind from every caller to every upstream; how many broke a bound."""
    broken = 0
    for name, kind in KINDS.items():
        if words and not any(word in name for word in words):
            continue
        for n, (caller, model) in enumerate(PAIRS):
            body = kind(DIALECTS[caller], model)
            if n % 2:
                body = streamed(body)
            label = f"{name} [{caller}->{model}{', streamed' if n % 2 else ''}]"
            broken += shown(arena.attack(label, DIALECTS[caller].path, body))
    for name, (path, body) in elsewhere(WHOLE).items():
        if not words or any(word in name for word in words):
            broken += shown(arena.attack(f"{name} [{path}]", path, body))
    return broken


def shown(outcome: Outcome) -> bool:
    """Print an outcome; whether it broke a bound."""
    said = "" if outcome.status == 200 else f" | {outcome.said[:120]}"
    print("!" if breaks(outcome) else " ", outcome, said, flush=True)
    return breaks(outcome)


def main(words: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulator = Program("simulate", "--port", "0", folder=folder)
        sink = Helper("sink")
        try:
            gateway = Gateway(folder, document(simulator.url, sink.first.split()[1]))
            try:
                with Arena(gateway, streams=100) as arena:
                    broken = run(arena, words)
                    most = peak_rss(arena.worker.pid)
                print(f"{broken} beyond the bound; peak rss {most / MiB:.0f} MB")
                gateway.stop()
            finally:
                gateway.kill()
        finally:
            sink.close()
            simulator.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
