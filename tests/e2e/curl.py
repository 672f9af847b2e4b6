"""Requests by the curl program, as a user types them."""

import subprocess
from pathlib import Path

from .program import DEADLINE, Gateway, environment


def curl(media: Gateway, folder: Path, path: str, *options: str) -> tuple[int, bytes]:
    """Status and body of a request by the curl program."""
    key = f"authorization: Bearer {media.key}"
    url = f"{media.url}/v1{path}"
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "-H", key, "-w", "\n%{http_code}", *options, url],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body
