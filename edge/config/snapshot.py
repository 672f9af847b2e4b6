"""Configuration snapshots: the parent publishes the current one in shared memory for its workers.

Theory of operation. The memory is shared between the parent and the workers that it forks. It is
never a file, since it contains the secrets of the configuration. The last snapshot published is the
one to run, also for a worker that was busy with an earlier one or replaces a dead one. A signal
tells workers to read it, and they check it from time to time themselves.

The parent has decoded and checked the snapshot and resolved its references: a worker does not read
the file again, and all workers run the same content.
"""

import io
import mmap
import pickle
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import msgspec

from .load import Settings
from .secrets import Secret

_SIZE = 16 << 20
_HEAD = 48
"""Bytes of the head: serial, length and hash of the body."""
PATIENCE = 1.0


class ConfigSnapshot(msgspec.Struct, frozen=True):
    """A checked configuration, as workers get it.

    serial: 1 for the first, then counted up. digest: see `digest_of`; "" without a file.
    certificates: contents of the certificate files that it names.
    """

    settings: Settings
    serial: int = 1
    digest: str = ""
    certificates: Mapping[Path, bytes] = {}

    @classmethod
    def of(cls, settings: Settings, *, serial: int = 1, digest: str = "") -> Self:
        """A snapshot of `settings` with the contents of its certificates. Raises OSError."""
        named = {path for one in settings.upstreams for path in (one.ca, one.client_cert)}
        held = {path: path.read_bytes() for path in named if path is not None}
        return cls(settings, serial, digest, held)


def digest_of(text: bytes) -> str:
    """The digest of a configuration file that operators see: 16 hexadecimal digits.

    Files that it refers to are not included: not even a digest of a secret is shown.
    """
    return sha256(text).hexdigest()[:16]


class SnapshotTooLarge(ValueError):
    """A configuration larger than the shared memory for it."""


class SharedConfig:
    """Shared memory with the current snapshot. Create it before forking; one process writes.

    size: bytes of the largest configuration. Only used bytes take memory.
    """

    def __init__(self, size: int = _SIZE) -> None:
        self._memory = mmap.mmap(-1, _HEAD + size)

    @property
    def serial(self) -> int:
        """Serial of the snapshot in it; 0 while one is being written."""
        return int.from_bytes(self._memory[:8])

    def publish(self, snapshot: ConfigSnapshot) -> None:
        """Replace the snapshot by `snapshot`. Raises SnapshotTooLarge and keeps the old one."""
        body = _packed(snapshot)
        if _HEAD + len(body) > len(self._memory):
            raise SnapshotTooLarge(
                f"the configuration takes {len(body)} bytes; expected at most "
                f"{len(self._memory) - _HEAD}"
            )
        self._memory[:8] = bytes(8)
        self._memory[_HEAD : _HEAD + len(body)] = body
        self._memory[8:_HEAD] = len(body).to_bytes(8) + sha256(body).digest()
        self._memory[:8] = snapshot.serial.to_bytes(8)

    def read(self) -> ConfigSnapshot:
        """The current snapshot. Raises TimeoutError when it stays incomplete for a second, because
        its writer died."""
        until = time.monotonic() + PATIENCE
        while (body := self._whole()) is None:
            if time.monotonic() > until:
                raise TimeoutError("the configuration snapshot is incomplete")
            time.sleep(0.001)
        snapshot: ConfigSnapshot = pickle.loads(body)  # noqa: S301  written by our parent, readable by no other
        return snapshot

    def _whole(self) -> bytes | None:
        head = self._memory[:_HEAD]
        body = self._memory[_HEAD : _HEAD + int.from_bytes(head[8:16])]
        good = any(head[:8]) and sha256(body).digest() == head[16:] and self._memory[:8] == head[:8]
        return body if good else None


class _Packer(pickle.Pickler):
    """A pickler that keeps secrets, which other pickles leave out, for the workers."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, Secret):
            return type(value), (value.reveal(),)
        return NotImplemented


def _packed(snapshot: ConfigSnapshot) -> bytes:
    out = io.BytesIO()
    _Packer(out, pickle.HIGHEST_PROTOCOL).dump(snapshot)
    return out.getvalue()
