"""What an operator does with a running gateway: edit its configuration, reload, ask its status."""

import json
import signal
import subprocess
from typing import Any

import httpx

from edge.config.snapshot import digest_of

from .program import DEADLINE, Gateway, command, environment


def status(gateway: Gateway) -> dict[str, Any]:
    """GET /status on a new connection, so of any of the workers."""
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        found: dict[str, Any] = client.get(f"{gateway.url}/status").json()
    return found


def change(gateway: Gateway, **tables: Any) -> str:
    """Replace tables of the configuration file in one step, as editors do. Returns its digest."""
    document = json.loads(gateway.file.read_text()) | tables
    new = gateway.file.with_suffix(".new")
    new.write_text(json.dumps(document))
    new.replace(gateway.file)
    return digest_of(gateway.file.read_bytes())


def reload(gateway: Gateway) -> None:
    """Signal the program to read its configuration again."""
    gateway.process.send_signal(signal.SIGHUP)


def run_status(gateway: Gateway, *options: str) -> tuple[int, str, str]:
    """Run `penstock status`. Returns its exit status, output and errors."""
    done = subprocess.run(
        command("status", "--config", str(gateway.file), *options),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    return done.returncode, done.stdout, done.stderr
