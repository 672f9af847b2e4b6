"""Searching a window at a time finds what searching at once does."""

import re
from base64 import b64encode

import pytest

from edge.billing import media_tokens
from edge.billing.media_tokens import media_in, pdf_tokens
from edge.requests import regex_windows
from edge.requests.regex_windows import found, matches, run_end

WORD = re.compile(rb'"a+"')


@pytest.fixture
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (regex_windows, media_tokens):
        monkeypatch.setattr(module, "WINDOW", 10)
        monkeypatch.setattr(module, "OVERLAP", 8)


@pytest.mark.usefixtures("small_window")
@pytest.mark.parametrize("before", range(25))
def test_matches_across_the_edge_of_a_window(before: int) -> None:
    body = b"." * before + b'"aaa""a".....""..."aaaa"'
    assert [each[0] for each in matches(WORD, body)] == WORD.findall(body)
    assert found(WORD, body)
    assert not found(re.compile(rb"z"), body)


@pytest.mark.usefixtures("small_window")
@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 35])
def test_a_run_ends_where_it_does(size: int) -> None:
    one = re.compile(rb"a*+")
    assert run_end(one, b"xx" + b"a" * size + b'"', 2) == 2 + size
    assert run_end(one, b"xx" + b"a" * size, 2) == 2 + size


def test_media_are_found_wherever_a_window_ends() -> None:
    data = b"A" * 2000
    unit = b'{"type":"image","source":{"type":"base64","data":"%b"}},' % data
    linked = b'{"type":"image_url","image_url":{"url":"https://x/y.png"}},'
    for shift in range(0, 60, 7):
        body = b"[" + b" " * (regex_windows.WINDOW - shift) + unit * 3 + linked
        _, hidden, tokens = media_in(body)
        assert hidden == 3 * len(data)
        assert tokens == media_in(unit * 3 + linked)[2]


def test_pages_of_a_large_pdf_are_counted_as_those_of_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pdf = b"%PDF-1.7 /Type /Pages" + b" padding /Type/Page and /Type /Page" * 20
    data = b64encode(pdf).decode()
    at_once = pdf_tokens(data)
    for size in (4, 8, 12, 40, 400):
        monkeypatch.setattr(media_tokens, "AT_ONCE", size)
        assert pdf_tokens(data) == at_once
