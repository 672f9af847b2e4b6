"""Media parts in bodies of every dialect: found with path, kind, source; replaced in place."""

import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from edge.media.part import FileReference, Frames, Inline, Link, MediaPart
from edge.media.parts import find_media, has_media, replace_media
from middlewares.problem import Problem

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
DATA = b64encode(PNG).decode()
URL = f"data:image/png;base64,{DATA}"
LINK = "https://example.com/a"


def fields_of(body: Any) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(json.dumps(body), type=dict[str, msgspec.Raw])


def user(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def only(body: Any) -> MediaPart:
    fields = fields_of(body)
    assert has_media(fields)
    (part,) = find_media(fields)
    return part


@pytest.mark.parametrize(
    ("part", "kind", "param"),
    [
        ({"type": "image_url", "image_url": {"url": URL}}, "image", ".image_url.url"),
        ({"type": "image_url", "image_url": URL}, "image", ".image_url"),
        ({"type": "input_image", "image_url": URL}, "image", ".image_url"),
        ({"type": "input_image", "image_url": {"url": URL}}, "image", ".image_url.url"),
        ({"type": "image", "image": URL}, "image", ".image"),
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": DATA},
            },
            "image",
            ".source.data",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
            "audio",
            ".input_audio.data",
        ),
        (
            {"type": "audio_url", "audio_url": {"url": URL.replace("image/png", "audio/wav")}},
            "audio",
            ".audio_url.url",
        ),
        (
            {"type": "video_url", "video_url": {"url": URL.replace("image/png", "video/mp4")}},
            "video",
            ".video_url.url",
        ),
        (
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": DATA},
            },
            "document",
            ".file.file_data",
        ),
        ({"type": "file", "file": {"file_data": URL}}, "image", ".file.file_data"),
        (
            {"type": "input_file", "filename": "a.pdf", "file_data": DATA},
            "document",
            ".file_data",
        ),
        (
            {
                "type": "document",
                "title": "a.pdf",
                "source": {"type": "base64", "media_type": "application/pdf", "data": DATA},
            },
            "document",
            ".source.data",
        ),
        ({"inlineData": {"mimeType": "video/mp4", "data": DATA}}, "video", ".inlineData.data"),
        ({"inline_data": {"mime_type": "image/png", "data": DATA}}, "image", ".inline_data.data"),
    ],
)
def test_inline_part_is_found_with_its_bytes(part: Any, kind: str, param: str) -> None:
    found = only(user({"type": "text", "text": "?"}, part))
    assert (found.kind, found.path) == (kind, "messages[0].content[1]")
    assert found.param == found.path + param
    assert isinstance(found.source, Inline)
    assert found.source.content() == PNG
    assert found.source.size >= len(PNG)


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": LINK}}, "image"),
        ({"type": "input_file", "file_url": LINK}, "document"),
        ({"type": "file", "file": {"file_id": LINK}}, "document"),
        ({"type": "image", "source": {"type": "url", "url": LINK}}, "image"),
        ({"type": "document", "source": {"type": "url", "url": LINK}}, "document"),
        ({"type": "video_url", "video_url": LINK}, "video"),
        ({"type": "input_audio", "input_audio": {"data": LINK, "format": "mp3"}}, "audio"),
        ({"fileData": {"mimeType": "audio/mpeg", "fileUri": LINK}}, "audio"),
    ],
)
def test_linked_part_is_found_with_its_link(part: Any, kind: str) -> None:
    found = only(user(part))
    assert found.kind == kind
    assert found.source == Link(LINK)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "file", "file": {"file_id": "file-1"}}, ".file.file_id"),
        ({"type": "input_image", "file_id": "file-1"}, ".file_id"),
        ({"type": "input_file", "file_id": "file-1"}, ".file_id"),
        ({"type": "image", "source": {"type": "file", "file_id": "file-1"}}, ".source.file_id"),
        ({"type": "container_upload", "file_id": "file-1"}, ".file_id"),
        ({"type": "image", "source": {"file_id": "file-1", "data": DATA}}, ".source.file_id"),
    ],
)
def test_file_id_is_found_with_its_path(part: Any, param: str) -> None:
    found = only(user(part))
    assert found.source == FileReference("file-1")
    assert found.param == found.path + param


def test_frames_of_a_video_are_one_part() -> None:
    found = only(user({"type": "video", "video": [URL, LINK, {"url": LINK}]}))
    assert found.kind == "video"
    assert isinstance(found.source, Frames)
    first, *others = found.source.frames
    assert isinstance(first, Inline) and first.content() == PNG
    assert others == [Link(LINK), Link(LINK)]


def test_results_of_tools_and_screenshots_are_searched() -> None:
    image = {"type": "input_image", "image_url": URL, "detail": "low"}
    body = {
        "input": [
            {"type": "function_call_output", "call_id": "1", "output": [image]},
            {"type": "custom_tool_call_output", "call_id": "2", "output": [image]},
            {
                "type": "computer_call_output",
                "call_id": "3",
                "output": {"type": "computer_screenshot", "image_url": URL},
            },
            {"role": "user", "content": [image]},
        ]
    }
    found = find_media(fields_of(body))
    assert [part.path for part in found] == [
        "input[0].output[0]",
        "input[1].output[0]",
        "input[2].output",
        "input[3].content[0]",
    ]
    assert {part.text_type for part in found} == {"input_text"}
    assert [part.detail for part in found] == ["low", "low", "", "low"]


