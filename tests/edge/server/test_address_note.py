"""Address files beside the journal."""

import logging
import os
import tempfile
from pathlib import Path

import msgspec
import pytest

from edge.runtime.status import (
    Serving,
    find_gateway,
    is_running,
    process_start,
    running_gateways,
    write,
)
from edge.server.address_note import AddressNote

NOW = 1_800_000_000.0


def serving(file: Path, *, url: str = "http://h:1", started: float = NOW) -> Serving:
    pid = os.getpid()
    return Serving(pid, "1", url, str(file), started, 1, process_start(pid))


def test_address_note_is_found_renewed_and_deleted(tmp_path: Path) -> None:
    serving_one = serving(tmp_path / "penstock.toml")
    note = AddressNote(tmp_path)
    note.renew()  # nothing to tell yet
    assert running_gateways(tmp_path) == []
    note.publish(serving_one)
    assert running_gateways(tmp_path) == [serving_one]
    (path,) = tmp_path.glob("*.json")
    path.unlink()
    note.renew()
    assert running_gateways(tmp_path) == [serving_one]
    note.remove()
    note.remove()
    assert list(tmp_path.iterdir()) == []


def test_is_running_another_process_with_the_id_is_false(tmp_path: Path) -> None:
    serving_one = serving(tmp_path / "penstock.toml")
    assert is_running(serving_one)
    stale = msgspec.structs.replace(serving_one, born=serving_one.born + 1)
    assert not is_running(stale)
    write(tmp_path, "serving-77.json", stale)
    (tmp_path / "serving-78.json").write_text("{")
    assert running_gateways(tmp_path) == []
    AddressNote(tmp_path).publish(serving_one)
    assert [path.name for path in tmp_path.iterdir()] == [f"serving-{os.getpid()}.json"]


def test_address_note_write_error_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving_one = serving(tmp_path / "penstock.toml")
    with caplog.at_level(logging.WARNING):
        AddressNote(tmp_path / "later").publish(serving_one)  # its workers create the folder
        assert caplog.records == []
        (tmp_path / "file").touch()
        note = AddressNote(tmp_path / "file")
        note.publish(serving_one)
        note.renew()
    assert len(caplog.records) == 1


def test_find_gateway_without_a_temporary_folder_takes_the_noted_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A read-only container without a writable /tmp still has a health check."""

    def gettempdir() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    file = tmp_path / "penstock.toml"
    noted = serving(file, url="http://noted")
    assert find_gateway(file, [noted]) == "http://noted"
    assert find_gateway(file) is None


def test_find_gateway_takes_the_newest_of_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    file = tmp_path / "penstock.toml"
    folder = tmp_path / "penstock-own"
    folder.mkdir()
    write(folder, "server.json", serving(file, url="http://own"))
    older = serving(file, url="http://older", started=NOW - 1)
    newer = serving(file, url="http://newer", started=NOW + 1)
    other = serving(tmp_path / "other.toml", url="http://other", started=NOW + 2)
    assert find_gateway(file, [older, other]) == "http://own"
    assert find_gateway(file, [older, newer, other]) == "http://newer"
