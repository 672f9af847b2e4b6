"""Links that a lenient server would find in a body are refused; words that name one are not."""

import json
from typing import Any

import msgspec
import pytest

from edge.media.left_links import refuse_left_links, refuse_links_beside
from middlewares.problem import Problem

LINK = "http://169.254.169.254/latest"


def check(parts: Any, member: str = "messages") -> None:
    turns = [{"role": "user", "content": parts}]
    refuse_left_links({member: msgspec.Raw(json.dumps(turns).encode())})


@pytest.mark.parametrize(
    "text",
    [
        LINK,
        f"{LINK}?{'a' * 9000}",
        " " * 300 + LINK,
        f"\n\t{LINK}",
        "ht\ntp://169.254.169.254/",
        "\ufeffHTTPS:169.254.169.254",
        "file:///etc/passwd",
        "ftp://10.0.0.1/",
        "s3://bucket/key",
        "gopher:\\\\10.0.0.1",
    ],
)
def test_link_however_it_is_written_is_refused(text: str) -> None:
    with pytest.raises(Problem) as raised:
        check([{"type": "image_url", "image_url": {"url": text}}])
    assert raised.value.kind == "invalid_request"
    assert raised.value.param == "messages[0].content[0].image_url.url"
    assert "169.254" not in (raised.value.message or "")


def test_link_behind_escapes_is_refused() -> None:
    raw = b'[{"content":[{"type":"image_url","image_url":{"url":"\\u0068ttp:\\/\\/10.0.0.1"}}]}]'
    with pytest.raises(Problem):
        refuse_left_links({"messages": msgspec.Raw(raw)})


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"image_url": LINK}, "image_url"),
        ({"type": "Image_URL", "image_url": {"url": LINK}}, "image_url.url"),
        (
            {"type": "image_url", "image_url": {"data": "AAAA", "url": LINK}},
            "image_url.url",
        ),
        (
            {"type": "image_url", "source": {"data": "AAAA"}, "image_url": {"url": LINK}},
            "image_url.url",
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:,x"}, "video_url": LINK},
            "video_url",
        ),
        ({"type": "video", "video": ["data:,x", LINK]}, "video[1]"),
        ({"type": "video", "video": [{"url": LINK}]}, "video[0].url"),
        ({"fileData": {"fileUri": LINK}}, "fileData.fileUri"),
        ({"type": "input_file", "file_url": LINK}, "file_url"),
        ({"type": "x", "more": [{"audio_url": {"url": LINK}}]}, "more[0].audio_url.url"),
        (
            {"type": "document", "source": {"type": "content", "content": [{"image": LINK}]}},
            "source.content[0].image",
        ),
    ],
)
def test_link_wherever_it_stands_is_refused(part: dict[str, Any], param: str) -> None:
    for member in ("messages", "input", "system"):
        with pytest.raises(Problem) as raised:
            check([{"type": "text", "text": "x"}, part], member)
        assert raised.value.param == f"{member}[0].content[1].{param}"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": LINK},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "//uQ" * 99, "format": "mp3"}},
        {"type": "input_audio", "input_audio": {"data": "//uQ"}},
        {"type": "file", "file": {"file_data": "AAAA", "filename": LINK}},
        {"type": "document", "title": LINK, "source": {"type": "text", "data": LINK}},
        {"type": "search_result", "source": LINK, "title": "x", "content": []},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"image_url": LINK}},
        {
            "type": "web_fetch_tool_result",
            "content": {"url": LINK, "content": {"source": {"type": "text", "data": LINK}}},
        },
        {"type": "output_text", "annotations": [{"type": "url_citation", "url": LINK}]},
        {"type": "image_url", "image_url": None},
    ],
)
def test_words_and_data_are_no_links(part: dict[str, Any]) -> None:
    check([part, {"type": "image_url", "image_url": {"url": "data:,x"}}])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "x", "image": LINK}, "image"),
        ({"prompt": "x", "image_url": {"url": LINK}}, "image_url.url"),
        ({"prompt": "x", "images": ["data:,x", LINK]}, "images[1]"),
        ({"input": "x", "ref_audio": LINK}, "ref_audio"),
        ({"url": LINK}, "url"),
        (
            {"input": [{"content": [{"image_url": {"url": LINK}}]}]},
            "input[0].content[0].image_url.url",
        ),
    ],
)
def test_link_beside_the_prose_of_another_body_is_refused(body: dict[str, Any], param: str) -> None:
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}
    with pytest.raises(Problem) as raised:
        refuse_links_beside(fields)
    assert raised.value.param == param


def test_link_in_the_prose_of_another_body_passes() -> None:
    body = {"model": "m", "prompt": LINK, "input": [LINK], "n": 1, "user": LINK, "mask": None}
    refuse_links_beside({name: msgspec.Raw(json.dumps(v).encode()) for name, v in body.items()})
