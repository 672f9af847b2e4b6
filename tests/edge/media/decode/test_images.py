"""Images in this process: headers, the form for models, colours."""

import io

import pytest
from PIL import Image

from edge.media.decode.images import colours, inspect, normalise
from edge.media.decode.tasks import ImageInfo, TaskFailed

from .samples import animation, image


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF", "AVIF"])
def test_inspect_every_format_reads_its_size(format_: str) -> None:
    info = inspect(io.BytesIO(image(format_, (64, 48))))
    assert info == ImageInfo(format_.lower(), 64, 48, animated=False)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_normalise_animation_gives_its_first_frame(format_: str) -> None:
    found = normalise(io.BytesIO(animation(format_)), 1568)
    assert found.original.animated
    picture = opened(found.picture.data)
    assert not getattr(picture, "is_animated", False)
    red, green, _ = picture.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
    assert red > 240
    assert green < 20


@pytest.mark.parametrize("format_", ["TIFF", "BMP", "PPM", "ICO"])
def test_inspect_other_formats_are_refused(format_: str) -> None:
    with pytest.raises(TaskFailed) as raised:
        inspect(io.BytesIO(image(format_)))
    assert raised.value.failure.reason == "unsupported"


def test_inspect_postscript_is_refused() -> None:
    with pytest.raises(TaskFailed):
        inspect(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"))


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
@pytest.mark.parametrize(("size", "expected"), [((3000, 300), (100, 10)), ((30, 60), (30, 60))])
def test_normalise_reduces_the_longest_side(
    format_: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    found = normalise(io.BytesIO(image(format_, size)), 100)
    assert (found.picture.width, found.picture.height) == expected
    assert opened(found.picture.data).size == expected
    assert (found.original.width, found.original.height) == size
    assert found.picture.type == f"image/{format_.lower()}"


def test_normalise_orientation_is_applied_and_metadata_are_dropped() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned right by 90 degrees
    exif[0x010E] = "taken at home"
    found = normalise(io.BytesIO(image("JPEG", (80, 40), exif=exif.tobytes())), 1568)
    picture = opened(found.picture.data)
    assert picture.size == (40, 80)
    assert b"taken at home" not in found.picture.data
    assert not picture.getexif()
    top, bottom = picture.getpixel((20, 10)), picture.getpixel((20, 70))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200 > bottom[0]  # the red left side is above now


def test_normalise_png_metadata_and_colour_profile_are_dropped() -> None:
    from PIL.PngImagePlugin import PngInfo

    words = PngInfo()
    words.add_text("Comment", "secret words")
    found = normalise(io.BytesIO(image("PNG", pnginfo=words, icc_profile=b"profile" * 9)), 1568)
    assert b"secret words" not in found.picture.data
    assert b"iCCP" not in found.picture.data


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB", "I;16"])
def test_normalise_every_mode_of_png_is_read(mode: str) -> None:
    out = io.BytesIO()
    picture = Image.new("L", (20, 20), 128)
    (Image.new("I;16", (20, 20), 32768) if mode == "I;16" else picture.convert(mode)).save(
        out, "PNG"
    )
    out.seek(0)
    found = normalise(out, 1568)
    grey = opened(found.picture.data).convert("L").tobytes()[0]
    assert grey in (0, 255) if mode == "1" else abs(grey - 128) <= 2


def test_normalise_cmyk_jpeg_is_read() -> None:
    assert normalise(io.BytesIO(image("JPEG", mode="CMYK")), 1568).picture.type == "image/jpeg"


def test_normalise_photo_as_png_becomes_a_jpeg() -> None:
    noise = Image.effect_noise((1500, 1500), 90).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")
    assert out.tell() > 2 << 20
    out.seek(0)
    found = normalise(out, 1568)
    assert found.picture.type == "image/jpeg"
    assert opened(found.picture.data).size == (1500, 1500)


def test_normalise_more_than_50_megapixels_is_refused_before_decoding() -> None:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    out.seek(0)
    with pytest.raises(TaskFailed) as raised:
        normalise(out, 1568)
    assert raised.value.failure.reason == "too_large"


def test_colours_are_those_that_cover_most() -> None:
    found = colours(io.BytesIO(image("PNG", (100, 100), colour="#0000ff")), 4)
    assert {colour.hex for colour in found.colours[:2]} == {"#ff0000", "#0000ff"}
    assert sum(colour.share for colour in found.colours) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF"])
def test_normalise_half_a_file_raises(format_: str) -> None:
    data = image(format_, (200, 200), quality=90) if format_ == "JPEG" else image(format_)
    with pytest.raises((OSError, TaskFailed, SyntaxError)):
        normalise(io.BytesIO(data[: len(data) // 2]), 1568)
