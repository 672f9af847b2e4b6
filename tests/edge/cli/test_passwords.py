"""`penstock admin-password` prints a hash and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge.dashboard.sessions.password_hash import matches
from tests.waiting import DEADLINE

SCRIPT = Path(sys.executable).with_name("penstock")


def ran(typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, "admin-password"], input=typed, capture_output=True, text=True, timeout=DEADLINE
    )


def test_admin_password_prints_the_hash_of_the_line_it_reads() -> None:
    done = ran("correct horse battery\n")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert matches(line, "correct horse battery")
    assert done.stderr == ""


@pytest.mark.parametrize("typed", ["\n", "short\n", "password12345\n"])
def test_admin_password_that_is_easily_guessed_is_refused(typed: str) -> None:
    done = ran(typed)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: the password ")
