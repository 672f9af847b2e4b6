"""Sound tracks in this process: duration, conversion, pieces."""

import io
import wave

import pytest

from edge.media.decode.audio import convert, measure, split
from edge.media.decode.tasks import TaskFailed

from .samples import RATE, SOUNDS, image, sound, tone, video, wav

HALF = 0.12
"""Seconds by which encoders lengthen a sound."""


@pytest.mark.parametrize("kind", SOUNDS)
def test_measure_every_format_gives_its_seconds(kind: str) -> None:
    info = measure(io.BytesIO(sound(kind, 3.0)))
    assert info.seconds == pytest.approx(3.0, abs=HALF)
    assert info.channels == 1


def test_measure_stated_duration_does_not_count() -> None:
    data = bytearray(sound("m4a", 5.0))
    for box in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.index(box)
        field = at + {b"mvhd": 20, b"tkhd": 24, b"mdhd": 20}[box]
        data[field : field + 4] = (1).to_bytes(4, "big")
    assert measure(io.BytesIO(data)).seconds == pytest.approx(5.0, abs=HALF)


@pytest.mark.parametrize("kind", SOUNDS)
def test_convert_every_format_gives_speech_wav(kind: str) -> None:
    found = convert(io.BytesIO(sound(kind, 2.0)), 0.0, None)
    with wave.open(io.BytesIO(found.data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        assert file.getnframes() / 16_000 == pytest.approx(found.seconds)
    assert found.seconds == pytest.approx(2.0, abs=HALF)
    assert found.peak == pytest.approx(9000 / 32768, abs=0.05)


@pytest.mark.parametrize("kind", SOUNDS)
def test_convert_parts_make_the_whole(kind: str) -> None:
    data = sound(kind, 3.0)
    whole = convert(io.BytesIO(data), 0.0, None).data[44:]
    parts = [convert(io.BytesIO(data), *part) for part in ((0.0, 1.1), (1.1, 2.35), (2.35, None))]
    assert b"".join(part.data[44:] for part in parts) == whole
    assert [part.start for part in parts] == [0.0, 1.1, 2.35]


def test_convert_silence_has_no_peak() -> None:
    assert convert(io.BytesIO(wav(tone(1.0, quiet=((0, 1),)))), 0.0, None).peak == 0


def test_convert_more_than_its_bound_is_refused() -> None:
    data = wav(tone(1.0), rate=4_000) + bytes(8000 * 1801)
    data = data.replace(data[40:44], b"\xff\xff\xff\xff", 1)
    with pytest.raises(TaskFailed) as raised:
        convert(io.BytesIO(data), 0.0, None)
    assert raised.value.failure.reason == "too_large"


def test_split_cuts_in_the_pauses() -> None:
    data = wav(tone(32.0, quiet=((9.2, 9.9), (19.0, 20.0))))
    found = split(io.BytesIO(data), 10.0, 2.0).pieces
    assert found[0][0] == 0
    assert [end for end, _ in found[1:]] == [start for _, start in found[:-1]]
    assert 9.2 <= found[0][1] <= 9.9
    assert 19.0 <= found[1][1] <= 20.0
    assert found[-1][1] == pytest.approx(32.0, abs=0.1)
    assert all(end - start <= 12.0 for start, end in found)


def test_split_without_pauses_cuts_near_the_target() -> None:
    found = split(io.BytesIO(wav(tone(25.0))), 10.0, 2.0).pieces
    assert len(found) >= 2
    assert all(8 <= end - start <= 12 for start, end in found[:-1])


def test_split_short_sound_is_one_piece() -> None:
    assert len(split(io.BytesIO(sound("mp3", 3.0)), 600.0, 60.0).pieces) == 1


@pytest.mark.parametrize("data", [b"", b"RIFF", image(), b"\xff\xfb" + bytes(50), b"#EXTM3U\n"])
def test_measure_what_is_no_sound_is_refused(data: bytes) -> None:
    with pytest.raises(TaskFailed):
        measure(io.BytesIO(data))


def test_measure_video_without_sound_is_refused() -> None:
    with pytest.raises(TaskFailed) as raised:
        measure(io.BytesIO(video(1)))
    assert raised.value.failure.reason == "unsupported"


def test_convert_damaged_packets_are_left_out() -> None:
    data = bytearray(sound("mp3", 4.0))
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    assert 3.0 < convert(io.BytesIO(data), 0.0, None).seconds < 4.2


def test_rate_of_the_samples_is_known() -> None:
    assert measure(io.BytesIO(sound("wav", 1.0))).rate == RATE
