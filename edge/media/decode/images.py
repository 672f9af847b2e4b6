"""Images: header, a form for models, and dominant colours. Runs in a sandbox process."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from .tasks import (
    MAX_PIXELS,
    Colour,
    Colours,
    ImageInfo,
    NormalisedImage,
    Picture,
    TaskFailed,
)

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
_PHOTOS = frozenset(("JPEG", "AVIF"))
_LARGEST_PNG = 2 << 20
"""Bytes of a PNG; beyond, the picture is a photo and becomes a JPEG."""
_QUALITY = 88
_SHADES = 5
"""Bits of each part of a colour that do not make it another one."""
_SAMPLE = 96
"""Pixels of the longest side from which colours are taken."""


def inspect(file: BinaryIO) -> ImageInfo:
    """See `InspectImage`. Raises TaskFailed, and what Pillow raises."""
    with _opened(file) as image:
        return _info(image)


def normalise(file: BinaryIO, longest: int) -> NormalisedImage:
    """See `NormaliseImage`. Raises TaskFailed, and what Pillow raises."""
    with _opened(file) as image:
        original = _info(image)
        # The decoder of JPEG reduces by 2, 4 or 8 while it decodes.
        image.draft(None, (longest, longest))
        reduced = _upright(image, longest)
        return NormalisedImage(encoded(reduced, photo=image.format in _PHOTOS), original)


def colours(file: BinaryIO, most: int) -> Colours:
    """See `DominantColours`. Raises TaskFailed, and what Pillow raises."""
    with _opened(file) as image:
        original = _info(image)
        image.draft(None, (_SAMPLE, _SAMPLE))
        small = _opaque(_upright(image, _SAMPLE)).convert("RGB")
        pixels = small.width * small.height
        groups: dict[tuple[int, ...], list[Any]] = {}
        for count, colour in sorted(small.getcolors(pixels) or (), reverse=True):
            assert isinstance(colour, tuple)
            group = groups.setdefault(tuple(part >> _SHADES for part in colour), [0, colour])
            group[0] += count  # the most frequent colour of a group stands for it
        largest = sorted(groups.values(), reverse=True)[: max(1, most)]
        named = (
            Colour("#{:02x}{:02x}{:02x}".format(*colour), round(count / pixels, 3))
            for count, colour in largest
        )
        return Colours(tuple(named), original)


def encoded(image: Image.Image, *, photo: bool) -> Picture:
    """`image` as PNG, or as JPEG if it is a photo or its PNG is large."""
    if not photo:
        out = BytesIO()
        image.save(out, "PNG")
        if out.tell() <= _LARGEST_PNG:
            return Picture(out.getvalue(), "image/png", image.width, image.height)
    out = BytesIO()
    _opaque(image).save(out, "JPEG", quality=_QUALITY)
    return Picture(out.getvalue(), "image/jpeg", image.width, image.height)


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=FORMATS) as image:
                yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise TaskFailed("too_large", "pixels") from None
        except UnidentifiedImageError:
            raise TaskFailed("unsupported", "format") from None


def _info(image: Image.Image) -> ImageInfo:
    width, height = image.size
    if not width or not height:
        raise TaskFailed("unreadable", "size")
    name = (image.format or "").lower()
    return ImageInfo(name, width, height, bool(getattr(image, "is_animated", False)))


def _upright(image: Image.Image, longest: int) -> Image.Image:
    """The first frame, reduced, turned as its metadata say, without metadata."""
    turn = _turn(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        plain = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    elif image.has_transparency_data:
        plain = image.convert("RGBA")
    else:
        plain = image.convert("L" if image.mode in ("1", "L") else "RGB")
    plain.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if turn is not None:
        plain = plain.transpose(turn)
    plain.info.clear()
    return plain


_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Exif 2.32, tag Orientation."""


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata of a good image
        return None


def _opaque(image: Image.Image) -> Image.Image:
    """`image` on white, without transparency."""
    if image.mode != "RGBA":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
