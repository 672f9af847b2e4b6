"""Every file that a configuration names, when it is there and may not be read."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFIG = """
[[upstreams]]
name = "up"
dialect = "openai"
base_url = "https://127.0.0.1/v1"
api_key = "file:secret"
transport = "httpx"
ca = "ca.pem"
client_cert = "cert.pem"
"""
AS_ANYBODY = """
import os
def as_anybody():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
"""
LOAD = """
import sys
from edge.config.load import SettingsError, load
as_anybody()
try:
    load(sys.argv[1])
except SettingsError as error:
    print(*error.faults, sep="\\n")
"""
RELOAD = """
import sys
from pathlib import Path
from edge.config.snapshot import ConfigSnapshot, SharedConfig
from edge.server.reload import Reloader, Source
source = Source(Path(sys.argv[1]))
settings = source.load()
shared = SharedConfig()
shared.publish(ConfigSnapshot.of(settings))
done = []
reloader = Reloader(source, shared, running=settings, on_result=done.append, trial=lambda _: [])
Path(sys.argv[2]).chmod(0)
as_anybody()
reloader.reload()
print(*done[0].reasons, sep="\\n")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A configuration with all its files, below folders that every user may enter."""
    made = Path(tempfile.mkdtemp(prefix="unreadable-"))
    made.chmod(0o755)
    (made / "penstock.toml").write_text(CONFIG)
    for name in ("secret", "ca.pem", "cert.pem"):
        (made / name).write_text("text\n")
    yield made
    shutil.rmtree(made)


FILES = ["penstock.toml", "secret", "ca.pem", "cert.pem"]


def run(script: str, *arguments: object) -> str:
    """What a script prints that gives up the rights of root, where it has them."""
    done = subprocess.run(
        [sys.executable, "-c", AS_ANYBODY + script, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", FILES)
def test_load_a_file_that_may_not_be_read_says_permission_denied(folder: Path, name: str) -> None:
    (folder / name).chmod(0)
    said = run(LOAD, folder / "penstock.toml")
    assert name in said
    assert "cannot be read: Permission denied" in said
    assert "is empty" not in said
    assert "no file" not in said


@pytest.mark.parametrize("name", FILES)
def test_reload_a_file_that_may_not_be_read_any_more_says_permission_denied(
    folder: Path, name: str
) -> None:
    said = run(RELOAD, folder / "penstock.toml", folder / name)
    assert name in said
    assert "cannot be read: Permission denied" in said
    assert "is empty" not in said
    assert "no file" not in said


def test_load_a_file_in_a_folder_that_may_not_be_entered_says_permission_denied(
    folder: Path,
) -> None:
    closed = folder / "closed"
    closed.mkdir()
    (closed / "ca.pem").write_text("text\n")
    closed.chmod(0)
    (folder / "penstock.toml").write_text(CONFIG.replace('"ca.pem"', '"closed/ca.pem"'))
    try:
        said = run(LOAD, folder / "penstock.toml")
    finally:
        closed.chmod(0o755)
    assert "closed/ca.pem cannot be read: Permission denied" in said
