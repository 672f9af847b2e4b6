"""Documents that are text: which types, and how their bytes become text."""

import codecs

import pytest

from edge.proxy.describing.plain_text import decoded_text, is_text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("ä€".encode(), "ä€"),
        (codecs.BOM_UTF8 + "ä".encode(), "ä"),
        (codecs.BOM_UTF16_LE + "ä".encode("utf-16-le"), "ä"),
        (codecs.BOM_UTF16_BE + "ä".encode("utf-16-be"), "ä"),
        (codecs.BOM_UTF32_LE + "ä".encode("utf-32-le"), "ä"),
        ("ä€".encode("cp1252"), "ä€"),
        (b"\x81", "\ufffd"),
        (b"", ""),
    ],
)
def test_text_is_decoded_by_mark_then_utf8_then_windows(content: bytes, text: str) -> None:
    assert decoded_text(content) == text


def test_types_of_text() -> None:
    assert all(map(is_text, ("text/csv", "application/json", "image/svg+xml")))
    assert not any(map(is_text, ("application/pdf", "image/png", "application/zip", "")))
