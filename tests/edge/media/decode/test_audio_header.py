"""Seconds of WAV files from their first bytes."""

import io
import wave

import pytest

from edge.media.decode.audio_header import WAV_HEAD, wav_seconds


def wav(seconds: float = 2.0, *, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(int(seconds * rate) * channels * width))
    return out.getvalue()


def seconds_of(data: bytes) -> float | None:
    return wav_seconds(data[:WAV_HEAD], len(data))


@pytest.mark.parametrize(
    ("rate", "channels", "width"), [(8_000, 1, 1), (16_000, 1, 2), (44_100, 2, 3), (48_000, 6, 4)]
)
def test_wav_seconds_pcm_is_exact(rate: int, channels: int, width: int) -> None:
    data = wav(2.5, rate=rate, channels=channels, width=width)
    assert seconds_of(data) == pytest.approx(2.5, abs=0.001)


@pytest.mark.parametrize("stated", [0, 1, 0xFFFFFFFF])
def test_wav_seconds_ignores_the_stated_length(stated: int) -> None:
    data = bytearray(wav(3.0))
    at = data.index(b"data")
    data[at + 4 : at + 8] = stated.to_bytes(4, "little")
    assert seconds_of(bytes(data)) == pytest.approx(3.0)


def test_wav_seconds_rf64_counts_its_bytes() -> None:
    data = wav(3.0)
    ds64 = b"ds64" + (28).to_bytes(4, "little") + bytes(28)
    data = b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + data[12:]
    assert seconds_of(data) == pytest.approx(3.0)


def test_wav_seconds_chunks_before_the_samples_are_skipped() -> None:
    data = wav(1.0)
    at = data.index(b"data")
    data = data[:at] + b"LIST" + (5).to_bytes(4, "little") + b"INFO1\0" + data[at:]
    assert seconds_of(data) == pytest.approx(1.0)


def test_wav_seconds_samples_beyond_the_head_counts_all_that_follows() -> None:
    data = wav(1.0)
    at = data.index(b"data")
    data = data[:at] + b"JUNK" + (100_000).to_bytes(4, "little") + bytes(100_000) + data[at:]
    seconds = seconds_of(data)
    assert seconds is not None
    assert 1.0 <= seconds < 1.0 + 100_000 / 32_000 + 0.01


def test_wav_seconds_float_extensible_is_read() -> None:
    data = bytearray(wav(1.0, width=4))
    fmt = data.index(b"fmt ")
    extension = (22).to_bytes(2, "little") + bytes(6) + (3).to_bytes(2, "little") + bytes(14)
    data[fmt + 4 : fmt + 8] = (16 + len(extension)).to_bytes(4, "little")
    data[fmt + 8 : fmt + 10] = (0xFFFE).to_bytes(2, "little")
    data[fmt + 24 : fmt + 24] = extension
    assert seconds_of(bytes(data)) == pytest.approx(1.0)


def test_wav_seconds_compressed_is_unknown() -> None:
    data = bytearray(wav(1.0))
    fmt = data.index(b"fmt ")
    data[fmt + 8 : fmt + 10] = (0x11).to_bytes(2, "little")  # IMA ADPCM: 4 bits a sample
    assert seconds_of(bytes(data)) is None


@pytest.mark.parametrize(
    ("field", "width"), [(10, 2), (12, 4), (22, 2)], ids=["channels", "rate", "bits"]
)
def test_wav_seconds_factor_of_zero_is_unknown(field: int, width: int) -> None:
    data = bytearray(wav(1.0))
    fmt = data.index(b"fmt ")
    data[fmt + field : fmt + field + width] = bytes(width)
    assert seconds_of(bytes(data)) is None


def test_wav_seconds_of_every_beginning_returns() -> None:
    data = wav(0.01)
    for length in range(len(data)):
        seconds = seconds_of(data[:length])
        assert seconds is None or seconds >= 0


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF0000WEBPVP8 ", b"ID3", b"fLaC"])
def test_wav_seconds_other_files_are_unknown(data: bytes) -> None:
    assert seconds_of(data) is None


def test_wav_seconds_many_chunks_ends() -> None:
    assert seconds_of(wav()[:12] + (b"JUNK" + bytes(4)) * 8000) is None
