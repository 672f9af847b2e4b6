"""`penstock status` asks where the gateway listens, whatever its file says."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from .program import DEADLINE, Program, command, environment, until


def document(folder: Path) -> str:
    return f"""
[server]
host = "127.0.0.1"
port = 9
[store]
sql = "sqlite:///{folder}/penstock.db"
journal = "{folder}/journal"
[[upstreams]]
name = "near"
dialect = "simulator"
[[models]]
id = "sim-1"
targets = ["near/sim-1"]
"""


def status(file: Path, **env: str) -> tuple[int, str]:
    """Exit status, and what it printed."""
    done = subprocess.run(
        command("status", "--config", str(file)),
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_status_asks_the_address_of_the_command_line_in_another_tmpdir(
    tmp_path: Path, host: str
) -> None:
    """Nor is a note believed that a killed gateway has left."""
    file = tmp_path / "penstock.toml"
    file.write_text(document(tmp_path))
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    words = ("serve", "--config", str(file), "--host", host, "--port", "0")
    first = Program(*words, folder=tmp_path, env={"TMPDIR": str(theirs)})
    try:
        found, said = status(file, TMPDIR=str(ours))
        assert found == 0, said
        assert f":{first.port}, pid {first.process.pid}, ready" in said
        os.killpg(first.process.pid, signal.SIGKILL)
        first.process.wait()
    finally:
        first.kill()
    found, said = status(file, TMPDIR=str(ours))
    assert found == 1
    assert "http://127.0.0.1:9: does not answer" in said
    if host != "127.0.0.1":
        return
    second = Program(*words, folder=tmp_path, env={"TMPDIR": str(theirs)})
    try:
        notes = [path.name for path in (tmp_path / "journal").glob("serving-*")]
        assert notes == [f"serving-{second.process.pid}.json"]
        (tmp_path / "journal" / notes[0]).unlink()
        until(lambda: list((tmp_path / "journal").glob("serving-*")), what="the note again")
        assert status(file, TMPDIR=str(ours))[0] == 0
        assert second.stop() == 0
    finally:
        second.kill()
    assert not list((tmp_path / "journal").glob("serving-*"))
