"""Large files pass through a worker without staying in its memory, however slow the client is."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import SECRETS, Figures
from .program import DEADLINE, Gateway

MIB = 1 << 20
BOUND = 32 * MIB
"""Bytes by which the memory of a worker may grow."""
DOCUMENT: dict[str, Any] = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "upstreams": [{"name": "sim", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["sim/sim-1"]}],
    "files": {"max_size": "4GiB", "storage": "20GiB"},
}
_HEAD = (
    b'--B\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    b'--B\r\ncontent-disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
)
_TAIL = b"\r\n--B--\r\n"


class Peak:
    """The largest memory of a worker since it was made."""

    def __init__(self, gateway: Gateway) -> None:
        (self._worker,) = gateway.workers
        self._before: int = self._worker.memory_info().rss
        self._highest: int = self._before

    def look(self) -> None:
        self._highest = max(self._highest, self._worker.memory_info().rss)

    @property
    def growth(self) -> int:
        return self._highest - self._before


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_large_file_up_and_down_keeps_the_memory_of_the_worker(
    tmp_path: Path, full: bool, figures: Figures, slow: bool
) -> None:
    """slow: for a while the client takes and gives less than the worker could."""
    size = (2048 if full else 96) * MIB
    gateway = Gateway(tmp_path, DOCUMENT, env=SECRETS)
    block = os.urandom(MIB)
    paced = (256 if full else 24) if slow else 0
    digest = hashlib.sha256()
    try:
        with httpx.Client(
            base_url=gateway.url, headers=gateway.bearer, trust_env=False, timeout=DEADLINE
        ) as client:
            form = {"content-type": "multipart/form-data; boundary=B"}
            warm = client.post("/v1/files", content=_HEAD + block * 8 + _TAIL, headers=form).json()
            client.get(f"/v1/files/{warm['id']}/content")
            peak = Peak(gateway)

            def body() -> Iterator[bytes]:
                yield _HEAD
                for number in range(size // MIB):
                    digest.update(block)
                    yield block
                    if number < paced:
                        time.sleep(0.02)
                    if number % 16 == 0:
                        peak.look()
                yield _TAIL

            length = {"content-length": str(len(_HEAD) + size + len(_TAIL))}
            made = client.post("/v1/files", content=body(), headers={**form, **length}).json()
            peak.look()
            up = peak.growth
            assert made["bytes"] == size
            came = hashlib.sha256()
            with client.stream("GET", f"/v1/files/{made['id']}/content") as answer:
                assert answer.headers["content-length"] == str(size)
                for number, piece in enumerate(answer.iter_raw(MIB)):
                    came.update(piece)
                    if number < paced:
                        time.sleep(0.02)
                    if number % 16 == 0:
                        peak.look()
            assert came.digest() == digest.digest()
        down = peak.growth
        figures(f"{size >> 20} MiB: growth {up >> 20} MiB up, {down >> 20} MiB up and down")
        assert down < BOUND
    finally:
        assert gateway.stop() == 0, gateway.stderr
