import pytest

from edge.media.filenames import LONGEST, attachment, safe_filename, with_extension


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("日本語.pdf", "日本語.pdf"),
        ('a"b\r\nx: y', 'a"bx: y'),
        ("../../x", "x"),
        ("C:\\dir\\x.txt", "x.txt"),
        ("100%22.txt", "100%22.txt"),
        ("cafe\u0301.txt", "caf\u00e9.txt"),
        ("", "unnamed.png"),
        ("..", "unnamed.png"),
        ("a/", "unnamed.png"),
        ("\x00\u2028\ud800", "unnamed.png"),
        ("x" * 300 + ".pdf", "x" * (LONGEST - 4) + ".pdf"),
        ("x" * 300, "x" * LONGEST),
        ("x." + "y" * 300, "x." + "y" * (LONGEST - 2)),
    ],
)
def test_safe_filename(given: str, kept: str) -> None:
    assert safe_filename(given, "image/png") == kept


@pytest.mark.parametrize("name", ["日本語.pdf", 'a"b;c\\d.txt', "%22.txt", "x" * 255])
def test_attachment_is_one_ascii_header_line(name: str) -> None:
    value = attachment(name)
    assert value.isascii() and b"\n" not in value and b"\r" not in value
    assert value.startswith(b'attachment; filename="')
    assert value.count(b'"') == 2


def test_attachment_keeps_unicode_in_its_extended_form() -> None:
    assert attachment("é.txt") == b"attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt"


@pytest.mark.parametrize(
    ("name", "mime", "made"),
    [
        ("blob", "audio/wav", "blob.wav"),
        ("blob.", "audio/mpeg", "blob.mp3"),
        ("a.webm", "audio/wav", "a.webm"),
        (".hidden", "audio/ogg", ".hidden.ogg"),
        ("blob", "application/octet-stream", "blob"),
    ],
)
def test_with_extension_adds_one_only_where_there_is_none(name: str, mime: str, made: str) -> None:
    assert with_extension(name, mime) == made
