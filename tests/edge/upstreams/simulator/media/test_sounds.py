"""Sounds of the simulator, decoded by FFmpeg."""

import io
import wave

import av
import pytest

from edge.upstreams.simulator.media.sounds import (
    FORMATS,
    RATE,
    seconds_of,
    seconds_of_words,
    words_of,
)

NAMES = [name for name in FORMATS if name != "pcm"]


@pytest.mark.parametrize("text", ["hi", "Größe und 日本語", "word " * 300])
@pytest.mark.parametrize("name", NAMES)
def test_a_sound_decodes_to_its_length_and_has_its_words(name: str, text: str) -> None:
    wanted = seconds_of_words(text)
    made = FORMATS[name][0](text, wanted)
    assert words_of(made) == text
    decoded = 0.0
    with av.open(io.BytesIO(made), "r") as container:
        for frame in container.decode(audio=0):
            decoded += frame.samples / frame.sample_rate
    assert decoded == pytest.approx(wanted, abs=0.2)
    assert seconds_of(made) == pytest.approx(decoded, abs=0.03)


def test_wav_has_the_samples_of_pcm() -> None:
    made = FORMATS["wav"][0]("odd", 0.5)
    with wave.open(io.BytesIO(made)) as reader:
        assert (reader.getframerate(), reader.getnframes()) == (RATE, RATE // 2)
        assert reader.readframes(RATE) == FORMATS["pcm"][0]("odd", 0.5)


@pytest.mark.parametrize("data", [b"", b"ID3\4\0\0\0\0\0\0", b"RIFF", b"OggS", b"\0" * 100])
def test_a_sound_of_others_has_no_words(data: bytes) -> None:
    assert words_of(data) is None


def test_a_faster_voice_is_shorter_and_none_is_empty() -> None:
    assert seconds_of_words("x" * 150) == 10
    assert seconds_of_words("x" * 150, 2.0) == 5
    assert seconds_of_words("") == 0.2
