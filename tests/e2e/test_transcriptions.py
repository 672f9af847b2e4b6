"""Transcriptions on the real server: forms of real clients, large files, and what they cost."""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from edge.upstreams.simulator.media.sounds import wav
from tests.edge.media.forms.wire import form, part

from .conftest import SECRETS, Figures, over_http
from .program import DEADLINE, Gateway, Program, peak_rss

MiB = 1 << 20
WORDS = "Penstock opens the gate and the water runs."
SOUND = wav(WORDS, 3.25)
FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
LARGE = 25 * MiB
MOST_GROWTH = 40 * MiB
"""Bytes by which twenty transcriptions of 25 MiB at once may raise the memory of a worker."""
AXIOS = "----axiosFormDataBoundary7MA4YWxkTrZu0gW"
ANSWER = json.dumps({"text": "x", "duration": 1.0}).encode()


class Sink:
    """An upstream that reads forms and keeps only their size and digest."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Sink":
        self._thread.start()
        assert self._ready.wait(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def begin() -> asyncio.Server:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            return server

        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        server = self._loop.run_until_complete(begin())
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(end())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                assert b"transfer-encoding" not in head
                left = size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                digest = hashlib.sha256()
                while left:
                    piece = await reader.readexactly(min(left, 1 << 16))
                    digest.update(piece)
                    left -= len(piece)
                self.seen.append((size, digest.hexdigest()))
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
                )
                await writer.drain()


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def ears(
    tmp_path_factory: pytest.TempPathFactory, simulator: Program, sink: Sink
) -> Iterator[Gateway]:
    document = over_http(simulator.url)
    url = f"http://127.0.0.1:{sink.port}/v1"
    document["upstreams"].append({"name": "sink", "dialect": "openai", "base_url": url})
    document["models"] += [
        {
            "id": "ears",
            "targets": ["far-openai/far-model"],
            "price": {"audio_minute": "0.006"},
        },
        {
            "id": "counted",
            "targets": ["far-openai/far-model"],
            "price": {"input": "6", "output": "10"},
        },
        {"id": "deaf", "targets": ["sink/x"], "price": {"audio_minute": "0.006"}},
    ]
    program = Gateway(tmp_path_factory.mktemp("ears"), document, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture
async def client(ears: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{ears.url}/v1", api_key=ears.key, max_retries=0, timeout=DEADLINE
    ) as made:
        yield made


@pytest.fixture
async def plain(ears: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {ears.key}"}
    async with httpx.AsyncClient(
        base_url=f"{ears.url}/v1", headers=headers, timeout=DEADLINE, trust_env=False
    ) as made:
        yield made


# Clients


@pytest.mark.parametrize("name", FORMATS)
async def test_sdk_reads_each_format(client: openai.AsyncOpenAI, name: Any) -> None:
    made = await client.audio.transcriptions.create(
        model="ears", file=("talk.wav", SOUND), response_format=name
    )
    text = made if isinstance(made, str) else made.text
    assert "Penstock opens the gate" in text
    if name == "text":
        assert text == f"{WORDS}\n"
    if name == "srt":
        assert text.startswith("1\n00:00:00,000 --> ")
    if name == "vtt":
        assert text.startswith("WEBVTT\n\n00:00:00.000 --> ")


async def test_sdk_reads_words_events_and_translations(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "ears", "file": ("talk.wav", SOUND)}
    made = await client.audio.transcriptions.create(
        **asked, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert [each.word for each in made.words or []] == WORDS.split()
    stream = await client.audio.transcriptions.create(**asked, stream=True)
    events = [event async for event in stream]
    assert "".join(e.delta for e in events if e.type == "transcript.text.delta") == WORDS
    assert events[-1].type == "transcript.text.done"
    with pytest.warns(DeprecationWarning):  # of the SDK, since OpenAI retires its endpoint
        translated = await client.audio.translations.create(**asked)
    assert translated.text == WORDS


def test_curl_form_with_the_file_first_is_read(ears: Gateway, tmp_path: Path) -> None:
    """Home Assistant's supervisor lost such forms: home-assistant/supervisor#7050."""
    file = tmp_path / "talk.wav"
    file.write_bytes(SOUND)
    ran = subprocess.run(
        (
            *("curl", "-sS", "--noproxy", "*", f"{ears.url}/v1/audio/transcriptions"),
            *("-H", f"authorization: Bearer {ears.key}", "-F", f"file=@{file}"),
            *("-F", "model=ears", "-F", "response_format=text"),
        ),
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    )
    assert ran.stdout.decode() == f"{WORDS}\n"


