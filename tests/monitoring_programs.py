"""Prometheus and promtool for the tests: those on the PATH, else those of Debian's package.

`python -m tests.monitoring_programs`, which `make test` runs, unpacks the package into
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


def run(*command: str) -> None:
    """Run a command. Raises RuntimeError with what it said where it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")


def download(folder: Path) -> Path:
    """Debian's package in `folder`."""
    own = ("-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache")
    # As root apt fetches as another user, who may not write into this folder.
    same_user = ("-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3")
    fetch = f'cd "{folder}" && exec apt-get "$@" download prometheus'

    def fetched(*options: str) -> Path:
        run("sh", "-c", fetch, "sh", *same_user, *options)
        return next(folder.glob("prometheus_*.deb"))

    try:
        return fetched()
    except RuntimeError:
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "cache/archives/partial").mkdir(parents=True)
        run("apt-get", *same_user, *own, "update")
        return fetched(*own)


def unpack() -> None:
    """Unpack the programs of Debian's package. Raises RuntimeError where that cannot be."""
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise RuntimeError(f"{missing[0]} is not on the PATH")
    binaries = UNPACKED / "usr/bin"
    binaries.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED) as folder:
        package = download(Path(folder))
        run("dpkg", "-x", str(package), folder)
        for name in NAMES:  # each at once: no half of one is left where this is interrupted
            (Path(folder) / "usr/bin" / name).rename(binaries / name)


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
