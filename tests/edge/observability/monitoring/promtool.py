"""promtool, run for its verdict."""

import subprocess
from pathlib import Path

from tests.monitoring_programs import program


def promtool(*arguments: str, cwd: Path, given: bytes = b"") -> subprocess.CompletedProcess[str]:
    """A finished run of it. given: its standard input."""
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=cwd, input=given, capture_output=True, timeout=120
    )
    said = [part.decode() for part in (done.stdout, done.stderr)]
    return subprocess.CompletedProcess(done.args, done.returncode, *said)


def content(done: "subprocess.CompletedProcess[str]") -> str:
    """What it said; it must have found no fault."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
