"""What the simulator sees of the media in a request, in every dialect."""

import json
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest

from edge.upstreams.simulator import Controls
from edge.upstreams.simulator.media.films import film
from edge.upstreams.simulator.media.pictures import FORMATS as PICTURES
from edge.upstreams.simulator.media.sounds import FORMATS as SOUNDS
from tests.edge.upstreams.simulated import CHAT, MESSAGES, RESPONSES, ask, post, whole

PICTURE = PICTURES["png"](32, 16, bytes(range(32)), "")
SOUND = SOUNDS["wav"][0]("Open the gate", 1.0)
FILM = film("A wheel turns")
PDF = b"%PDF-1.7 and so on"


def data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def saw(data: bytes) -> str:
    return f"{len(data)} bytes sha256 {sha256(data).hexdigest()[:12]}"


IMAGE = f"image image/png 32x16 {saw(PICTURE)}"
AUDIO = f"audio audio/wav 1.00 s {saw(SOUND)} saying 'Open the gate'"
VIDEO = f"video video/mp4 {saw(FILM)} saying 'A wheel turns'"
DOCUMENT = f"document application/pdf {saw(PDF)}"

CHAT_PARTS: list[tuple[dict[str, Any], str]] = [
    ({"type": "image_url", "image_url": {"url": data_url("image/png", PICTURE)}}, IMAGE),
    ({"type": "image_url", "image_url": {"url": "https://x.y/z"}}, "image at https://x.y/z"),
    ({"type": "input_audio", "input_audio": {"data": base64(SOUND), "format": "wav"}}, AUDIO),
    ({"type": "file", "file": {"file_data": data_url("application/pdf", PDF)}}, DOCUMENT),
    ({"type": "file", "file": {"file_data": base64(PDF), "filename": "a.pdf"}}, DOCUMENT),
    ({"type": "video_url", "video_url": {"url": data_url("video/mp4", FILM)}}, VIDEO),
    ({"inlineData": {"mimeType": "application/pdf", "data": base64(PDF)}}, DOCUMENT),
]
RESPONSES_PARTS: list[tuple[dict[str, Any], str]] = [
    ({"type": "input_image", "image_url": data_url("image/png", PICTURE)}, IMAGE),
    ({"type": "input_file", "file_data": data_url("application/pdf", PDF)}, DOCUMENT),
    ({"type": "input_file", "file_url": "https://x.y/z"}, "document at https://x.y/z"),
]
MESSAGES_PARTS: list[tuple[dict[str, Any], str]] = [
    (
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "hello words"},
        },
        f"document text/plain {saw(b'hello words')}",
    ),
    (
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": base64(PICTURE)},
        },
        IMAGE,
    ),
    (
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": base64(PDF)},
        },
        DOCUMENT,
    ),
    (
        {"type": "image", "source": {"type": "url", "url": "https://x.y/z"}},
        "image at https://x.y/z",
    ),
]


def texts(body: bytes) -> str:
    found = json.loads(body)
    if "choices" in found:
        return str(found["choices"][0]["message"]["content"])
    if "output" in found:
        return str(found["output"][0]["content"][0]["text"])
    return str(found["content"][0]["text"])


@pytest.mark.parametrize(("part", "seen"), CHAT_PARTS)
def test_chat_parts_are_seen(part: dict[str, Any], seen: str) -> None:
    content = [{"type": "text", "text": "What? [[sim see]]"}, part]
    body = {"model": "sim-1", "messages": [{"role": "user", "content": content}]}
    said = texts(whole(ask(post(CHAT, body))))
    assert said.startswith(f"I see 1 media: {seen}.\n\nYou said: What?")


@pytest.mark.parametrize(("part", "seen"), RESPONSES_PARTS)
def test_responses_parts_are_seen(part: dict[str, Any], seen: str) -> None:
    content = [{"type": "input_text", "text": "What? [[sim see=1]]"}, part]
    body = {"model": "sim-1", "input": [{"role": "user", "content": content}]}
    assert f"I see 1 media: {seen}." in texts(whole(ask(post(RESPONSES, body))))


@pytest.mark.parametrize(("part", "seen"), MESSAGES_PARTS)
def test_messages_parts_are_seen_also_in_tool_results(part: dict[str, Any], seen: str) -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [part]}
    use = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}
    body = {
        "model": "sim-1",
        "max_tokens": 1000,
        "messages": [
            {"role": "user", "content": [part, {"type": "text", "text": "What? [[sim see]]"}]},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ],
    }
    found = ask(post(MESSAGES, body), Controls(see=True))
    assert f"I see 2 media: {seen}; {seen}." in texts(whole(found))


def test_text_alone_holds_no_media() -> None:
    body = {"model": "sim-1", "messages": [{"role": "user", "content": "image [[sim see]]"}]}
    assert texts(whole(ask(post(CHAT, body)))).startswith("I see no media.")


def test_tools_and_schemas_that_speak_of_media_are_no_media() -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "draw",
            "parameters": {
                "type": "object",
                "properties": {"type": {"type": "string", "enum": ["image", "file"]}},
            },
        },
    }
    content = "Draw [[sim see]]"
    body = {"model": "sim-1", "tools": [tool], "messages": [{"role": "user", "content": content}]}
    assert texts(whole(ask(post(CHAT, body)))).startswith("I see no media.")


def test_a_seeing_model_needs_no_directive_and_may_be_silenced() -> None:
    content = [{"type": "text", "text": "What?"}, CHAT_PARTS[0][0]]
    body = {"model": "sim-eye-1", "messages": [{"role": "user", "content": content}]}
    assert texts(whole(ask(post(CHAT, body)))).startswith(f"I see 1 media: {IMAGE}.")
    content[0]["text"] = "What? [[sim see=0]]"
    assert texts(whole(ask(post(CHAT, body)))).startswith("You said: What?")
