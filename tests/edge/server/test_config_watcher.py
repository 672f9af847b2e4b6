"""The thread that watches the configuration file."""

import errno
import logging
import os
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from edge.server.config_watcher import ConfigWatcher
from edge.server.reload import Reloader, absolute_path
from tests.waiting import DEADLINE

ERRORS = [
    OSError(errno.ENOENT, "No such file or directory"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ESTALE, "Stale file handle"),
    MemoryError(),
    RuntimeError("Symlink loop"),
    ValueError("embedded null byte"),
]


class Reloads:
    """What a `Reloader` is asked, each time raising the next error; then all is well."""

    def __init__(self, errors: list[Exception]) -> None:
        self.errors = errors
        self.checked = threading.Event()
        self.reloaded = threading.Event()

    def due(self) -> bool:
        if self.errors:
            raise self.errors.pop(0)
        self.checked.set()
        return False

    def reload(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.reloaded.set()


def watcher_of(reloads: Any) -> ConfigWatcher:
    watcher = ConfigWatcher(cast("Reloader", reloads))
    watcher.ensure_running()
    return watcher


def test_watcher_any_error_is_logged_and_it_continues(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    reloads = Reloads([*ERRORS])
    watcher = watcher_of(reloads)
    watcher.request_reload()
    assert reloads.checked.wait(DEADLINE)
    watcher.request_reload()
    assert reloads.reloaded.wait(DEADLINE)
    said = [
        record.getMessage() for record in caplog.records if record.name == "edge.runtime.loop_guard"
    ]
    assert said == [
        *["checking the configuration failed; trying again"] * len(ERRORS),
        "checking the configuration works again",
    ]


def test_paused_check_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.server.config_watcher.FORK_SECONDS", 0.05)
    hung, go = threading.Event(), threading.Event()

    class Hangs:
        def due(self) -> bool:
            hung.set()
            return go.wait(DEADLINE) and False

    watcher = watcher_of(Hangs())
    assert hung.wait(DEADLINE)
    with watcher.paused():
        pass
    go.set()


def test_absolute_path_needs_no_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    absolute = Path("/etc/../etc/penstock.toml")
    assert absolute_path(absolute) == absolute
    assert absolute_path(Path("p.toml")) == here / "p.toml"
    assert absolute_path(Path("../../c/p.toml")) == tmp_path / "c" / "p.toml"
    here.rmdir()
    with pytest.raises(FileNotFoundError):
        absolute_path(Path("p.toml"))
    os.chdir(tmp_path)
