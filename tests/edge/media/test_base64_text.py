"""Base64 in pieces, as JSON strings hold it."""

import itertools
from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.media.base64_text import NoBase64, decode_pieces


@given(
    st.binary(max_size=200),
    st.sampled_from(["plain", "url", "bare", "php", "lines", "data"]),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_any_spelling_in_any_pieces_is_decoded(data: bytes, how: str, marks: list[int]) -> None:
    text = b64encode(data)
    match how:
        case "url":
            text = urlsafe_b64encode(data)
        case "bare":
            text = text.rstrip(b"=")
        case "php":
            text = text.replace(b"/", b"\\/").replace(b"=", b"\\u003d")
        case "lines":
            text = b"\\r\\n".join(text[at : at + 5] for at in range(0, len(text), 5))
    edges = sorted({0, len(text), *(mark % (len(text) + 1) for mark in marks)})
    pieces = [text[start:end] for start, end in itertools.pairwise(edges)]
    if how == "data":
        pieces = [b"data:image/png;base64," + (pieces[0] if pieces else b""), *pieces[1:]]
    assert b"".join(decode_pieces(pieces)) == data


@pytest.mark.parametrize("text", [b"!!!!", b"abc!", b"a", b"data:image/png", b"abcd\\u0041"])
def test_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(NoBase64):
        b"".join(decode_pieces([text]))
