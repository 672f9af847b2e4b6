"""Hostile and heavy media on the real server: it answers, and its worker lives."""

import asyncio
import os
import struct
import zlib
from base64 import b64encode
from collections.abc import Iterator
from random import Random
from typing import Any

import httpx
import pytest

from tests.edge.media.decode import samples

from .conftest import Figures
from .program import DEADLINE, Gateway, peak_rss
from .wire import CHAT

MiB = 1 << 20
SIDE = 2600
"""Pixels of a square picture that takes 27 MiB in base64."""
ROOM = 112
"""MiB of bodies that the worker may hold: four of these."""
DOCUMENT = {
    "auth": {"mode": "none"},
    "limits": {
        "address": "1000000/s",
        "max_body_memory": f"{ROOM}MiB",
        "max_body_memory_per_key": f"{ROOM}MiB",
    },
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [
        {"id": "blind", "targets": ["near/sim-1"], "modalities": ["text"]},
        {"id": "eye", "targets": ["near/sim-eye"], "modalities": ["text", "image", "audio"]},
    ],
    "media": {"image": "eye", "audio": "eye", "video": "eye"},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program = Gateway(tmp_path_factory.mktemp("decoding"), DOCUMENT)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture
async def client(gateway: Gateway) -> Any:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=DEADLINE) as client:
        yield client


def question(type_: str, data: bytes) -> dict[str, Any]:
    """A chat body with one media part."""
    member = f"{type_.partition('/')[0]}_url"
    url = f"data:{type_};base64,{b64encode(data).decode()}"
    part = {"type": member, member: {"url": url}}
    if type_ == "application/pdf":
        part = {"type": "file", "file": {"file_data": url, "filename": "a.pdf"}}
    content = [{"type": "text", "text": "What is it?"}, part]
    return {"model": "blind", "messages": [{"role": "user", "content": content}]}


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG with a header of our choice."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def broken(data: bytes) -> bytes:
    """A valid head, and noise for the decoder."""
    head = len(data) // 4
    return data[:head] + Random(7).randbytes(len(data) - head)


HOSTILE = {
    "bomb of 400 megapixels": ("image/png", png(20_000, 20_000, zlib.compress(bytes(1000)))),
    "half a picture": ("image/jpeg", samples.image("JPEG", (200, 200))[:400]),
    "noise in a picture": ("image/webp", broken(samples.image("WEBP", (300, 300)))),
    "noise in a film": ("video/mp4", broken(samples.video(2))),
    "a document of noise": ("application/pdf", b"%PDF-1.7\n" + Random(3).randbytes(2000)),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_media_are_400_and_the_worker_lives(
    gateway: Gateway, client: httpx.AsyncClient, name: str
) -> None:
    """vllm-project/vllm#51895, ai-dynamo/aiperf#1214."""
    (worker,) = gateway.workers
    answer = await client.post(CHAT, json=question(*HOSTILE[name]))
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["code"] == "invalid_media"
    assert error["param"].startswith("messages[0].content[1]")
    assert [process.pid for process in gateway.workers] == [worker.pid]


@pytest.mark.parametrize(
    "script",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>",
    ],
    ids=["HLS", "concat", "DASH"],
)
async def test_lists_of_files_are_text_and_open_none(
    client: httpx.AsyncClient, script: bytes
) -> None:
    answer = await client.post(CHAT, json=question("video/mp4", script))
    assert answer.status_code in (200, 400)
    assert "root:" not in answer.text


async def test_heavy_pictures_are_described_in_bounded_memory(
    gateway: Gateway, client: httpx.AsyncClient, full: bool, figures: Figures
) -> None:
    """kortix-ai/suna#6831, llm-d/llm-d-router#2196: as many bodies as there is room for."""
    many = 16 if full else 5
    (worker,) = gateway.workers
    rows = b"".join(b"\0" + os.urandom(3 * SIDE) for _ in range(SIDE))
    body = question("image/png", png(SIDE, SIDE, zlib.compress(rows, 0)))
    assert (await client.post(CHAT, json=question("image/png", samples.image()))).status_code == 200
    before = peak_rss(worker.pid)
    answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(many)))
    growth = peak_rss(worker.pid) - before
    statuses = sorted(answer.status_code for answer in answers)
    figures(f"{many} pictures of 27 MiB: {growth / MiB:.0f} MiB, answers {statuses}")
    assert 200 in statuses
    assert set(statuses) <= {200, 429, 503}
    assert growth < 5 * ROOM * MiB  # as `limits.max_body_memory` says
