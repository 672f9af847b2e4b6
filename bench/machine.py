"""Description of the machine, versions and commit of a result, without names and paths."""

import os
import platform
import re
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_LIBRARIES = ("granian", "uvloop", "httptools", "msgspec", "orjson", "prometheus-client")
_IMPORT_RUNS = 7


def describe() -> dict[str, Any]:
    """This machine and the interpreter."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def commit(checkout: Path = _ROOT) -> tuple[str, bool]:
    """The commit and whether code that is measured differs from it; "unknown" without git."""
    try:
        found = _git(checkout, "rev-parse", "--short=10", "HEAD")
        code = ("edge", "middlewares", "bench/*.py")
        dirty = bool(_git(checkout, "status", "--porcelain", "--", *code))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", True
    return found, dirty


def _git(checkout: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=checkout, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def starts() -> dict[str, float]:
    """Times of programs and imports, in ms."""
    imports = {f"import {module}": import_ms(module) for module in ("middlewares", "edge")}
    return {"penstock --help": program_ms("penstock", "--help"), **imports}


def program_ms(*words: str) -> float:
    """Median time of a program of this environment from start to end, in ms."""
    command = [Path(sys.executable).with_name(words[0]), *words[1:]]
    times = []
    for _ in range(_IMPORT_RUNS):
        began = time.perf_counter()
        subprocess.run(command, cwd=_ROOT, capture_output=True, check=True)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def import_ms(module: str) -> float:
    """Median time to import `module` in a fresh interpreter, beyond its own start, in ms."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    times = []
    for _ in range(_IMPORT_RUNS):
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
        times.append(cumulative_ms(done.stderr, module))
    return statistics.median(times)


def cumulative_ms(importtime: str, module: str) -> float:
    """The cumulative time of `module` in what `python -X importtime` printed."""
    for line in reversed(importtime.splitlines()):
        fields = [field.strip() for field in line.removeprefix("import time:").split("|")]
        if len(fields) == 3 and fields[2] == module:
            return int(fields[1]) / 1000
    raise ValueError(f"{module} was not imported")
