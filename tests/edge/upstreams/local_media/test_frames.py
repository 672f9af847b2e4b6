"""Frames however the bytes are cut."""

import pytest

from edge.upstreams.local_media.frames import (
    AnyFrame,
    Body,
    Cancel,
    Data,
    Done,
    FrameReader,
    Head,
    More,
    Open,
    Ready,
    Sent,
    encode,
)

FRAMES: list[AnyFrame] = [
    *(Ready(), Open(1, "/audio/speech", "application/json"), Body(1, bytes(range(256)))),
    *(Body(1, b""), Sent(1), Head(1, 200, "audio/wav"), Data(1, b"x" * 70_000), More(1)),
    *(Done(1, failed=True), Cancel(2)),
]


@pytest.mark.parametrize("size", [1, 3, 1000, 1 << 20])
def test_read_gives_what_was_encoded(size: int) -> None:
    reader, found = FrameReader(), []
    stream = b"".join(map(encode, FRAMES))
    for at in range(0, len(stream), size):
        found += list(reader.read(stream[at : at + size]))
    assert found == FRAMES


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\2\x91\xa0"])
def test_read_what_is_no_frame_raises(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(FrameReader().read(data))
