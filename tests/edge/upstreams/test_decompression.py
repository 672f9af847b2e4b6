"""Decompression of response bodies, piece by piece and within a bound."""

import gzip
import random
import zlib

import pytest

from edge.upstreams import Header, Malformed, Response
from edge.upstreams.decompression import decompressed

TEXT = random.Random(7).randbytes(300_000).hex().encode()


class Body:
    """A response in memory."""

    status = 200

    def __init__(self, *pieces: bytes, coding: bytes = b"gzip") -> None:
        self.headers: list[Header] = [
            (b"content-type", b"text/plain"),
            (b"content-length", b"17"),
            (b"content-encoding", coding),
        ]
        self.pieces = list(pieces)
        self.closed = False

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        self.closed = True


async def whole(response: Response) -> bytes:
    out = b""
    while more := await response.read():
        out += more
    return out


async def test_decompressed_drops_the_headers_that_no_longer_hold() -> None:
    body = Body(gzip.compress(b"x"))
    response = decompressed(body)
    assert response.headers == [(b"content-type", b"text/plain")]
    response.close()
    assert body.closed


@pytest.mark.parametrize("coding", [b"", b"identity", b" Identity", b"identity, identity"])
async def test_decompressed_leaves_what_is_not_compressed(coding: bytes) -> None:
    body = Body(b"as it is", coding=coding)
    assert decompressed(body) is body


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
async def test_decompressed_any_cut_gives_the_same_bytes(size: int) -> None:
    text = TEXT[:20_000] if size == 1 else TEXT
    packed = gzip.compress(text[:5000]) + gzip.compress(text[5000:]) + b"\0" * 9
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    assert await whole(decompressed(Body(*pieces))) == text


async def test_decompressed_gives_large_bodies_in_pieces() -> None:
    response = decompressed(Body(gzip.compress(b"x" * (3 << 20))))
    sizes = []
    while more := await response.read():
        sizes.append(len(more))
    assert sum(sizes) == 3 << 20 and max(sizes) == 256 << 10


async def test_decompressed_empty_body_is_empty() -> None:
    assert await whole(decompressed(Body())) == b""


async def test_decompressed_bomb_is_refused_before_it_is_decompressed() -> None:
    response = decompressed(Body(gzip.compress(b"x" * (64 << 20))), 1 << 20)
    got = 0
    with pytest.raises(Malformed, match="exceeds 1048576 bytes once decompressed"):
        while more := await response.read():
            got += len(more)
    assert got <= 1 << 20


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
async def test_decompressed_cut_body_is_malformed(coding: bytes) -> None:
    packed = (gzip.compress if coding == b"gzip" else zlib.compress)(TEXT)
    with pytest.raises(Malformed, match="is truncated"):
        await whole(decompressed(Body(packed[:-20], coding=coding)))


async def test_decompressed_damaged_body_is_malformed() -> None:
    for packed in (b'{"plain": "text"}', gzip.compress(TEXT)[:500] + b"\0" * 5000):
        with pytest.raises(Malformed, match="is damaged"):
            await whole(decompressed(Body(packed)))
