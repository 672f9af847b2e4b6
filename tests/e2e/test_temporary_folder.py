"""The folder for temporary files full, removed, or littered by gateways that were killed."""

import shutil
import signal
import subprocess
from pathlib import Path
from stat import S_IMODE

import httpx

from .conftest import SECRETS, Figures
from .program import Gateway, until

DOCUMENT = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
}


def begin(folder: Path, temporary: Path) -> Gateway:
    folder.mkdir(exist_ok=True)
    return Gateway(folder, DOCUMENT, env={**SECRETS, "TMPDIR": str(temporary)})


def served(gateway: Gateway) -> float:
    """Requests for chat that a scrape knows, after one more."""
    gateway.forget_connections()
    body = {"model": "sim-1", "messages": [{"role": "user", "content": "Hi"}]}
    assert gateway.post("/v1/chat/completions", body).status_code == 200
    return counted(gateway)


def counted(gateway: Gateway) -> float:
    return sum(
        value
        for (name, labels), value in gateway.metrics().items()
        if name == "penstock_requests_total" and ("endpoint", "chat.completions") in labels
    )


def replaced(gateway: Gateway) -> None:
    """Kill the worker, and wait for its successor."""
    (victim,) = gateway.workers
    victim.kill()
    until(lambda: ready(gateway, victim.pid), what="a worker in the place of a killed one")


def ready(gateway: Gateway, other: int) -> bool:
    gateway.forget_connections()
    try:
        answer = gateway.get("/status").json()
    except httpx.TransportError:
        return False
    return [worker["state"] for worker in answer["workers"] if worker["pid"] != other] == ["ready"]


def test_temporary_folder_removed_service_and_metrics_go_on(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    gateway = begin(tmp_path / "gateway", temporary)
    try:
        assert served(gateway) == 1
        for process in (gateway.process.pid, gateway.workers[0].pid):  # none that a full disk stops
            assert str(temporary) not in Path(f"/proc/{process}/maps").read_text()
        shutil.rmtree(temporary)
        assert served(gateway) == 2
        replaced(gateway)
        assert counted(gateway) == 2
        assert served(gateway) == 3
        assert gateway.metrics()["penstock_metrics_missing", ()] == 0
        (again,) = until(lambda: list(temporary.glob("penstock-*/server.json")), what="a new note")
        assert S_IMODE(again.parent.stat().st_mode) == 0o700
        assert "ready" in gateway.run("status")
        assert gateway.stop() == 0
        assert list(temporary.iterdir()) == []
        said = [line for line in gateway.log if "was removed" in line["event"]]
        assert len(said) == 1
        assert not [line for line in gateway.log if "exception" in line]
    finally:
        gateway.kill()


def test_temporary_folder_full_service_and_metrics_go_on(tmp_path: Path, figures: Figures) -> None:
    """On a small file system of its own, in a mount namespace, where the machine allows one."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    mounted = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=256k", "penstock", str(temporary)],
        capture_output=True,
    )
    if mounted.returncode:
        figures("no mount namespace here: the full disk is only seen by the test beside this one")
        return
    gateway = begin_mounted(tmp_path / "gateway", temporary)
    try:
        inside = Path(f"/proc/{gateway.workers[0].pid}/root{temporary}")
        assert list(inside.glob("penstock-*/server.json"))
        assert served(gateway) == 1
        filled(inside / "filler")
        for n in range(3):
            assert served(gateway) == 2 + n
        replaced(gateway)
        assert served(gateway) == 5
        assert gateway.stop() == 0
    finally:
        gateway.kill()


def filled(path: Path) -> None:
    """Write until there is no room."""
    try:
        with path.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError as error:
        assert error.strerror == "No space left on device"


def begin_mounted(folder: Path, temporary: Path) -> Gateway:
    """A gateway that sees a file system of 256 KiB at `temporary`."""
    folder.mkdir()
    env = {**SECRETS, "TMPDIR": str(temporary)}
    within = f'mount -t tmpfs -o size=256k penstock "{temporary}" && exec "$0" "$@"'
    return Gateway(folder, DOCUMENT, env=env, wrapper=("unshare", "-rm", "sh", "-c", within))


def test_start_removes_folders_of_killed_gateways_only(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    alike = temporary / "penstock-mine"
    alike.mkdir()
    (alike / "file").write_text("kept")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "gateway.lock").write_text("")
    (temporary / "penstock-link").symlink_to(elsewhere)
    killed = begin(tmp_path / "killed", temporary)
    living = begin(tmp_path / "living", temporary)
    try:
        (left,) = [
            folder
            for folder in temporary.glob("penstock-*")
            if f'"pid":{killed.process.pid},' in _note(folder)
        ]
        killed.signal_group(signal.SIGKILL)
        killed.process.wait()
        successor = begin(tmp_path / "killed", temporary)
        try:
            assert not left.exists()
            assert _note(alike) == "" and (alike / "file").read_text() == "kept"
            assert elsewhere.exists()
            assert "ready" in living.run("status")
            assert "ready" in successor.run("status")
            said = [line["event"] for line in successor.log if str(left) in line["event"]]
            assert len(said) == 1
            assert successor.stop() == 0
        finally:
            successor.kill()
        assert living.stop() == 0
    finally:
        killed.kill()
        living.kill()


def _note(folder: Path) -> str:
    note = folder / "server.json"
    return note.read_text() if note.exists() else ""


def test_no_temporary_folder_to_be_had_starts_and_serves(tmp_path: Path) -> None:
    """A file where the folder should be; Python then looks for other places, which may be there."""
    temporary = tmp_path / "tmp"
    temporary.write_text("")
    gateway = begin(tmp_path / "gateway", temporary)
    try:
        assert served(gateway) == 1
        assert gateway.stop() == 0
    finally:
        gateway.kill()
