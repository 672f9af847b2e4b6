"""Python environments of the compared programs, under bench/.envs, created on first use."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

ENVIRONMENTS = Path(__file__).parent / ".envs"


class Unavailable(Exception):
    """Something to compare with cannot run here; the text says why and what to do."""


def python_environment(name: str, packages: Sequence[str]) -> Path:
    """A virtual environment with `packages`. Raises Unavailable."""
    home = ENVIRONMENTS / name
    if _is_made(home, packages):
        return home
    _run([sys.executable, "-m", "venv", str(home)])
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _run([*pip, "--disable-pip-version-check", *packages])
    return _made(home, packages)


def node_environment(
    name: str, packages: dict[str, str], overrides: dict[str, str] | None = None
) -> Path:
    """A folder with `packages` in its node_modules. Raises Unavailable."""
    home = ENVIRONMENTS / name
    wanted = {"private": True, "dependencies": packages, "overrides": overrides or {}}
    text = msgspec.json.encode(wanted).decode()
    if _is_made(home, [text]):
        return home
    if shutil.which("npm") is None:
        raise Unavailable("npm is not installed")
    home.mkdir(parents=True)
    (home / "package.json").write_text(text)
    _run(["npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--silent"])
    return _made(home, [text])


def _is_made(home: Path, packages: Sequence[str]) -> bool:
    """Whether it is there, whole, and of these packages; another is cleared away."""
    mark = home / "installed"
    if mark.exists() and mark.read_text() == "\n".join(packages):
        return True
    shutil.rmtree(home, ignore_errors=True)
    return False


def _made(home: Path, packages: Sequence[str]) -> Path:
    (home / "installed").write_text("\n".join(packages))
    return home


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unavailable(done.stdout.strip()[-500:] or f"exit status {done.returncode}")
