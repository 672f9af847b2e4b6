"""Videos in this process: what they have, frames of them."""

import io
from array import array

import pytest
from PIL import Image

from edge.media.decode.audio import convert
from edge.media.decode.tasks import Frames, TaskFailed
from edge.media.decode.tracks import container_of
from edge.media.decode.video import frames, probe

from .samples import sound, tone, video


def sampled(data: bytes, every: float = 5.0, least: int = 4, most: int = 16) -> Frames:
    return frames(io.BytesIO(data), every, least, most, 1568)


def greys(found: Frames) -> list[int]:
    """Brightness of each frame."""
    pictures = (Image.open(io.BytesIO(frame.picture.data)) for frame in found.frames)
    return [picture.convert("L").tobytes()[0] for picture in pictures]


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        *(("libx264", "mp4"), ("libvpx", "webm"), ("libvpx-vp9", "matroska")),
        *(("mpeg4", "avi"), ("mjpeg", "avi"), ("libx265", "mp4")),
    ],
)
def test_probe_and_frames_every_codec_is_read(codec: str, container: str) -> None:
    data = video(4, codec=codec, container=container)
    info = probe(io.BytesIO(data))
    assert (info.width, info.height, info.sound) == (160, 96, False)
    assert info.seconds == pytest.approx(4, abs=0.2)
    found = sampled(data)
    assert [round(value, -1) for value in greys(found)] == pytest.approx([0, 80, 170, 250], abs=12)
    assert [frame.at for frame in found.frames] == sorted(frame.at for frame in found.frames)


@pytest.mark.parametrize("keyframes", [3, 10, 1000], ids=["many", "some", "one"])
def test_frames_are_from_equal_parts_however_many_keyframes(keyframes: int) -> None:
    found = sampled(video(8, keyframes=keyframes, scenes=8), every=1.0)
    assert len(found.frames) == 8
    assert all(n - 0.1 <= frame.at <= n + 1.1 for n, frame in enumerate(found.frames))


@pytest.mark.parametrize(("seconds", "expected"), [(2, 4), (30, 6), (200, 16)])
def test_frames_number_follows_the_duration(seconds: int, expected: int) -> None:
    data = video(seconds, fps=4, scenes=expected, size=(32, 32))
    assert len(sampled(data).frames) == expected


def test_frames_of_a_still_picture_are_one() -> None:
    assert len(sampled(video(30, fps=4, scenes=1)).frames) == 1


def test_probe_sound_track_is_seen_and_converted() -> None:
    data = video(2, sound=tone(2.0))
    assert probe(io.BytesIO(data)).sound
    assert convert(io.BytesIO(data), 0.0, None).seconds == pytest.approx(2.0, abs=0.12)


def test_probe_sound_alone_is_refused() -> None:
    with pytest.raises(TaskFailed):
        probe(io.BytesIO(sound("m4a", 1.0)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"size": (4160, 64)}, "too_large"), ({"fps": 120, "seconds": 1}, "too_large")],
)
def test_probe_beyond_bounds_is_refused(options: dict[str, int], reason: str) -> None:
    with pytest.raises(TaskFailed) as raised:
        probe(io.BytesIO(video(**{"seconds": 1, **options})))  # type: ignore[arg-type]
    assert raised.value.failure.reason == reason


def test_frames_half_a_file_gives_those_before_the_break() -> None:
    data = video(8, codec="libvpx", container="webm", scenes=8)
    found = sampled(data[: len(data) * 2 // 3], every=1.0)
    assert found.frames
    assert found.frames[-1].at < 8


@pytest.mark.parametrize("seconds", [0, 1])
def test_frames_short_video_has_at_least_one(seconds: int) -> None:
    assert sampled(video(max(seconds, 1), fps=1 if not seconds else 10, scenes=1)).frames


def test_probe_playlists_and_scripts_are_no_container() -> None:
    for data in (b"#EXTM3U\nfile:///etc/passwd", b"ffconcat version 1.0\nfile /etc/passwd\n"):
        assert container_of(data) is None
        with pytest.raises(TaskFailed):
            probe(io.BytesIO(data))


def test_probe_track_in_another_file_is_not_opened() -> None:
    """QuickTime may name a file that holds the samples."""
    data = video(1)
    at = data.index(b"url \0\0\0\1")
    reference = b"url \0\0\0\0/etc/passwd\0"
    changed = data[: at - 4] + (len(reference) + 4).to_bytes(4, "big") + reference + data[at + 8 :]
    try:
        found = sampled(changed)
    except TaskFailed:
        return
    assert all(b"root:" not in frame.picture.data for frame in found.frames)


def test_frames_are_turned_as_the_track_says() -> None:
    data = bytearray(video(2, scenes=1))
    at = data.index(b"tkhd") + 4
    matrix = array("i", (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
    matrix.byteswap()
    data[at + 40 : at + 76] = matrix.tobytes()
    picture = sampled(bytes(data)).frames[0].picture
    assert (picture.width, picture.height) == (96, 160)
