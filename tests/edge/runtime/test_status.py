"""Status files, and the answer of GET /status."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edge.runtime.status import (
    Reloaded,
    Serving,
    StatusFile,
    Working,
    find_gateway,
    report,
    worker_file,
    write,
)

NOW = 1_800_000_000.0


def working(pid: int, **more: object) -> Working:
    said = {"digest": "d", "generation": 1, "loaded": NOW, "requests": 2, "state": "ready", **more}
    return Working(pid=pid, **said)  # type: ignore[arg-type]


@pytest.fixture
def dead_pid() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_report_includes_all_live_workers(tmp_path: Path, dead_pid: int) -> None:
    own, other = working(os.getpid()), working(os.getppid(), generation=2, fault="why")
    stale = working(os.getpid(), requests=9)
    for one in (stale, other, working(dead_pid)):
        write(tmp_path, worker_file(one.pid), one)
    os.utime(tmp_path / worker_file(other.pid), (NOW - 3, NOW - 3))
    (tmp_path / "worker-1.json").write_text("{")
    write(tmp_path, "server.json", Serving(7, "1.2", "http://h:1", "/c.toml", NOW - 90, 2))
    write(tmp_path, "reload.json", Reloaded("refused", "bad", NOW, ("why not",), valid=False))
    found = report(own, tmp_path, NOW)
    assert (found["version"], found["pid"], found["uptime_seconds"]) == ("1.2", 7, 90.0)
    assert found["worker_count"] == 2
    assert found["last_reload"]["reasons"] == ["why not"]
    assert found["config_valid"] is False
    rows = {row["pid"]: row for row in found["workers"]}
    assert set(rows) == {own.pid, other.pid}
    assert (rows[own.pid]["requests"], rows[own.pid]["seen_seconds_ago"]) == (2, 0.0)
    assert (rows[other.pid]["generation"], rows[other.pid]["seen_seconds_ago"]) == (2, 3.0)
    assert (rows[other.pid]["fault"], "fault" in rows[own.pid]) == ("why", False)


def test_report_worker_without_parent_includes_itself() -> None:
    found = report(working(os.getpid(), state="draining"), None, NOW)
    assert (found["state"], len(found["workers"])) == ("draining", 1)
    assert found["config_valid"] is True
    assert "last_reload" not in found


def test_status_file_is_written_on_change_and_touched_otherwise(tmp_path: Path) -> None:
    notes = StatusFile(tmp_path)
    file = tmp_path / worker_file(os.getpid())
    notes.update(working(os.getpid()))
    first = file.stat()
    os.utime(file, (1, 1))
    notes.update(working(os.getpid()))
    again = file.stat()
    assert again.st_ino == first.st_ino
    assert again.st_mtime > 1
    notes.update(working(os.getpid(), requests=3))
    assert b'"requests":3' in file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_status_file_without_folder_is_ignored(tmp_path: Path) -> None:
    notes = StatusFile(tmp_path / "gone")
    notes.update(working(os.getpid()))


def test_find_gateway_returns_the_newest_live_one_of_the_file(
    tmp_path: Path, dead_pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    file = tmp_path / "penstock.toml"
    assert find_gateway(file) is None
    for name, pid, path, started in (
        ("older", os.getpid(), file, NOW),
        ("newer", os.getpid(), file, NOW + 1),
        ("ended", dead_pid, file, NOW + 2),
        ("another", os.getpid(), tmp_path / "other.toml", NOW + 3),
    ):
        folder = tmp_path / f"penstock-{name}"
        folder.mkdir()
        write(folder, "server.json", Serving(pid, "1", f"http://{name}", str(path), started, 1))
    (tmp_path / "penstock-empty").mkdir()
    assert find_gateway(file) == "http://newer"


def test_find_gateway_by_another_link_and_after_a_link_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kubelet changes the links of a ConfigMap."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / "penstock-one"
    folder.mkdir()
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "penstock.json").write_text("{}")
    data, file, other = tmp_path / "..data", tmp_path / "penstock.json", tmp_path / "other.json"
    data.symlink_to("v1")
    file.symlink_to("..data/penstock.json")
    other.symlink_to(file)
    write(folder, "server.json", Serving(os.getpid(), "1", "http://one", str(file), NOW, 1))
    assert find_gateway(file) == find_gateway(other) == "http://one"
    data.unlink()
    data.symlink_to("v2")
    assert find_gateway(file) == find_gateway(other) == "http://one"
    assert find_gateway(tmp_path / "v2" / "penstock.json") == "http://one"
    assert find_gateway(tmp_path / "v1" / "penstock.json") is None
    other.unlink()
    other.symlink_to(other)
    assert find_gateway(other) is None


def test_find_gateway_ignores_folders_of_other_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / "penstock-theirs"
    folder.mkdir()
    file = tmp_path / "penstock.toml"
    write(folder, "server.json", Serving(os.getpid(), "1", "http://evil", str(file), NOW, 1))
    assert find_gateway(file) == "http://evil"
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    assert find_gateway(file) is None
    folder.unlink()
    elsewhere.rename(folder)
    assert find_gateway(file) == "http://evil"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find_gateway(file) is None
