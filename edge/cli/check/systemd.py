"""The systemd unit of a process, and the time it gives to stop."""

import asyncio
import re
import shutil
from pathlib import Path

_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")
_PATIENCE = 2.0
_INFINITE = float("inf")


def unit_of(pid: int, root: Path = Path("/")) -> str:
    """The service whose control group a process is in, "" for none."""
    try:
        lines = (root / f"proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return ""
    found = [unit[1] for line in lines if (unit := _UNIT.search(line)) is not None]
    own = [unit for unit in found if not unit.startswith(("user@", "session"))]
    return own[0] if own else ""


async def stop_timeout(unit: str) -> float | None:
    """Seconds of TimeoutStopSec of a unit; None where systemd does not say."""
    program = shutil.which("systemctl")
    if program is None:
        return None
    arguments = ("show", "--property=TimeoutStopUSec", "--value", "--", unit)
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            out, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
    return of_span(out.decode("ascii", "replace").strip()) if process.returncode == 0 else None


def of_span(text: str) -> float | None:
    """Seconds of a span as systemd prints it: "1min 30s", "infinity". None for other text."""
    if text == "infinity":
        return _INFINITE
    units = {"y": 31_557_600, "month": 2_629_800, "w": 604_800, "d": 86_400, "h": 3600}
    units |= {"min": 60, "s": 1}
    total = 0.0
    for part in text.split():
        found = re.fullmatch(r"([0-9.]+)(ms|us|month|min|y|w|d|h|s)", part)
        if found is None:
            return None
        scale = {"ms": 1e-3, "us": 1e-6}.get(found[2]) or units[found[2]]
        total += float(found[1]) * scale
    return total if text else None
