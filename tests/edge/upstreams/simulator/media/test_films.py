"""The film of the simulator, decoded by FFmpeg."""

import io

import av
import pytest

from edge.upstreams.simulator.media.films import HEIGHT, SECONDS, WIDTH, film, film_words


def test_film_has_pictures_a_sound_track_and_its_words() -> None:
    made = film("Wasser über dem Rad")
    assert film_words(made) == "Wasser über dem Rad"
    with av.open(io.BytesIO(made), "r") as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 10
    assert pictures[0].shape == (HEIGHT, WIDTH, 3)
    scenes = {tuple(int(value) // 64 for value in picture[0, 0]) for picture in pictures}
    assert len(scenes) == 4
    assert len(pictures) / 5 == pytest.approx(SECONDS)


@pytest.mark.parametrize("data", [b"", film("x")[:100], film("x")[:-6]])
def test_a_film_of_others_has_no_words(data: bytes) -> None:
    assert film_words(data) is None
