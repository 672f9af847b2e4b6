"""Pictures of the simulator, read by Pillow."""

import io
from hashlib import sha256

import pytest
from PIL import Image

from edge.upstreams.simulator.media.pictures import FORMATS, dimensions

SEED = sha256(b"a seed").digest()


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 48), (1024, 1536)])
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "svg"])
def test_a_picture_of_any_size_is_whole_and_has_that_size(name: str, size: tuple[int, int]) -> None:
    made = FORMATS[name](*size, SEED, "Größe")
    with Image.open(io.BytesIO(made)) as image:
        image.load()
        assert (image.format or "").lower() == name
        assert image.size == size == dimensions(made)
    assert made == FORMATS[name](*size, SEED, "Größe")
    assert len(made) < 16_000


def test_png_of_another_seed_shows_something_else_and_keeps_its_text() -> None:
    one, other = (FORMATS["png"](64, 64, bytes([n]) + SEED[1:], "Größe") for n in (0, 255))
    with Image.open(io.BytesIO(one)) as first, Image.open(io.BytesIO(other)) as second:
        assert first.convert("RGB").tobytes() != second.convert("RGB").tobytes()
        first.load()
        assert first.info["Description"] == "Größe"


def test_dimensions_of_what_is_no_picture_are_unknown() -> None:
    assert dimensions(b"") is None
    assert dimensions(b"\xff\xd8\xff\xe0\0\x10JFIF") is None
    assert dimensions(FORMATS["svg"](4, 4, SEED, "<&>")) is None