@pytest.mark.parametrize(
    ("boundary", "parts"),
    [
        (AXIOS, (part("model", b"ears"), part("file", SOUND, "blob", "audio/wav"))),
        ("open-webui", (part("file", SOUND, "talk.wav"), part("model", b"ears"))),
        (
            "librechat",
            (part("file", SOUND, "audio.webm", "audio/webm"), part("model", b"ears")),
        ),
    ],
    ids=["axios", "Open WebUI", "LibreChat"],
)
async def test_literal_form_of_a_client_is_read(
    plain: httpx.AsyncClient, boundary: str, parts: tuple[bytes, ...]
) -> None:
    """diegosouzapw/OmniRoute#2188, open-webui/open-webui#17636."""
    answer = await plain.post(
        "/audio/transcriptions",
        content=form(*parts, boundary=boundary.encode()),
        headers={"content-type": f"multipart/form-data; boundary={boundary}"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"] == WORDS


def test_node_form_is_read(ears: Gateway) -> None:
    """The form of `fetch`, streamed in chunks of unknown length."""
    script = """
    const form = new FormData();
    form.append("model", process.argv[3]);
    form.append("file", new Blob([Buffer.from(process.argv[4], "base64")]), "talk.wav");
    const made = new Request(process.argv[1], {method: "POST", body: form});
    const answer = await fetch(process.argv[1], {
      method: "POST", body: made.body, duplex: "half",
      headers: {authorization: process.argv[2], "content-type": made.headers.get("content-type")},
    });
    console.log((await answer.json()).text);
    """
    small = wav(WORDS, 0.5)
    ran = subprocess.run(
        (
            *("node", "--input-type=module", "-e", script, f"{ears.url}/v1/audio/transcriptions"),
            *(f"Bearer {ears.key}", "ears", base64.b64encode(small).decode()),
        ),
        capture_output=True,
        timeout=DEADLINE,
        check=True,
    )
    assert ran.stdout.decode() == f"{WORDS}\n"


async def test_chunked_form_of_random_bytes_arrives_whole(plain: httpx.AsyncClient) -> None:
    """In tiny chunks first, then in large ones. BigPizzaV3/CodexPlusPlus#1496."""
    data = random.Random(9).randbytes(3 * MiB)
    whole = form(part("file", data, "noise.wav"), part("model", b"ears"))

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(2000):
            yield whole[at : at + 1]
        for at in range(2000, len(whole), 64 << 10):
            yield whole[at : at + (64 << 10)]

    answer = await plain.post(
        "/audio/transcriptions",
        content=chunks(),
        headers={"content-type": "multipart/form-data; boundary=B"},
    )
    digest = hashlib.sha256(data).hexdigest()[:12]
    said = f"A sound of {len(data)} bytes with the digest {digest}."
    assert answer.json()["text"] == said, answer.text


async def test_announced_file_over_the_bound_is_refused_unread(ears: Gateway) -> None:
    """A client that waits for `100 Continue` sends nothing of it."""
    host, port = "127.0.0.1", int(ears.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        b"content-type: multipart/form-data; boundary=B\r\ncontent-length: 90000000\r\n"
        b"authorization: Bearer %s\r\n\r\n" % ears.key.encode()
    )
    async with asyncio.timeout(DEADLINE):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    writer.close()


# Money and memory


async def costs_of(plain: httpx.AsyncClient, model: str) -> dict[tuple[str, str], float]:
    """Credits of the same file, by format and `stream`."""
    costs = {}
    for name in FORMATS:
        for stream in ("false", "true"):
            answer = await plain.post(
                "/audio/transcriptions",
                data={"model": model, "response_format": name, "stream": stream},
                files={"file": ("talk.wav", SOUND)},
            )
            assert answer.status_code == 200, answer.text
            used = await plain.get(f"/requests/{answer.headers['x-request-id']}")
            costs[name, stream] = float(used.json()["credits"])
    return costs


async def test_transcription_costs_the_same_in_each_format_and_streamed(
    plain: httpx.AsyncClient,
) -> None:
    """3.25 s at 0.006 a minute. api7/aisix#868, api7/aisix#865."""
    costs = set((await costs_of(plain, "ears")).values())
    assert len(costs) == 1
    assert costs.pop() == pytest.approx(0.000325)


async def test_transcription_priced_by_tokens_costs_about_the_same_in_each_format(
    plain: httpx.AsyncClient,
) -> None:
    """The upstream counts 32 tokens of audio and 10 of text; in `verbose_json` only seconds."""
    costs = await costs_of(plain, "counted")
    estimated = {costs.pop((name, "false")) for name in ("srt", "vtt", "verbose_json")}
    assert len(estimated) == len(set(costs.values())) == 1
    counted = next(iter(costs.values()))
    assert counted == pytest.approx((32 * 6 + 10 * 10) / 1_000_000)
    assert estimated.pop() == pytest.approx(counted, rel=0.1)


async def test_large_transcriptions_at_once_take_little_memory(
    ears: Gateway, sink: Sink, plain: httpx.AsyncClient, full: bool, figures: Figures
) -> None:
    """BerriAI/litellm#34254, Portkey-AI/gateway#1217."""
    many = 20 if full else 5
    data = random.Random(1).randbytes(MiB)
    head, tail = form(part("file", b"", "a.wav"), part("model", b"deaf")).split(b"\r\n\r\n\r\n", 1)
    (worker,) = ears.workers

    async def chunks() -> AsyncIterator[bytes]:
        yield head + b"\r\n\r\n"
        for _ in range(LARGE // MiB):
            yield data
        yield b"\r\n" + tail

    async def ask() -> None:
        answer = await plain.post(
            "/audio/transcriptions",
            content=chunks(),
            headers={"content-type": "multipart/form-data; boundary=B"},
        )
        assert answer.json()["text"] == "x", answer.text

    await ask()  # what is loaded once
    before, seen = peak_rss(worker.pid), len(sink.seen)
    await asyncio.gather(*(ask() for _ in range(many)))
    growth = peak_rss(worker.pid) - before
    figures(f"{many} transcriptions of 25 MiB at once: {growth / MiB:.1f} MiB more")
    assert len(sink.seen) == seen + many
    assert min(size for size, _ in sink.seen[seen:]) > LARGE
    assert growth < MOST_GROWTH
