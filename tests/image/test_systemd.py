"""The unit under a real systemd: hardening, the user of its own, and all notices."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pages import ROOT, block, page

from .build import Image, archive

_PACKAGES = "python3,python3-venv,ca-certificates,systemd,systemd-sysv,dbus,libnss-systemd,curl"
_OPERATIONS = page("docs/operations.md")
_CONFIGURATION = """
[[upstreams]]
name = "simulator"
dialect = "simulator"
[[models]]
id = "sim-1"
targets = ["simulator/sim-1"]
"""
_STEPS = """
say() { echo "== $1"; shift; "$@" 2>&1; }
await() { n=0; until "$@" | grep -q "$word" || [ $n = 600 ]; do n=$((n+1)); sleep 0.1; done; }
say active systemctl is-active penstock
say status systemctl show penstock --property=StatusText
say ready curl -sS http://127.0.0.1:8080/readyz
say key CREATE
say folder stat -c %U:%a /var/lib/private/penstock
say reload systemctl reload penstock
sed -i 's/^id = .*/id = "new"/' /etc/penstock/penstock.toml
word='is applied'; await journalctl -u penstock
say applied systemctl is-active penstock
echo '[broken' >> /etc/penstock/penstock.toml
word=refused; await systemctl show penstock --property=StatusText
say refused systemctl show penstock --property=StatusText
say restarts systemctl show penstock --property=NRestarts
say stop systemctl stop penstock
say end systemctl show penstock --property=Result,ExecMainStatus
say log journalctl -u penstock --no-pager
systemctl poweroff
"""
_STEPS_UNIT = """
[Unit]
After=penstock.service
[Service]
Type=oneshot
ExecStart=/bin/sh /steps.sh
StandardOutput=file:/steps.log
"""


@pytest.fixture(scope="module")
def said(image: Image) -> Iterator[dict[str, str]]:
    """What each step said, in a machine of its own with the unit and the image's program."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-systemd-"))
    try:
        subprocess.run(["tar", "-C", folder, "-xf", archive("systemd", _PACKAGES)], check=True)
        shutil.copytree(image.root / "opt/penstock", folder / "opt/penstock", symlinks=True)
        units = folder / "etc/systemd/system"
        shutil.copy(ROOT / "config/penstock.service", units / "penstock.service")
        (folder / "etc/penstock").mkdir()
        configuration = block(_OPERATIONS, "toml", "sqlite:////var/lib/penstock") + _CONFIGURATION
        (folder / "etc/penstock/penstock.toml").write_text(configuration)
        create = block(_OPERATIONS, "sh", "systemd-run").strip()
        (folder / "steps.sh").write_text(_STEPS.replace("CREATE", create))
        (units / "steps.service").write_text(_STEPS_UNIT)
        wants = units / "multi-user.target.wants"
        for name in ("penstock.service", "steps.service"):
            (wants / name).symlink_to(f"../{name}")
        done = subprocess.run(
            ["systemd-nspawn", "--register=no", "--keep-unit", "--directory", folder, "--boot"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        log = folder / "steps.log"
        assert log.exists(), done.stdout[-4000:] + done.stderr[-2000:]
        parts = [part.partition("\n") for part in log.read_text().split("== ")[1:]]
        yield {name: text.strip() for name, _, text in parts}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_unit_starts_and_says_so(said: dict[str, str]) -> None:
    assert said["active"] == "active", said
    assert said["status"] == "StatusText=Serving http://127.0.0.1:8080"
    assert said["ready"] == '{"status":"ok"}'


def test_user_of_its_own_owns_the_state_and_commands_use_it(said: dict[str, str]) -> None:
    assert "sk-penstock-live-" in said["key"]
    assert said["folder"] == "penstock:700"


def test_reload_ends_and_a_refused_one_is_shown(said: dict[str, str]) -> None:
    assert said["reload"] == ""
    assert said["applied"] == "active"
    assert "refused" in said["refused"]


def test_stop_is_clean_and_nothing_was_restarted(said: dict[str, str]) -> None:
    assert said["restarts"] == "NRestarts=0"
    assert said["stop"] == ""
    assert set(said["end"].splitlines()) == {"Result=success", "ExecMainStatus=0"}
    for word in ("Reloaded penstock.service", "Stopped penstock.service", "is applied"):
        assert word in said["log"]
    for word in ("Traceback", "Operation not permitted", "watchdog", "Read-only"):
        assert word not in said["log"]
