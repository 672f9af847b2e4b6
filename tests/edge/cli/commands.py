"""Run commands in this process, with a configuration file of their own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from edge.cli import main

ROOT = Path(__file__).parents[3]

BASE = """
[[plans]]
id = "pro"
[[upstreams]]
name = "sim"
dialect = "simulator"
[[models]]
id = "m"
aliases = ["n"]
targets = ["sim/m"]
"""


class Result(NamedTuple):
    status: object
    out: str
    err: str


@dataclass(frozen=True)
class Checked:
    """What `penstock check --json` found: "STATE WHAT: DETAIL" of each finding, and the hints."""

    status: object
    lines: list[str]
    hints: str

    def of(self, *starts: str) -> list[str]:
        """The lines that begin with one of these."""
        return [line for line in self.lines if line.startswith(starts)]

    def __contains__(self, text: str) -> bool:
        return any(text in line for line in self.lines)


class Penstock:
    """Runs commands in this process with one configuration file."""

    def __init__(self, config: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self._capture = capture

    def __call__(self, *arguments: str) -> Result:
        self._capture.readouterr()
        before = os.umask(0o022)
        try:
            with pytest.raises(SystemExit) as stopped:
                main(arguments)
        finally:
            os.umask(before)
        return Result(stopped.value.code, *self._capture.readouterr())

    def on(self, *arguments: str) -> Result:
        return self(*arguments, "--config", str(self.config))

    def check(self, *options: str) -> Checked:
        """Run `penstock check --json`. What it prints has no secret of these tests."""
        ran = self.on("check", "--json", *options)
        assert ran.err == "" and not any(each in ran.out for each in ("hunter2", "canary"))
        found = json.loads(ran.out)
        assert found["exit"] == ran.status
        findings = found["findings"]
        return Checked(
            ran.status,
            [f"{one['state']} {one['what']}: {one['detail']}" for one in findings],
            "\n".join(one["hint"] for one in findings),
        )

    def alone(self, *arguments: str) -> Result:
        """Run in an own process, since a server changes the signal handlers of its process."""
        done = subprocess.run(
            [sys.executable, "-c", "from edge.cli import main\nmain()", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)


def write_config(
    folder: Path, text: str = "", sql: str = "", counters: str = "memory", journal: str = ""
) -> Path:
    sql = sql or f"sqlite:///{folder}/var/penstock.db"
    journal = journal or f"{folder}/var/journal"
    config = folder / "penstock.toml"
    store = f'[store]\nsql = "{sql}"\ncounters = "{counters}"\njournal = "{journal}"\n'
    config.write_text(f"{store}{BASE}{text}")
    return config
