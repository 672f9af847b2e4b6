"""`python -m tests.fuzz --seconds 1200 [--target NAME] [--keep DIR] [--input FILE]`.

The targets are imported where they are needed: atheris has to see the code come in.
"""

import argparse
import subprocess
import sys
import tempfile
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from random import Random
from time import monotonic
from traceback import print_exc

LED = find_spec("atheris") is not None
_LONGEST = 20_000


def main() -> int:
    """Every target in turn, each in a process of its own, since libFuzzer ends its process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="in all")
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--keep", type=Path, default=Path(".fuzz"), help="for what broke something")
    parser.add_argument("--input", type=Path, help="run the target on this file, once")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.keep.mkdir(parents=True, exist_ok=True)
    if asked.input is not None:
        from .targets import TARGETS

        TARGETS[asked.target].run(asked.input.read_bytes())
        return 0
    if asked.here:
        return (_led if LED else _blind)(asked.target, asked.seconds, asked.keep)
    names = [asked.target] if asked.target else _names()
    each = max(1, asked.seconds // len(names))
    broken = []
    print(
        f"{'led by coverage' if LED else 'blind'}: {len(names)} targets, {each} s each", flush=True
    )
    for name in names:
        keep = asked.keep / name
        keep.mkdir(exist_ok=True)
        command = [sys.executable, "-m", __package__, "--here", "--target", name]
        command += ["--seconds", str(each), "--keep", str(keep)]
        done = subprocess.run(command, check=False)
        print(f"{name}: {'BROKEN' if done.returncode else 'held'}", flush=True)
        if done.returncode:
            broken.append(name)
    print(
        f"{len(broken)} of {len(names)} broken: {', '.join(broken) or 'none'}; kept in {asked.keep}"
    )
    return len(broken)


def _names() -> list[str]:
    from .targets import TARGETS

    return list(TARGETS)


def _led(name: str, seconds: int, keep: Path) -> int:
    """libFuzzer: what reaches new code is kept and changed further."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["edge.dialects", "middlewares.sse"]):
        from .targets import TARGETS

    target = TARGETS[name]
    pool = target.seeds()

    def change(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.4:
            return bytes(atheris.Mutate(data, most))
        return target.change(data, random, pool)[:most]

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(pool):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [f"-max_total_time={seconds}", f"-max_len={_LONGEST}", "-timeout=20"]
        options += [f"-artifact_prefix={keep}/", "-verbosity=0", "-print_final_stats=1"]
        atheris.Setup([name, *options, corpus], target.run, custom_mutator=change)
        atheris.Fuzz()  # ends the process
    return 0


def _blind(name: str, seconds: int, keep: Path) -> int:
    """Changes to the seeds until the time is up, or something breaks."""
    from .targets import TARGETS

    target = TARGETS[name]
    pool, random, runs = target.seeds(), Random(name), 0
    end = monotonic() + seconds
    while monotonic() < end:
        data = target.change(random.choice(pool), random, pool)
        runs += 1
        try:
            target.run(data)
        except Exception:
            kept = keep / f"crash-{sha256(data).hexdigest()[:16]}"
            kept.write_bytes(data)
            print_exc()
            print(f"after {runs} runs: {kept}")
            return 1
    print(f"{name}: {runs} runs")
    return 0


if __name__ == "__main__":
    sys.exit(min(1, main()))
