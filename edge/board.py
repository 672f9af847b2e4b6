"""The configuration that every worker is to run, where the parent posts it and workers read it.

Theory of operation. The board is memory that the parent shares with the workers it forks: never a
file, as the secrets of the configuration are in it. What is posted last is what counts, for a
worker that was busy with an earlier one as for one that replaces a dead one. A worker is told by a
signal to look, and looks now and then by itself.

What stands there has been read and checked by the parent, with all that its references stood for:
a worker neither reads the file again nor finds something else in it.
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

from .references import Secret
from .settings import Settings

_SIZE = 16 << 20
_HEAD = 48
"""Bytes before the posted ones: their serial and length, and what they hash to."""
_PATIENCE = 1.0


class Posted(msgspec.Struct, frozen=True):
    """A configuration that was found good.

    serial: 1 for the first, and one more for each that followed. digest: of the file it was read
    from, see `digest_of`; "" for one of no file. certificates: what the files of certificates that
    it names had in them.
    """

    settings: Settings
    serial: int = 1
    digest: str = ""
    certificates: Mapping[Path, bytes] = {}

    @classmethod
    def of(cls, settings: Settings, *, serial: int = 1, digest: str = "") -> Self:
        """The same with its certificates as they are now. Raises OSError."""
        named = {path for one in settings.upstreams for path in (one.ca, one.client_cert)}
        held = {path: path.read_bytes() for path in named if path is not None}
        return cls(settings, serial, digest, held)


def digest_of(text: bytes) -> str:
    """By what a configuration file is known to people: 16 hexadecimal digits of its content.

    What it refers to has no part in it: of a secret not even this much should be shown.
    """
    return sha256(text).hexdigest()[:16]


class TooLarge(ValueError):
    """A configuration for which there is no room on the board."""


class Board:
    """Made before the workers are forked. One process posts, any number read.

    size: bytes of the largest configuration, of which only what is used takes memory.
    """

    def __init__(self, size: int = _SIZE) -> None:
        self._memory = mmap.mmap(-1, _HEAD + size)

    @property
    def serial(self) -> int:
        """Of what is posted; 0 while it is being written."""
        return int.from_bytes(self._memory[:8])

    def post(self, posted: Posted) -> None:
        """Put `posted` in the place of what was there. Raises TooLarge, and then nothing is."""
        body = _packed(posted)
        if _HEAD + len(body) > len(self._memory):
            raise TooLarge(f"a configuration takes {len(body)} bytes, more than there is room for")
        self._memory[:8] = bytes(8)
        self._memory[_HEAD : _HEAD + len(body)] = body
        self._memory[8:_HEAD] = len(body).to_bytes(8) + sha256(body).digest()
        self._memory[:8] = posted.serial.to_bytes(8)

    def read(self) -> Posted:
        """What is posted. Raises TimeoutError when that is not whole for a second: its writer died
        over it."""
        until = time.monotonic() + _PATIENCE
        while (body := self._whole()) is None:
            if time.monotonic() > until:
                raise TimeoutError("the configuration was not posted whole")
            time.sleep(0.001)
        posted: Posted = pickle.loads(body)  # noqa: S301  of our parent, by nobody else's reach
        return posted

    def _whole(self) -> bytes | None:
        head = self._memory[:_HEAD]
        body = self._memory[_HEAD : _HEAD + int.from_bytes(head[8:16])]
        good = any(head[:8]) and sha256(body).digest() == head[16:] and self._memory[:8] == head[:8]
        return body if good else None


class _Packer(pickle.Pickler):
    """Secrets hide themselves from pickle. Between parent and worker they must not."""

    def reducer_override(self, value: object) -> Any:
        if type(value) is Secret:
            return Secret, (value.reveal(),)
        return NotImplemented


def _packed(posted: Posted) -> bytes:
    out = io.BytesIO()
    _Packer(out, pickle.HIGHEST_PROTOCOL).dump(posted)
    return out.getvalue()
