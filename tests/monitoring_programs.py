"""Prometheus and promtool for the tests: those on the PATH, else those of Debian's packages.

`python -m tests.monitoring_programs`, which `make test` runs, unpacks the packages into
`.venv/prometheus`. It needs no root and installs nothing; package lists of its own are fetched
where the system's are missing or too old.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

UNPACKED = Path(__file__).parents[1] / ".venv/prometheus"
NAMES = ("prometheus", "promtool")


def find(name: str) -> str | None:
    """The path of a program, or None."""
    unpacked = UNPACKED / "usr/bin" / name
    return str(unpacked) if unpacked.exists() else shutil.which(name)


def program(name: str) -> str:
    """The path of a program. Raises AssertionError where it is missing."""
    found = find(name)
    assert found is not None, f"{name} is missing: run make .venv/prometheus/ready"
    return found


def run(*command: str, cwd: Path) -> None:
    """Run a command. Raises RuntimeError with what it said where it fails."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")


class Apt:
    """apt-get as it is, without changing the system; with lists of its own once those fail.

    folder: for packages, and for lists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # As root it would fetch as another user, who may not write into this folder.
        self._options = ["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3"]

    def package(self, name: str) -> Path:
        """The file of a package. Raises RuntimeError."""
        try:
            return self._download(name)
        except RuntimeError:
            self._update()
            return self._download(name)

    def _download(self, name: str) -> Path:
        run("apt-get", *self._options, "download", name, cwd=self._folder)
        return next(self._folder.glob(f"{name}_*.deb"))

    def _update(self) -> None:
        for empty in ("lists/partial", "cache/archives/partial"):
            (self._folder / empty).mkdir(parents=True, exist_ok=True)
        own = {"Dir::State::Lists": "lists", "Dir::Cache": "cache"}
        for setting, name in own.items():
            self._options += ["-o", f"{setting}={self._folder / name}"]
        run("apt-get", *self._options, "update", cwd=self._folder)


def unpack() -> None:
    """Unpack the programs of Debian's packages. Raises RuntimeError where that cannot be."""
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise RuntimeError(f"{missing[0]} is not on the PATH")
    binaries = UNPACKED / "usr/bin"
    binaries.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED) as made:
        folder = Path(made)
        apt = Apt(folder)
        for name in NAMES:
            # Debian 12 has promtool in the package of Prometheus, Debian 13 in one of its own.
            if not (folder / "usr/bin" / name).exists():
                run("dpkg", "-x", str(apt.package(name)), made, cwd=folder)
        for name in NAMES:  # each at once: no half of one is left where this is interrupted
            (folder / "usr/bin" / name).rename(binaries / name)


def main(arguments: Sequence[str]) -> int:
    """Find or unpack both programs. Returns the exit status."""
    if any(find(name) is None for name in NAMES):
        try:
            unpack()
        except (OSError, RuntimeError) as error:
            sys.stderr.write(
                f"The tests need prometheus and promtool: {error}\n"
                "Install them (Debian and Ubuntu: apt-get install prometheus; elsewhere the "
                "release of prometheus.io) so that they are on the PATH.\n"
            )
            return 1
    UNPACKED.mkdir(parents=True, exist_ok=True)
    (UNPACKED / "ready").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
