"""Data URLs as clients write them, and what an image says of itself."""

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.data_urls import data_url, read_data_url, sniffed


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data:image/png;base64,eHl6", ("image/png", "eHl6")),
        ("DATA:Image/PNG;Base64,eHl6", ("image/png", "eHl6")),
        ("data:image/png;charset=utf-8;name=a.png;base64,eHl6", ("image/png", "eHl6")),
        ("data:image/pjpeg;base64,eHl6", ("image/jpeg", "eHl6")),
        ("data:image/png;base64,eHl6eA", ("image/png", "eHl6eA==")),
        ("data:image/png;base64,eH\nl6 eA==", ("image/png", "eHl6eA==")),
        ("data:image/png;base64,-_-_", ("image/png", "+/+/")),
        ("data:image/png;base64,%2B%2F%2B%2F", ("image/png", "+/+/")),
        ("data:text/plain,a%20b%C3%A9", ("text/plain", b64encode("a bé".encode()).decode())),
        ("data:,x", ("text/plain", "eA==")),
        ("https://example.com/a.png", None),
        ("dat", None),
    ],
)
def test_reads(url: str, expected: tuple[str, str] | None) -> None:
    assert read_data_url(url) == expected


def test_knows_a_jpeg_by_its_file_name_and_by_parameters() -> None:
    """Xerxes-2/clewdr#121."""
    assert read_data_url("data:image/jpg;base64,eHl6") == ("image/jpeg", "eHl6")
    assert read_data_url("data:image/JPG;q=1;base64,eHl6") == ("image/jpeg", "eHl6")


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,e",
        "data:image/png;base64,e=Hl6",
        "data:image/png;base64,eH!6",
        "data:image/png;base64,éééé",
        "data:text/plain,",
    ],
)
def test_refuses(url: str) -> None:
    with pytest.raises(ValueError, match="data URL"):
        read_data_url(url)


@given(st.binary(min_size=1), st.sampled_from(["", "=", "===="]), st.integers(0, 200))
def test_read_data_url_any_form_of_base64_is_standard(
    data: bytes, padding: str, space: int
) -> None:
    text = b64encode(data).decode()
    assert read_data_url(f"data:image/png;base64,{text.rstrip('=')}{padding}") == (
        "image/png",
        text,
    )
    spaced = f"{text[:space]}\n{text[space:]}".replace("+", "-").replace("/", "_")
    assert read_data_url(f"data:image/png;base64,{spaced}") == ("image/png", text)


@given(st.text("AZaz09+/", min_size=1), st.integers(0, 200), st.sampled_from("*é\0=,"))
def test_read_data_url_refuses_any_other_character(text: str, at: int, other: str) -> None:
    at %= len(text)
    with pytest.raises(ValueError, match="base64"):
        read_data_url(f"data:image/png;base64,{text[:at]}{other}{text[at:]}")


@given(st.binary(min_size=1))
def test_reads_what_it_writes(data: bytes) -> None:
    encoded = b64encode(data).decode()
    assert read_data_url(data_url("image/webp", encoded)) == ("image/webp", encoded)


@pytest.mark.parametrize(
    ("head", "true"),
    [
        (b"\xff\xd8\xff\xe0rest of it", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\nrest of it", "image/png"),
        (b"GIF89a and the rest", "image/gif"),
        (b"GIF87a and the rest", "image/gif"),
        (b"RIFF\x01\x02\x03\x04WEBPVP8 ", "image/webp"),
        (b"RIFF\x01\x02\x03\x04WAVEfmt ", "image/bmp"),
        (b"BM", "image/bmp"),
    ],
)
def test_looks_at_the_bytes(head: bytes, true: str) -> None:
    assert sniffed(b64encode(head).decode(), "image/bmp") == true


def test_what_is_not_base64_keeps_its_name() -> None:
    assert sniffed("e", "image/png") == "image/png"
