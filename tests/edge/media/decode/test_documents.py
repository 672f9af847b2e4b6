"""PDF documents in this process: text and pages."""

import io

import pytest
from PIL import Image

from edge.media.decode.documents import render, text
from edge.media.decode.tasks import TaskFailed

from .samples import pdf


def test_text_is_by_page() -> None:
    found = text(io.BytesIO(pdf("First page", "", "Third page")), 100, 1000)
    assert found.pages == ("First page", "", "Third page")
    assert (found.total, found.cut) == (3, False)


def test_text_of_many_pages_is_of_the_first() -> None:
    found = text(io.BytesIO(pdf(*(f"Page {n}" for n in range(12)))), 5, 1000)
    assert (len(found.pages), found.total) == (5, 12)


def test_text_is_cut_at_its_bound() -> None:
    found = text(io.BytesIO(pdf("abcdef", "ghi")), 100, 4)
    assert found.pages == ("abcd", "")
    assert found.cut


def test_text_without_cross_references_is_read() -> None:
    data = pdf("Repaired")
    data = data[: data.index(b"xref")] + data[data.index(b"trailer") : data.index(b"startxref")]
    assert text(io.BytesIO(data), 100, 1000).pages == ("Repaired",)


def test_render_gives_pages_at_150_dpi() -> None:
    found = render(io.BytesIO(pdf("One", "Two", width=300, height=144)), (1, 0), 150, 1568)
    assert [(page.width, page.height) for page in found.pages] == [(625, 300)] * 2
    picture = Image.open(io.BytesIO(found.pages[0].data))
    assert picture.convert("L").getextrema()[1] == 255


def test_render_large_page_is_reduced() -> None:
    found = render(io.BytesIO(pdf("Poster", width=14_000, height=10_000)), (0,), 150, 1568)
    assert max(found.pages[0].width, found.pages[0].height) <= 1569


@pytest.mark.parametrize("numbers", [(3,), (-1,), tuple(range(21))])
def test_render_pages_that_are_not_there_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(TaskFailed):
        render(io.BytesIO(pdf("One")), numbers, 150, 1568)


@pytest.mark.parametrize("data", [b"", b"PK\3\4 a docx", b"%PDF-1.7", pdf("Some text")[:40]])
def test_text_of_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(TaskFailed):
        text(io.BytesIO(data), 100, 1000)
