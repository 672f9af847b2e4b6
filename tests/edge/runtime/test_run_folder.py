"""Temporary folders: locked while a process lives, deleted by the next gateway."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from stat import S_IMODE

import pytest

from edge.runtime.run_folder import LOCK, HeldFolder, RunFolder, remove_leftovers


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made in a test."""
    made = tmp_path / "tmp"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


KILLED = """
import os, sys
from edge.runtime.run_folder import HeldFolder
folder = HeldFolder(sys.argv[1])
(folder.path / "tmp").mkdir()
(folder.path / "tmp" / "secret").write_text("x")
print(folder.path, flush=True)
os.kill(os.getpid(), 9)
"""


def left_by_dead_process(temporary_folder: Path, kind: str) -> Path:
    """The folder of a process that was killed."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, kind],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TMPDIR": str(temporary_folder)},
        capture_output=True,
        text=True,
    )
    path = Path(done.stdout.strip())
    assert path.parent == temporary_folder, done.stderr
    return path


@pytest.mark.parametrize("kind", ["claude", "demo"])
def test_remove_leftovers_deletes_folders_of_dead_processes_only(
    temporary_folder: Path, kind: str
) -> None:
    dead = left_by_dead_process(temporary_folder, kind)
    living, running = HeldFolder(kind), RunFolder()
    assert running.path is not None
    assert S_IMODE(living.path.stat().st_mode) == S_IMODE(running.path.stat().st_mode) == 0o700
    assert remove_leftovers() == [dead]
    assert not dead.exists()
    assert sorted(temporary_folder.iterdir()) == sorted((living.path, running.path))
    living.close()
    running.close()
    assert list(temporary_folder.iterdir()) == []


def test_remove_leftovers_keeps_other_folders(temporary_folder: Path, tmp_path: Path) -> None:
    (temporary_folder / "penstock-notes").mkdir()
    (temporary_folder / "penstock-file").write_text("x")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).write_text("")
    (temporary_folder / "penstock-link").symlink_to(elsewhere)
    linked = temporary_folder / "penstock-linked"
    linked.mkdir()
    (linked / LOCK).symlink_to(elsewhere / LOCK)
    assert remove_leftovers() == []
    assert (elsewhere / LOCK).exists()
    assert len(list(temporary_folder.iterdir())) == 4


def test_run_folder_removed_is_created_again_and_locked(temporary_folder: Path) -> None:
    folder = RunFolder()
    assert folder.path is not None
    assert not folder.renew()
    (folder.path / LOCK).unlink()
    folder.path.rmdir()
    temporary_folder.rmdir()
    assert folder.renew()
    assert not folder.renew()
    assert remove_leftovers() == []
    folder.close()
    assert list(temporary_folder.iterdir()) == []


def test_run_folder_without_space_is_logged_only(
    temporary_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    temporary_folder.rmdir()
    folder = RunFolder()
    assert folder.path is None
    assert not folder.renew()
    folder.close()
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "cannot create a temporary folder, so no status is written: "
    )
    assert remove_leftovers() == []
