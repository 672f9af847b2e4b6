"""Images and files through the clients that people have: the vendors' SDKs, curl, Open WebUI."""

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from .conftest import SECRETS, over_http
from .curl import curl
from .program import Gateway, Program, until


def png(number: int) -> bytes:
    """A small grey picture; each number makes another."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0))
    rows = (b"\0" + bytes([number]) * 16) * 16
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


def seen(image: bytes) -> str:
    """What the simulated painter says about an image that it got."""
    digest = hashlib.sha256(image).hexdigest()[:12]
    return f"image/png 16x16 {len(image)} bytes {digest}"


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    """A gateway with a painter at the simulator."""
    document = over_http(simulator.url)
    document["models"] += [
        {"id": "painter", "targets": ["far-openai/paint"], "price": {"image": "0.04"}},
    ]
    program = Gateway(tmp_path_factory.mktemp("clients"), document, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


# Edits


@pytest.mark.parametrize("count", [1, 2, 16])
async def test_sdk_edit_carries_every_image_and_the_mask_in_their_order(
    client: openai.AsyncOpenAI, count: int
) -> None:
    images = [png(number) for number in range(count)]
    mask = png(200)
    files: list[Any] = [(f"{n}.png", image, "image/png") for n, image in enumerate(images)]
    made = await client.images.edit(
        model="painter",
        prompt="bluer",
        image=files if count > 1 else files[0],
        mask=("mask.png", mask, "image/png"),
        size="64x64",
    )
    assert made.data is not None
    listed = ", ".join(map(seen, images))
    wanted = f"bluer ({count} images: {listed}; mask: {seen(mask)})"
    assert made.data[0].revised_prompt == wanted


async def test_sdk_edit_is_streamed(client: openai.AsyncOpenAI) -> None:
    stream = await client.images.edit(
        model="painter",
        prompt="bluer",
        image=("a.png", png(1), "image/png"),
        stream=True,
        partial_images=2,
    )
    kinds = [event.type async for event in stream]
    assert kinds == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]


async def test_edit_of_open_webui_has_its_images_in_brackets(plain: httpx.AsyncClient) -> None:
    """routers/images.py: `image[]` for several, `n` and `size` as text."""
    images = [png(1), png(2)]
    answer = await plain.post(
        "/images/edits",
        data={"model": "painter", "prompt": "bluer", "n": "1", "size": "64x64"},
        files=[("image[]", (f"{n}.png", image, "image/png")) for n, image in enumerate(images)],
    )
    assert answer.status_code == 200, answer.text
    revised = answer.json()["data"][0]["revised_prompt"]
    assert revised == f"bluer (2 images: {', '.join(map(seen, images))})"
    assert answer.headers["x-credits-used"] == "0.04"


async def test_edit_by_json_reaches_a_target_that_takes_forms(plain: httpx.AsyncClient) -> None:
    image = png(3)
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    body = {"model": "painter", "prompt": "bluer", "images": [{"image_url": url}]}
    answer = await plain.post("/images/edits", json=body)
    assert answer.status_code == 200, answer.text
    assert seen(image) in answer.json()["data"][0]["revised_prompt"]


def test_curl_edits_an_image(media: Gateway, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(5))
    form = ("-F", "image=@a.png", "-F", "prompt=bluer", "-F", "model=painter")
    status, body = curl(media, tmp_path, "/images/edits", *form)
    assert status == 200, body
    revised = json.loads(body)["data"][0]["revised_prompt"]
    assert revised == f"bluer (1 images: {seen(png(5))})"


# Speech


def test_speech_that_breaks_off_leaves_the_line_of_its_request_and_no_traceback(
    media: Gateway,
) -> None:
    text = "many words to say [[sim fault=cut:2]]"
    body = {"model": "painter", "voice": "alloy", "input": text}
    with pytest.raises(httpx.RemoteProtocolError):
        media.post("/v1/audio/speech", body)
    line = until(
        lambda: next((line for line in media.log if line.get("path") == "/v1/audio/speech"), None),
        what="the line of the request",
    )
    assert (line["outcome"], line["problem"]) == ("cut", "upstream_error")
    assert "closed the connection during the body" in line["reason"]
    assert not [line for line in media.log if "Traceback" in str(line)]


# Files in conversations


def test_curl_uploads_the_file_first_and_downloads_every_byte(
    media: Gateway, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 3
    (tmp_path / "all.bin").write_bytes(data)
    form = ("-F", "file=@all.bin", "-F", "purpose=user_data")
    status, body = curl(media, tmp_path, "/files", *form)
    assert status == 200, body
    path = f"/files/{json.loads(body)['id']}/content"
    assert curl(media, tmp_path, path, "--compressed") == (200, data)
    assert curl(media, tmp_path, path, "-r", "250-260") == (206, data[250:261])


@pytest.mark.parametrize("model", ["chat", "claude", "resp", "sim-1"])
async def test_uploaded_image_is_seen_through_every_sdk_and_target(
    client: openai.AsyncOpenAI, media: Gateway, model: str
) -> None:
    image = png(7)
    saw = f"I see 1 media: image image/png 16x16 {len(image)} bytes"
    question = "What is it? [[sim see]]"
    made = await client.files.create(file=("a.png", image, "image/png"), purpose="vision")
    chat: list[Any] = [
        {"type": "text", "text": question},
        {"type": "file", "file": {"file_id": made.id}},
    ]
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": chat}]
    )
    assert "1 media: " in str(answer.choices[0].message.content)
    assert hashlib.sha256(image).hexdigest()[:12] in str(answer.choices[0].message.content)
    parts: list[Any] = [
        {"type": "input_text", "text": question},
        {"type": "input_image", "file_id": made.id, "detail": "auto"},
    ]
    response = await client.responses.create(
        model=model, input=[{"role": "user", "content": parts}]
    )
    assert response.output_text.startswith(saw)
    async with anthropic.AsyncAnthropic(
        base_url=media.url, api_key=media.key, max_retries=0
    ) as claude:
        theirs = await claude.files.upload(file=("a.png", image, "image/png"))
        blocks: list[Any] = [
            {"type": "text", "text": question},
            {"type": "image", "source": {"type": "file", "file_id": theirs.id}},
        ]
        message = await claude.messages.create(
            model=model, max_tokens=500, messages=[{"role": "user", "content": blocks}]
        )
        assert str(getattr(message.content[0], "text", "")).startswith(saw)


# Voices


@pytest.mark.parametrize("path", ["/v1/audio/voices", "/v1/audio/models"])
def test_open_webui_falls_back_to_its_own_voices(media: Gateway, path: str) -> None:
    """It asks without a key, and takes any error for an answer."""
    assert media.get(path).status_code in (401, 403, 404)
