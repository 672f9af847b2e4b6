"""Runs the image as a cluster does: read-only, as an arbitrary user, in a process namespace."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.waiting import DEADLINE

from .build import Image

UID = 1_000_650_000
"""A user without a name, as OpenShift chooses it; its group is 0."""


class Mounted:
    """A folder of configuration with Kubernetes' links: `penstock.json` leads to `..data`, and
    `..data` to a folder that holds all files of one version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            self.port: int = taken.getsockname()[1]
        self._versions = 0
        client = folder / "claude"
        client.write_text("#!/bin/sh\nexec sleep 1000\n")
        client.chmod(0o755)
        self.write()
        (folder / "penstock.json").symlink_to("..data/penstock.json")

    def write(self, *models: str) -> None:
        """Write a new version with further models, and change the link in one step."""
        self._versions += 1
        version = self.folder / f"..version-{self._versions}"
        version.mkdir()
        names = ("sim-1", *models)
        document = {
            "server": {"host": "0.0.0.0", "port": self.port, "drain_delay": "200ms"},
            "store": {
                "sql": "sqlite:////var/lib/penstock/penstock.db",
                "journal": "/var/lib/penstock/journal",
                "objects": "file:/var/lib/penstock/objects",
            },
            "auth": {"mode": "none"},
            "limits": {"address": "100000/min", "safety_net": "100000/min"},
            "upstreams": [
                {"name": "near", "dialect": "simulator"},
                {"name": "c", "dialect": "claude-cli", "command": "/etc/penstock/claude"},
            ],
            "models": [
                *({"id": name, "targets": ["near/sim-1"]} for name in names),
                {"id": "claude", "targets": ["c/sonnet"]},
            ],
        }
        (version / "penstock.json").write_text(json.dumps(document))
        new = self.folder / "..data_tmp"
        new.symlink_to(version.name)
        new.replace(self.folder / "..data")


def command(image: Image, mounted: Mounted, words: Sequence[str]) -> list[str]:
    """The command line that runs `words` in a container, as its first process."""
    environment = {**image.environment, "PENSTOCK_CONFIG": "/etc/penstock/penstock.json"}
    return [
        *("bwrap", "--die-with-parent", "--unshare-user", "--unshare-pid", "--as-pid-1"),
        *("--ro-bind", str(image.root), "/", "--dev", "/dev", "--proc", "/proc"),
        *("--tmpfs", "/tmp", "--tmpfs", "/var/lib/penstock"),
        *("--ro-bind", str(mounted.folder), "/etc/penstock"),
        *("--clearenv", "--chdir", image.config["WorkingDir"]),
        *(word for pair in environment.items() for word in ("--setenv", *pair)),
        *words,
    ]


def run(image: Image, mounted: Mounted, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the image to its end."""
    return subprocess.run(
        command(image, mounted, words),
        user=UID,
        group=0,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


class Container:
    """The image's own entry point and command, running. arguments: in place of the command."""

    def __init__(
        self, image: Image, mounted: Mounted, output: Path, arguments: Sequence[str] = ()
    ) -> None:
        self._image = image
        self._mounted = mounted
        self._output = output
        self.url = f"http://127.0.0.1:{mounted.port}"
        words = [*image.config["Entrypoint"], *(arguments or image.config["Cmd"])]
        with output.open("wb") as file:
            self._outer = subprocess.Popen(
                command(image, mounted, words),
                user=UID,
                group=0,
                extra_groups=[],
                stdout=file,
                stderr=file,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def first(self) -> psutil.Process:
        """The first process of the container."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            for process in psutil.Process(self._outer.pid).children():
                if "penstock" in "".join(process.cmdline()[1:2]):
                    return process
            assert self._outer.poll() is None, self.output
        raise AssertionError(self.output)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", trust_env=False, timeout=DEADLINE)

    def answers(self) -> bool:
        """Whether it is ready; while no worker lives the connection is refused."""
        try:
            return self.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def wait_until_ready(self) -> None:
        end = time.monotonic() + DEADLINE
        while "ready http" not in self.output:
            assert self._outer.poll() is None, self.output
            assert time.monotonic() < end, self.output
            time.sleep(0.02)

    def status(self) -> subprocess.CompletedProcess[str]:
        """`penstock status` inside, as a health check runs it."""
        inside = ["--target", str(self.first.pid), "--mount", "--pid", "--root", "--wd"]
        inside += ["--setuid", str(UID), "--setgid", "0"]
        variables = [f"{name}={value}" for name, value in self._image.environment.items()]
        variables.append("PENSTOCK_CONFIG=/etc/penstock/penstock.json")
        return subprocess.run(
            ["nsenter", *inside, "env", "-i", *variables, "penstock", "status", "--json"],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    def models(self) -> set[str]:
        found: list[dict[str, Any]] = self.get("/v1/models").json()["data"]
        return {one["id"] for one in found}

    def terminate(self) -> None:
        """Send SIGTERM to the first process, as an engine does."""
        os.kill(self.first.pid, signal.SIGTERM)

    def ended(self) -> int:
        """The exit status of the first process."""
        return self._outer.wait(DEADLINE)

    @property
    def running(self) -> bool:
        return self._outer.poll() is None

    def kill(self) -> None:
        self._outer.kill()
        self._outer.wait()
