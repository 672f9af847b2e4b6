"""Transcripts through the clients that people have: OpenAI's SDK, curl, Open WebUI, LibreChat."""

import io
import json
import struct
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from .conftest import SECRETS, over_http
from .curl import curl
from .program import Gateway, Program, stats

TEXT = "The gate opens. The water runs."
FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    """A gateway with a voice and an ear at the simulator, each with a price."""
    document = over_http(simulator.url)
    document["models"] += [
        {"id": "voice", "targets": ["far-openai/speak"], "price": {"character": "0.00001"}},
        {"id": "ear", "targets": ["far-openai/hear"], "price": {"audio_minute": "0.06"}},
    ]
    program = Gateway(tmp_path_factory.mktemp("clients"), document, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(scope="module")
def spoken(media: Gateway) -> bytes:
    """A WAV with words that the simulated ear reads."""
    body = {"model": "voice", "voice": "alloy", "input": TEXT, "response_format": "wav"}
    answer = media.post("/v1/audio/speech", body)
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize("form", FORMATS)
async def test_sdk_transcribes_into_every_format(
    client: openai.AsyncOpenAI, spoken: bytes, form: Any
) -> None:
    found: Any = await client.audio.transcriptions.create(
        model="ear", file=("said.wav", spoken), response_format=form
    )
    if form in ("text", "srt", "vtt"):
        assert isinstance(found, str)
        assert "The gate opens." in found and found.endswith("\n")
    else:
        assert found.text == TEXT
    if form == "verbose_json":
        assert [segment.text.strip() for segment in found.segments] == [
            "The gate opens.",
            "The water runs.",
        ]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_sdk_translates(client: openai.AsyncOpenAI, spoken: bytes) -> None:
    found = await client.audio.translations.create(model="ear", file=("said.wav", spoken))
    assert found.text == TEXT


async def test_sdk_streams_a_transcript(client: openai.AsyncOpenAI, spoken: bytes) -> None:
    stream = await client.audio.transcriptions.create(
        model="ear", file=("said.wav", spoken), stream=True
    )
    events: list[Any] = [event async for event in stream]
    said = "".join(event.delta for event in events if event.type == "transcript.text.delta")
    assert said == TEXT == events[-1].text


async def test_every_format_costs_the_same(plain: httpx.AsyncClient, spoken: bytes) -> None:
    """Text, subtitles and streams name no usage, and are charged by the length of the sound."""
    costs = {}
    for form in FORMATS:
        for stream in ("false", "true"):
            answer = await plain.post(
                "/audio/transcriptions",
                data={"model": "ear", "response_format": form, "stream": stream},
                files={"file": ("said.wav", spoken)},
            )
            assert answer.status_code == 200, answer.text
            request_id = answer.headers["x-request-id"]
            row = (await plain.get(f"/requests/{request_id}")).json()
            costs[form, stream] = row["credits"]
    assert len(set(costs.values())) == 1, costs
    assert float(next(iter(costs.values()))) > 0


async def test_transcript_that_looks_like_json_stays_text(
    plain: httpx.AsyncClient, client: openai.AsyncOpenAI
) -> None:
    said = '{"text": "no"}'
    speech = {"model": "voice", "voice": "alloy", "input": said, "response_format": "wav"}
    sound = (await plain.post("/audio/speech", json=speech)).content
    answer = await plain.post(
        "/audio/transcriptions",
        data={"model": "ear", "response_format": "text"},
        files={"file": ("said.wav", sound)},
    )
    assert answer.text == said + "\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_form_of_open_webui_without_a_type_is_transcribed(
    plain: httpx.AsyncClient, spoken: bytes
) -> None:
    """routers/audio.py: `file` and `model`, the part has a filename and no type."""
    boundary = "5e4f0a41c0ffee"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\near\r\n'
        f"--{boundary}\r\nContent-Disposition: form-data; "
        'name="file"; filename="3f0e.wav"\r\n\r\n'
    ).encode()
    body += spoken + f"\r\n--{boundary}--\r\n".encode()
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    answer = await plain.post("/audio/transcriptions", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == TEXT


async def test_form_of_librechat_streams_a_file_called_webm(
    plain: httpx.AsyncClient, spoken: bytes
) -> None:
    """STTService.js: a form of a stream, chunked, `audio.webm`, the answer needs `text`."""
    boundary = "--------------------------4815162342"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\near\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="audio.webm"\r\n'
        "Content-Type: audio/webm\r\n\r\n"
    ).encode()

    async def pieces() -> AsyncIterator[bytes]:
        yield head
        for at in range(0, len(spoken), 5000):
            yield spoken[at : at + 5000]
        yield f"\r\n--{boundary}--\r\n".encode()

    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    answer = await plain.post("/audio/transcriptions", content=pieces(), headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == TEXT


async def test_silence_is_an_empty_text(plain: httpx.AsyncClient) -> None:
    target = io.BytesIO()
    with wave.open(target, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(bytes(8000))
    data = target.getvalue()
    silence = b"RIFF" + struct.pack("<I", len(data)) + data[8:36] + b"simT\0\0\0\0" + data[36:]
    answer = await plain.post(
        "/audio/transcriptions", data={"model": "ear"}, files={"file": ("a.wav", silence)}
    )
    assert answer.json()["text"] == ""


def test_curl_transcribes_a_file_that_comes_before_its_model(
    media: Gateway, spoken: bytes, tmp_path: Path
) -> None:
    (tmp_path / "said.wav").write_bytes(spoken)
    status, body = curl(
        media, tmp_path, "/audio/transcriptions", "-F", "file=@said.wav", "-F", "model=ear"
    )
    assert (status, json.loads(body)["text"]) == (200, TEXT)


def test_curl_without_a_form_is_said_what_is_expected(media: Gateway, tmp_path: Path) -> None:
    status, body = curl(
        media,
        tmp_path,
        "/audio/transcriptions",
        "-H",
        "content-type: text/plain",
        "-d",
        "model=ear",
    )
    assert status == 415
    assert "multipart/form-data" in json.loads(body)["error"]["message"]


async def test_upstream_is_asked_once_for_each_media_request(
    plain: httpx.AsyncClient, spoken: bytes, simulator: Program
) -> None:
    before = stats(simulator)["transcriptions"]
    for _ in range(3):
        answer = await plain.post(
            "/audio/transcriptions", data={"model": "ear"}, files={"file": ("a.wav", spoken)}
        )
        assert answer.status_code == 200
    assert stats(simulator)["transcriptions"] - before == 3
