"""Formats of speech, piece by piece."""

import io

import pytest

from edge.media.decode.audio import convert, measure
from edge.media.local_models.encoding import FORMATS, encoder, silence
from tests.edge.media.decode.samples import RATE, tone


@pytest.mark.parametrize("format_", [*FORMATS, "wav"])
def test_encode_pieces_make_one_file(format_: str) -> None:
    out, samples = encoder(format_, RATE), tone(2.0).tobytes()
    pieces = [out.encode(samples[at : at + 14_400]) for at in range(0, len(samples), 14_400)]
    pieces.append(out.end())
    data = b"".join(pieces)
    assert sum(map(bool, pieces)) > 2  # it streams
    assert measure(io.BytesIO(data)).seconds == pytest.approx(2.0, abs=0.15)
    assert convert(io.BytesIO(data), 0.0, None).peak == pytest.approx(9000 / 32768, abs=0.05)


@pytest.mark.parametrize("format_", [*FORMATS, "wav", "pcm"])
def test_encode_nothing_ends(format_: str) -> None:
    out = encoder(format_, RATE)
    assert isinstance(out.encode(b"") + out.end(), bytes)


def test_encode_pcm_is_the_samples() -> None:
    samples = tone(0.1).tobytes()
    out = encoder("pcm", RATE)
    assert out.encode(samples) + out.end() == samples


def test_silence_has_its_length() -> None:
    assert silence(0.5, 24_000) == bytes(24_000)