def test_blocks_of_messages_are_searched_at_every_depth() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}
    marked = {**image, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    document = {"type": "document", "source": {"type": "content", "content": [image]}}
    body = {
        "system": [{"type": "text", "text": "s"}, image],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "1", "content": [marked]}],
            },
            {"role": "user", "content": [document]},
        ],
    }
    found = find_media(fields_of(body))
    assert [part.path for part in found] == [
        "messages[0].content[0].content[0]",
        "messages[1].content[0].source.content[0]",
        "system[1]",
    ]
    text = json.loads(bytes(found[0].as_text("seen")))
    assert text == {"type": "text", "text": "seen", "cache_control": marked["cache_control"]}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": json.dumps({"type": "image_url", "image_url": {"url": URL}})},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"source": "a", "file": "b"}},
        {
            "type": "web_fetch_tool_result",
            "tool_use_id": "1",
            "content": {"type": "document", "source": {"type": "base64", "data": DATA}},
        },
    ],
)
def test_texts_and_results_of_vendors_have_no_parts(part: Any) -> None:
    assert not find_media(fields_of(user(part)))


def test_recent_parts_stand_after_the_model_or_in_the_last_user_turn() -> None:
    image = {"type": "image_url", "image_url": {"url": URL}}
    asked = {"role": "user", "content": [image]}
    answered = {"role": "assistant", "content": "ok"}
    result = {"role": "tool", "tool_call_id": "1", "content": [image]}
    for turns, expected in (
        ([asked], [True]),
        ([asked, answered, asked], [False, True]),
        ([asked, answered, result, asked], [False, True, True]),
        ([asked, answered], [True]),
        ([asked, asked, answered], [False, True]),
    ):
        found = find_media(fields_of({"messages": turns}))
        assert [part.recent for part in found] == expected, turns
    for turns, expected in (([asked, answered], [False]), ([answered, asked], [True])):
        found = find_media(fields_of({"messages": turns}), compacting=True)
        assert [part.recent for part in found] == expected, turns
    items = [
        {"role": "user", "content": [{"type": "input_image", "image_url": URL}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "1",
            "output": [{"type": "input_image", "image_url": URL}],
        },
    ]
    assert [part.recent for part in find_media(fields_of({"input": items}))] == [False, True]


def test_escaped_slashes_and_white_space_in_base64_are_read() -> None:
    written = json.dumps(user({"type": "image_url", "image_url": {"url": URL}}))
    written = written.replace("/", "\\/").replace(DATA[:8], DATA[:8] + "\\n")
    fields = msgspec.json.decode(written, type=dict[str, msgspec.Raw])
    (part,) = find_media(fields)
    assert isinstance(part.source, Inline)
    assert (part.media_type, part.source.content()) == ("image/png", PNG)


def test_large_base64_is_decoded_in_pieces() -> None:
    content = bytes(range(256)) * 16_000
    url = f"data:application/pdf;base64,{b64encode(content).decode()}"
    part = only(user({"type": "file", "file": {"file_data": url}}))
    assert isinstance(part.source, Inline)
    pieces = list(part.source.pieces())
    assert len(pieces) > 3 and b"".join(pieces) == content


@pytest.mark.parametrize("data", ["%%%", "A", "ü"])
def test_data_that_is_no_base64_raises(data: str) -> None:
    part = only(user({"type": "image", "source": {"type": "base64", "data": data}}))
    assert isinstance(part.source, Inline)
    with pytest.raises(ValueError):
        part.source.content()


def test_percent_encoded_data_is_decoded() -> None:
    part = only(user({"type": "file", "file": {"file_data": "data:text/csv,a%2Cb%0A"}}))
    assert isinstance(part.source, Inline)
    assert (part.kind, part.source.content()) == ("document", b"a,b\n")


def test_large_percent_encoded_data_is_not_read() -> None:
    part = only(user({"type": "file", "file": {"file_data": "data:text/csv," + "%2C" * 400_000}}))
    assert isinstance(part.source, Inline)
    with pytest.raises(ValueError):
        part.source.content()


@pytest.mark.parametrize("value", [None, 7, "", {}, [], "file:///etc/passwd", "gs://b/o"])
def test_part_without_a_usable_source_has_none(value: Any) -> None:
    part = only(user({"type": "image_url", "image_url": value}))
    assert part.source is None


def test_replacing_keeps_the_bytes_of_everything_else() -> None:
    image = {"type": "image_url", "image_url": {"url": URL}}
    odd = '{"role":"user","content":"1e400 \\u00e4 \\/"}'
    written = (
        '{"model":"m","temperature":1.50,"messages":['
        + odd
        + ',{"content":['
        + json.dumps(image)
        + ',{"type":"text","text":"\\u0041"}],"role":"user"},'
        + odd
        + "]}"
    )
    fields = msgspec.json.decode(written, type=dict[str, msgspec.Raw])
    (part,) = find_media(fields)
    changed = replace_media(fields, {part: part.as_text("seen")})
    assert changed["temperature"] is fields["temperature"]
    assert (
        bytes(changed["messages"])
        == (
            "["
            + odd
            + ',{"content":[{"type":"text","text":"seen"},{"type":"text","text":"\\u0041"}],'
            + '"role":"user"},'
            + odd
            + "]"
        ).encode()
    )
    assert URL.encode() in bytes(fields["messages"])


def test_text_that_is_not_utf8_is_refused() -> None:
    raw = json.dumps([{"content": [{"type": "image_url", "image_url": {"url": URL}}]}]).encode()
    with pytest.raises(Problem) as raised:
        find_media({"messages": msgspec.Raw(raw.replace(b'"url"', b'"\xff"'))})
    assert raised.value.kind == "invalid_request"


def test_deep_nesting_is_refused() -> None:
    raw = b'[{"image":0,"content":' * 3000 + b"0" + b"}]" * 3000
    with pytest.raises(Problem) as raised:
        find_media({"messages": msgspec.Raw(raw)})
    assert raised.value.kind == "invalid_request"
