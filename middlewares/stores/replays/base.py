"""Answers kept so that they can be given again: what a store of them must do, and their form.

Under one key there is nothing, or the mark of a request that runs, or the answer it came to. A mark
that its owner does not renew expires, so a killed process keeps no request waiting. No
request ever finds its key taken without finding who took it: `claim` is one atomic decision.
"""

import asyncio
import zlib
from typing import Protocol

import msgspec

LIFETIME = 45.0
"""Seconds that the mark of a running request outlives its process."""

_COMPRESSED = 1 << 10
_OFF_LOOP = 64 << 10
_FRAME = 5
"""Bytes before the content: how it is written, and its length."""


class RunMark(msgspec.Struct, frozen=True):
    """A request that runs.

    key: what it is known by. fingerprint: 32 bytes that tell its content from any other's.
    owner: 32 characters, of this run alone. large: its answer is too large to be kept.
    """

    key: str
    fingerprint: bytes
    owner: str
    large: bool = False


class KeptAnswer(msgspec.Struct, frozen=True, array_like=True):
    """One whole answer. blocks: its body, as it may be sent again; served: `Exchange.served`."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    blocks: tuple[bytes, ...]
    served: str = ""


class ReplayEntry(msgspec.Struct, frozen=True):
    """What is under a key. Without an answer it still runs; large: see `RunMark`."""

    fingerprint: bytes
    answer: KeptAnswer | None = None
    large: bool = False


class ReplayStore(Protocol):
    """Every method may raise StoreUnavailable (see `stores.keys`) and returns in bounded time.

    lifetime: seconds that a mark lives unless it is renewed.
    """

    lifetime: float

    async def claim(self, mark: RunMark) -> ReplayEntry | None:
        """Put the mark where nothing is. None: it is there now; else what was there before."""
        ...

    async def find(self, key: str) -> ReplayEntry | None:
        """What is under the key."""
        ...

    async def renew(self, mark: RunMark) -> bool:
        """Let the mark live on, as it is now. False when it is not there any more."""
        ...

    async def keep(self, mark: RunMark, answer: KeptAnswer, seconds: float) -> bool:
        """Put the answer in the place of the mark, for so long.

        False when another has taken its place, or the answer is larger than the store will have.
        Where nothing is any more, the answer is kept.
        """
        ...

    async def release(self, mark: RunMark) -> None:
        """Take the mark away, if it is there."""
        ...


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(KeptAnswer).decode


async def pack(answer: KeptAnswer) -> bytes:
    """As bytes, compressed when that is worth it; the event loop is not held up by large ones."""
    size = sum(map(len, answer.blocks))
    if size > _OFF_LOOP:
        return await asyncio.to_thread(_pack, answer)
    return _pack(answer)


async def unpack(packed: bytes) -> KeptAnswer:
    """What `pack` made bytes of. Raises ValueError for anything else."""
    if int.from_bytes(packed[1:_FRAME], "big") > _OFF_LOOP:
        return await asyncio.to_thread(_unpack, packed)
    return _unpack(packed)


def _pack(answer: KeptAnswer) -> bytes:
    content = _encode(answer)
    size = len(content).to_bytes(_FRAME - 1, "big")
    if len(content) <= _COMPRESSED:
        return b"-" + size + content
    return b"z" + size + zlib.compress(content, 1)


def _unpack(packed: bytes) -> KeptAnswer:
    size = int.from_bytes(packed[1:_FRAME], "big")
    content = packed[_FRAME:]
    try:
        if packed[:1] == b"z":
            content = zlib.decompressobj().decompress(content, max_length=size)
        return _decode(content)
    except (zlib.error, msgspec.DecodeError) as raised:
        raise ValueError(f"not a packed answer: {raised}") from None
