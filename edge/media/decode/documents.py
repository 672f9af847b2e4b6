"""PDF documents: text by page, and pages as images. Runs in a sandbox process."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pypdfium2 import PdfDocument, PdfiumError

from .tasks import DocumentText, Pages, TaskFailed

_POINTS = 72
"""Points of an inch."""
_MAX_RENDERED = 20
"""Pages that one task renders."""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]")
"""pdfium writes U+FFFE for a hyphen at the end of a line."""


def text(file: BinaryIO, pages: int, characters: int) -> DocumentText:
    """See `ReadDocument`. Raises TaskFailed, and what pdfium raises."""
    with _opened(file) as document:
        total = len(document)
        found: list[str] = []
        left, cut = characters, False
        for number in range(min(total, pages)):
            content = _page_text(document, number)
            if len(content) > left:
                content, cut = content[:left], True
            left -= len(content)
            found.append(content)
        return DocumentText(tuple(found), total, cut)


def _page_text(document: PdfDocument, number: int) -> str:
    try:
        page = document[number]
        content = page.get_textpage().get_text_bounded(errors="replace")
    except PdfiumError:  # one broken page of a good document
        return ""
    content = content.replace("\r\n", "\n").replace("\ufffe", "-")
    return _UNPRINTABLE.sub("", content).strip()


def render(file: BinaryIO, numbers: tuple[int, ...], dpi: int, longest: int) -> Pages:
    """See `RenderPages`. Raises TaskFailed, and what pdfium raises."""
    from .images import encoded  # needs Pillow, which `text` does not

    if len(numbers) > _MAX_RENDERED:
        raise TaskFailed("too_large", "pages")
    pictures = []
    with _opened(file) as document:
        for number in numbers:
            if not 0 <= number < len(document):
                raise TaskFailed("unreadable", "page number")
            page = document[number]
            side = max(page.get_size())
            if side <= 0:
                raise TaskFailed("unreadable", "page size")
            scale = min(dpi / _POINTS, longest / side)
            bitmap = page.render(scale=scale, may_draw_forms=False)
            pictures.append(encoded(bitmap.to_pil().convert("RGB"), photo=False))
    return Pages(tuple(pictures))


@contextmanager
def _opened(file: BinaryIO) -> Iterator[PdfDocument]:
    if b"%PDF-" not in file.read(1024):
        raise TaskFailed("unsupported", "format")
    file.seek(0)
    try:
        document = PdfDocument(file, autoclose=False)
    except PdfiumError:  # a broken file, or one with a password
        raise TaskFailed("unreadable", "document") from None
    with document:
        if not len(document):
            raise TaskFailed("unreadable", "no pages")
        yield document
