"""`python -m tests.golden.record FILE...`: write into each case what comes out of it.

Read the result: what is recorded is what the code does, not what it should do.
"""

import sys
from pathlib import Path

from .case import parse, render
from .play import play


def record(path: Path) -> bool:
    """Whether the file has changed."""
    text = path.read_text("utf-8")
    case = parse(text)
    case.recorded = play(case)
    new = render(case)
    path.write_text(new, "utf-8")
    return new != text


def main(paths: list[str]) -> int:
    """Record each file; one that cannot be played stays as it is."""
    failed = 0
    for name in paths:
        try:
            print(f"{'recorded' if record(Path(name)) else 'the same'}  {name}")
        except Exception as error:
            failed += 1
            print(f"FAILED    {name}\n          {type(error).__name__}: {error}")
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
