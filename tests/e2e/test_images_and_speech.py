"""Images and speech on the real server: the vendor's client, chat UIs, and bytes in time."""

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from .conftest import SECRETS, Figures, over_http
from .program import Gateway, Program, peak_rss, until
from .scripted_upstream import CUT, HOLD, SSE, Answer, ScriptedUpstream, scripted_upstream

MAGIC = {
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"),
    "opus": (b"OggS",),
    "aac": (b"ID3", b"\xff\xf1", b"\xff\xf9"),
    "flac": (b"fLaC",),
    "wav": (b"RIFF",),
    "pcm": (b"",),
}
TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
PNG = b"\x89PNG\r\n\x1a\n"
MP3 = {"content-type": "audio/mpeg"}
SOUND = b"ID3\x04" + bytes(400)
MiB = 1 << 20
LARGE = base64.b64encode(bytes(range(256)) * (4 * MiB // 256)).decode()


def partial(number: int) -> bytes:
    event = {
        "type": "image_generation.partial_image",
        "partial_image_index": number,
        "b64_json": LARGE,
    }
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


BEGIN, END = b'{"created":1,"data":[{"b64_json":"', b'"}]}'
EVENT, BLANK = b'data: {"type":"image_generation.completed","b64_json":"', b'"}\n\n'
HEAVY = 28
"""MiB of a heavy image in base64."""
MOST_GROWTH = 64 * MiB
"""Bytes by which many heavy images may raise the memory of a worker."""
DONE = b'data: {"type":"image_generation.completed","b64_json":"aGk="}\n\n'
SCRIPTS = {
    "heavy": [
        Answer(streamed=False, pieces=[BEGIN, *[b"A" * MiB] * HEAVY, END]),
        Answer(streamed=True, headers=SSE, pieces=[EVENT, *[b"A" * MiB] * HEAVY, BLANK]),
    ],
    "held": [Answer(headers=MP3, pieces=[SOUND, HOLD, b"the rest"])],
    "cut": [Answer(headers=MP3, pieces=[SOUND, CUT])],
    "stuck": [Answer(headers=MP3, pieces=[SOUND, HOLD])],
    "events": [Answer(headers=SSE, pieces=[partial(0), HOLD, partial(1), DONE])],
}


SIGNED = "X-Amz-Signature=canary-7d1f&sig=canary-22aa"
"""Of a provider's own link, which reaches no client and no log."""


@pytest.fixture(scope="module")
def scripted(simulator: Program) -> Iterator[ScriptedUpstream]:
    link = f"{simulator.url}/v1/pictures/64x64-{'5a' * 32}.png?{SIGNED}"
    linked = [Answer(pieces=[json.dumps({"data": [{"url": link}]}).encode()])]
    with scripted_upstream({**SCRIPTS, "linked": linked}) as server:
        yield server


@pytest.fixture(scope="module")
def media(
    tmp_path_factory: pytest.TempPathFactory, simulator: Program, scripted: ScriptedUpstream
) -> Iterator[Gateway]:
    """A gateway with a painter and a voice at the simulator, and with the scripts' models."""
    document = over_http(simulator.url)
    json_edits = {**document["upstreams"][1], "name": "far-json", "image_edits": "json"}
    document["upstreams"].append(json_edits)
    document["upstreams"].append({"name": "script", "dialect": "openai", "base_url": scripted.url})
    document["models"] += [
        {"id": "painter", "targets": ["far-openai/far-model"], "price": {"image": "0.04"}},
        {"id": "json-painter", "targets": ["far-json/far-model"], "price": {"image": "0.04"}},
        {"id": "voice", "targets": ["far-openai/far-model"], "price": {"character": "0.00001"}},
        *({"id": name, "targets": [f"script/{name}"]} for name in (*SCRIPTS, "linked")),
    ]
    document["fetch"] = {
        "allow_http": True,
        "ports": [simulator.port],
        "allowed_networks": ["127.0.0.1/32"],
    }
    program = Gateway(tmp_path_factory.mktemp("media"), document, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


# Images


async def test_sdk_makes_images_plain_and_streamed(client: openai.AsyncOpenAI) -> None:
    made = await client.images.generate(model="painter", prompt="a gate", n=2, size="1024x1024")
    assert made.data is not None and len(made.data) == 2
    for image in made.data:
        assert base64.b64decode(image.b64_json or "").startswith(PNG)
    stream = await client.images.generate(
        model="painter", prompt="a gate", stream=True, partial_images=2, size="1024x1024"
    )
    events: list[Any] = [event async for event in stream]
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert events[-1].usage.output_tokens > 0


async def test_answer_says_its_cost_and_hides_the_provider(plain: httpx.AsyncClient) -> None:
    answer = await plain.post("/images/generations", json={"model": "painter", "prompt": "a gate"})
    assert answer.headers["x-credits-used"] == "0.04"
    assert answer.headers["x-model-used"] == "painter"
    for word in ("far-model", "SimProvider", "simsecret"):
        assert word not in answer.text and word not in str(answer.headers)


async def test_body_of_open_webui_makes_an_image(plain: httpx.AsyncClient) -> None:
    """routers/images.py: `response_format` unless the name of the model says otherwise."""
    body = {
        "model": "painter",
        "prompt": "a gate and water",
        "n": 1,
        "size": "512x512",
        "response_format": "b64_json",
    }
    answer = await plain.post("/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    for image in answer.json()["data"]:
        assert base64.b64decode(image["b64_json"]).startswith(PNG)


def picture(number: int, size: int = 40_000) -> tuple[str, bytes, str]:
    return f"a{number}.png", PNG + bytes([number]) * size, "image/png"


@pytest.mark.parametrize("model", ["painter", "json-painter"])
@pytest.mark.parametrize("count", [1, 2, 16])
async def test_sdk_edits_images_at_either_kind_of_upstream(
    client: openai.AsyncOpenAI, model: str, count: int
) -> None:
    """BerriAI/litellm#41625. The simulator says what it has got."""
    given = [picture(number) for number in range(count)]
    made = await client.images.edit(
        model=model,
        image=given if count > 1 else given[0],
        mask=picture(99),
        prompt="add a heron",
        response_format="b64_json",
    )
    assert made.data is not None
    revised = made.data[0].revised_prompt or ""
    assert f"({count} images: " in revised and "mask: " in revised, revised
    stream = await client.images.edit(
        model=model, image=given, prompt="add a heron", stream=True, partial_images=1
    )
    kinds = [event.type async for event in stream]
    assert kinds == ["image_edit.partial_image", "image_edit.completed"]


async def test_form_of_open_webui_edits_images(plain: httpx.AsyncClient) -> None:
    """routers/images.py: `image[]` for several, fields as text, no type said for the form."""
    answer = await plain.post(
        "/images/edits",
        data={
            "model": "painter",
            "prompt": "add a heron",
            "n": "1",
            "size": "512x512",
            "response_format": "b64_json",
        },
        files=[("image[]", picture(1)), ("image[]", picture(2))],
    )
    assert answer.status_code == 200, answer.text
    assert "(2 images: " in answer.json()["data"][0]["revised_prompt"]


async def test_uploaded_image_is_edited_by_its_id_and_the_answer_is_a_link(
    client: openai.AsyncOpenAI, plain: httpx.AsyncClient
) -> None:
    uploaded = await client.files.create(file=picture(3), purpose="vision")
    body = {
        "model": "painter",
        "prompt": "add a heron",
        "images": [{"file_id": uploaded.id}],
        "response_format": "url",
    }
    answer = await plain.post("/images/edits", json=body)
    assert answer.status_code == 200, answer.text
    link = answer.json()["data"][0]["url"]
    assert link.startswith(plain.base_url.join("/v1/links/file-").__str__())
    shown = httpx.get(link, trust_env=False)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert shown.content.startswith(PNG)


@pytest.mark.parametrize("form", ["b64_json", "url"])
async def test_link_of_the_provider_reaches_no_client_and_no_log(
    media: Gateway, plain: httpx.AsyncClient, simulator: Program, form: str
) -> None:
    """agbcloud/agbcloud-sdk#14. Its image is fetched, and answered as it was asked for."""
    body = {"model": "linked", "prompt": "a gate", "response_format": form}
    answer = await plain.post("/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    (image,) = answer.json()["data"]
    if form == "url":
        assert image["url"].startswith(f"{media.url}/v1/links/")
        assert httpx.get(image["url"], trust_env=False).content.startswith(PNG)
    else:
        assert base64.b64decode(image["b64_json"]).startswith(PNG)
    log = media.whole_log()
    for text in (answer.text, log, httpx.get(f"{media.url}/metrics").text):
        for word in ("X-Amz-", "canary-7d1f", "canary-22aa", f":{simulator.port}/"):
            assert word not in text
    assert "sig=" not in log  # nor that of our own link


async def test_large_event_passes_while_the_upstream_holds_the_next(
    plain: httpx.AsyncClient, scripted: ScriptedUpstream
) -> None:
    body = {"model": "events", "prompt": "a gate", "stream": True}
    async with plain.stream("POST", "/images/generations", json=body) as answer:
        pieces = answer.aiter_raw()
        got = b""
        end = partial(0)[-60:]
        while end not in got[-MiB:]:
            got += await anext(pieces)
        assert without_comments(got) == partial(0)
        scripted.release("events")
        async for piece in pieces:
            got += piece
    assert without_comments(got) == partial(0) + partial(1) + DONE


def without_comments(stream: bytes) -> bytes:
    """Pings come as slow as the machine is, and the last comment says what was used."""
    return re.sub(rb"^:.*\n\n?", b"", stream, flags=re.MULTILINE)


@pytest.mark.timeout(600)
async def test_heavy_images_do_not_fill_the_memory(
    media: Gateway, plain: httpx.AsyncClient, full: bool, figures: Figures
) -> None:
    """kortix-ai/suna#6831, BerriAI/litellm#33955, #40565. Plain and streamed, all at once."""
    many = 16 if full else 4
    (worker,) = media.workers
    await plain.post("/images/generations", json={"model": "heavy", "prompt": "x"})
    before = peak_rss(worker.pid)

    async def draw(stream: bool) -> int:
        body = {"model": "heavy", "prompt": "x", "stream": stream}
        size = 0
        async with plain.stream("POST", "/images/generations", json=body) as answer:
            async for piece in answer.aiter_raw():
                size += len(piece)
        return size

    sizes = await asyncio.gather(*(draw(bool(n % 2)) for n in range(many)))
    assert min(sizes) > HEAVY * MiB
    growth = peak_rss(worker.pid) - before
    figures(f"{many} images of {HEAVY} MiB: {growth / MiB:.1f} MiB")
    assert growth < MOST_GROWTH


@pytest.mark.timeout(600)
async def test_heavy_edits_do_not_fill_the_memory(
    media: Gateway, plain: httpx.AsyncClient, full: bool, figures: Figures
) -> None:
    """Forms of 28 MiB, to upstreams that take a form and JSON."""
    many = 16 if full else 4
    (worker,) = media.workers
    name, image, kind = picture(1, HEAVY * MiB)

    async def edit(model: str) -> None:
        answer = await plain.post(
            "/images/edits",
            data={"model": model, "prompt": "add a heron", "size": "64x64"},
            files={"image": (name, image, kind)},
        )
        assert answer.status_code == 200, answer.text
        assert "(1 images: " in answer.json()["data"][0]["revised_prompt"]

    await edit("painter")
    before = peak_rss(worker.pid)
    await asyncio.gather(*(edit(("painter", "json-painter")[n % 2]) for n in range(many)))
    growth = peak_rss(worker.pid) - before
    figures(f"{many} edits of {HEAVY} MiB: {growth / MiB:.1f} MiB")
    assert growth < MOST_GROWTH


# Speech


@pytest.mark.parametrize("form", TYPES)
async def test_sdk_streams_speech_in_each_format(client: openai.AsyncOpenAI, form: Any) -> None:
    async with client.audio.speech.with_streaming_response.create(
        model="voice", voice="alloy", input="Penstock opens the gate.", response_format=form
    ) as answer:
        assert answer.headers["content-type"] == TYPES[form]
        assert answer.headers["x-credits-used"] == "0.00024"
        sound = b"".join([piece async for piece in answer.iter_bytes()])
    assert sound.startswith(MAGIC[form]) and len(sound) > 100


async def test_sdk_reads_speech_whole(client: openai.AsyncOpenAI) -> None:
    answer = await client.audio.speech.create(model="voice", voice="alloy", input="Hello there")
    assert answer.content.startswith(MAGIC["mp3"])


async def test_events_of_speech_hold_the_same_audio(plain: httpx.AsyncClient) -> None:
    body = {"model": "voice", "voice": "alloy", "input": "Hello there", "response_format": "wav"}
    whole = (await plain.post("/audio/speech", json=body)).content
    answer = await plain.post("/audio/speech", json={**body, "stream_format": "sse"})
    events = [
        json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")
    ]
    assert events[-1]["type"] == "speech.audio.done"
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert sound == whole


async def test_body_of_open_webui_is_spoken(plain: httpx.AsyncClient) -> None:
    """routers/audio.py sends no format."""
    body = {"input": "Hello there", "model": "voice", "voice": "alloy"}
    answer = await plain.post("/audio/speech", json=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "audio/mpeg"


async def test_first_bytes_come_while_the_upstream_holds_the_rest(
    plain: httpx.AsyncClient, scripted: ScriptedUpstream
) -> None:
    body = {"model": "held", "voice": "alloy", "input": "Hello"}
    async with plain.stream("POST", "/audio/speech", json=body) as answer:
        assert "content-length" not in answer.headers
        pieces = answer.aiter_raw()
        assert await anext(pieces) == SOUND
        scripted.release("held")
        assert b"".join([piece async for piece in pieces]) == b"the rest"


async def test_fault_after_the_first_bytes_breaks_the_connection(
    media: Gateway, plain: httpx.AsyncClient
) -> None:
    body = {"model": "cut", "voice": "alloy", "input": "Hello"}
    with pytest.raises(httpx.RemoteProtocolError):
        async with plain.stream("POST", "/audio/speech", json=body) as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == SOUND
            async for _ in pieces:
                pass
    assert "Traceback" not in await asyncio.to_thread(media.whole_log)


async def test_disconnect_closes_the_upstream(
    plain: httpx.AsyncClient, scripted: ScriptedUpstream
) -> None:
    body = {"model": "stuck", "voice": "alloy", "input": "Hello"}
    async with plain.stream("POST", "/audio/speech", json=body) as answer:
        assert await anext(answer.aiter_raw()) == SOUND
        assert scripted.closed["stuck"] == 0
    await asyncio.to_thread(until, lambda: scripted.closed["stuck"] == 1, what="a closed upstream")
