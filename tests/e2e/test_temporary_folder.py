"""The folder for temporary files full, removed, or littered by gateways that were killed."""

import os
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
    """Values in memory that a file of the folder stands behind would be a SIGBUS; a note that
    cannot be written is none."""
    disk = Disk(tmp_path)
    gateway = disk.gateway()
    try:
        assert list(disk.seen_by(gateway).glob("penstock-*/server.json"))
        assert served(gateway) == 1
        disk.fill(gateway)
        for process in (gateway.process.pid, gateway.workers[0].pid):
            assert str(disk.folder) not in Path(f"/proc/{process}/maps").read_text()
        for n in range(3):
            assert served(gateway) == 2 + n
        replaced(gateway)
        assert served(gateway) == 5
        assert gateway.stop() == 0
        figures(f"full: {disk.how}, {disk.refused()} calls were refused")
    finally:
        gateway.kill()


_FULL = """
import errno, os, sys
folder, full = os.environ["TMPDIR"], os.environ["FULL"]
def hook(event, arguments):
    if event != "open" or not isinstance(arguments[0], str):
        return
    path, _, flags = arguments
    if path.startswith(folder) and flags & (os.O_WRONLY | os.O_RDWR) and os.path.exists(full):
        with open(full, "a") as file:
            file.write(path + "\\n")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
sys.addaudithook(hook)
"""


class Disk:
    """A folder for temporary files that can be filled up.

    A file system of 256 KiB in a mount namespace. Where there are none to be had, Python's own
    calls say that there is no room, for every file of the folder that is opened to write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tmp"
        self.folder.mkdir()
        self._work = folder / "gateway"
        self._work.mkdir()
        self._env = {**SECRETS, "TMPDIR": str(self.folder)}
        mount = f'mount -t tmpfs -o size=256k penstock "{self.folder}"'
        within = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$0" "$@"']
        tried = subprocess.run([*within, "true"], capture_output=True)
        self._mounted = tried.returncode == 0
        self._wrapper: list[str] = within if self._mounted else []
        self.how = "a file system" if self._mounted else "a stand-in"
        if not self._mounted:
            (self._work / "sitecustomize.py").write_text(_FULL)
            self._env |= {"PYTHONPATH": str(self._work), "FULL": str(folder / "full")}

    def gateway(self) -> Gateway:
        return Gateway(self._work, DOCUMENT, env=self._env, wrapper=self._wrapper)

    def seen_by(self, gateway: Gateway) -> Path:
        """The folder from here."""
        root = f"/proc/{gateway.process.pid}/root"
        return Path(f"{root}{self.folder}") if self._mounted else self.folder

    def fill(self, gateway: Gateway) -> None:
        """Leave no room."""
        if not self._mounted:
            return Path(self._env["FULL"]).touch()
        inside = self.seen_by(gateway)
        try:
            with (inside / "filler").open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError as error:
            assert error.strerror == "No space left on device"
        assert os.statvfs(inside).f_bavail == 0

    def refused(self) -> str:
        """How many calls of the program's found no room; the stand-in must have met some."""
        if self._mounted:
            return "unknown"
        met = Path(self._env["FULL"]).read_text().splitlines()
        assert met
        return str(len(met))


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
            said = until(
                lambda: [line for line in successor.log if str(left) in line["event"]],
                what="the line about what was left",
            )
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
