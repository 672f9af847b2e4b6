"""Words in a picture, its size and colours. It describes no scene."""

import io
from typing import Any

from edge.media.decode.sandbox import Sandbox
from edge.media.decode.tasks import Colour, DominantColours, ImageInfo, NormaliseImage

from .engines import in_turn, ocr

_LEAST_SCORE = 0.5
_LEAST_SHARE = 0.03
"""Part of a picture that a colour must cover to be named."""
_ROW = 0.6
"""Part of its height by which a line may stand lower than another and be in the same row."""


async def read(sandbox: Sandbox, data: bytes, path: str) -> str:
    """The text of a picture. path: of it in the request. Raises Problem."""
    image = await sandbox.run(NormaliseImage(), data, param=path)
    colours = await sandbox.run(DominantColours(), image.picture.data, param=path)
    lines = await in_turn(lambda: _lines(image.picture.data))
    return "\n".join((*_words(lines), _appearance(image.original, colours.colours)))


def _words(lines: list[str]) -> list[str]:
    return ["Text in the image:", *lines, ""] if lines else ["The image contains no text.", ""]


def _appearance(info: ImageInfo, colours: tuple[Colour, ...]) -> str:
    named = [f"{c.hex} ({c.share:.0%})" for c in colours if c.share >= _LEAST_SHARE]
    frame = " It is animated; this is its first frame." if info.animated else ""
    size = f"The image is {info.width} x {info.height} pixels."
    return f"{size} Its main colours are {', '.join(named)}.{frame}"


def _lines(data: bytes) -> list[str]:
    """The words of a picture, row by row."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        pixels: Any = np.asarray(image.convert("RGB"))[:, :, ::-1]  # blue first, as OpenCV has it
    found = ocr()(pixels)
    if found.txts is None:
        return []
    boxes = [
        (float(box[:, 1].min()), float(box[:, 1].max()), float(box[:, 0].min()), text)
        for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        if score >= _LEAST_SCORE
    ]
    return rows(boxes)


def rows(boxes: list[tuple[float, float, float, str]]) -> list[str]:
    """Words of boxes (top, bottom, left, text), from the top down and from left to right."""
    lines: list[list[tuple[float, float, float, str]]] = []
    for box in sorted(boxes):
        line = lines[-1] if lines else None
        if line is not None and box[0] < line[0][0] + _ROW * (line[0][1] - line[0][0]):
            line.append(box)
        else:
            lines.append([box])
    return [" ".join(box[3] for box in sorted(line, key=lambda box: box[2])) for line in lines]
