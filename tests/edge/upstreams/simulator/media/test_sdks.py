"""The vendors' SDKs against the media of the simulator, without a gateway."""

import io
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import openai
import pytest

from edge.upstreams.simulator import SimulatorServer
from edge.upstreams.simulator.media.films import film_words
from edge.upstreams.simulator.media.pictures import FORMATS as PICTURES
from edge.upstreams.simulator.media.sounds import FORMATS as SOUNDS
from edge.upstreams.simulator.media.sounds import words_of

# The vendor ends these APIs; their shapes live on.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PICTURE = PICTURES["png"](32, 16, bytes(range(32)), "")
SOUND = SOUNDS["mp3"][0]("Open the gate.", 1.0)
BYTES = bytes(range(256)) * 3


@pytest.fixture
async def server() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as running:
        yield running


@pytest.fixture
async def client(server: SimulatorServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as one:
        yield one


async def test_openai_sdk_makes_and_edits_images(client: openai.AsyncOpenAI) -> None:
    made = await client.images.generate(model="m", prompt="a gate", size="64x48", n=2)
    assert made.data is not None and len(made.data) == 2
    assert made.usage is not None and made.usage.output_tokens > 0
    images = [(f"{n}.png", io.BytesIO(PICTURE), "image/png") for n in range(3)]
    edited = await client.images.edit(model="m", prompt="bluer", image=images, mask=images[0])
    assert edited.data is not None
    assert "3 images" in (edited.data[0].revised_prompt or "")
    stream = await client.images.generate(model="m", prompt="p", stream=True, partial_images=1)
    assert [event.type async for event in stream] == [
        "image_generation.partial_image",
        "image_generation.completed",
    ]


async def test_openai_sdk_speaks_and_hears(client: openai.AsyncOpenAI) -> None:
    async with client.audio.speech.with_streaming_response.create(
        model="m", voice="alloy", input="Open the gate.", response_format="flac"
    ) as response:
        assert response.headers["content-type"] == "audio/flac"
        assert words_of(await response.read()) == "Open the gate."
    file = ("a.mp3", SOUND)
    heard = await client.audio.transcriptions.create(model="m", file=file)
    assert heard.text == "Open the gate."
    text: Any = await client.audio.transcriptions.create(
        model="m", file=file, response_format="text"
    )
    assert text == "Open the gate.\n"
    verbose = await client.audio.transcriptions.create(
        model="m", file=file, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert [word.word for word in verbose.words or ()] == ["Open", "the", "gate."]
    stream = await client.audio.transcriptions.create(model="m", file=file, stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "transcript.text.done" and last.text == "Open the gate."
    assert last.usage is not None and last.usage.type == "tokens"
    translated = await client.audio.translations.create(model="m", file=file)
    assert translated.text == "Open the gate."


async def test_openai_sdk_keeps_files(client: openai.AsyncOpenAI) -> None:
    made = await client.files.create(file=BYTES, purpose="user_data")
    assert (await client.files.wait_for_processing(made.id)).status == "processed"
    assert [file.id async for file in client.files.list()] == [made.id]
    assert (await client.files.content(made.id)).content == BYTES
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)


async def test_anthropic_sdk_keeps_files(server: SimulatorServer) -> None:
    async with anthropic.AsyncAnthropic(
        base_url=server.url, api_key="any", max_retries=0
    ) as client:
        made = await client.files.upload(file=("a.pdf", BYTES, "application/pdf"))
        assert (made.mime_type, made.size_bytes, made.downloadable) == (
            "application/pdf",
            768,
            False,
        )
        assert [file.id async for file in client.files.list()] == [made.id]
        assert (await client.files.retrieve_metadata(made.id)).filename == "a.pdf"
        with pytest.raises(anthropic.BadRequestError):
            await client.files.download(made.id)
        assert (await client.files.delete(made.id)).id == made.id


async def test_openai_sdk_creates_polls_and_downloads_videos(client: openai.AsyncOpenAI) -> None:
    video = await client.videos.create_and_poll(
        model="m",
        prompt="A wheel [[sim life=slow:2]]",
        seconds="4",
        input_reference=("a.png", PICTURE, "image/png"),
    )
    assert (video.status, video.progress) == ("completed", 100)
    content = await client.videos.download_content(video.id)
    assert " after image/png 32x16" in (film_words(content.content) or "")
    assert [one.id async for one in client.videos.list()] == [video.id]
    remixed = await client.videos.remix(video.id, prompt="faster")
    assert remixed.remixed_from_video_id == video.id
    assert (await client.videos.delete(video.id)).deleted
    failed = await client.videos.create_and_poll(model="m", prompt="A wheel [[sim life=fail]]")
    assert failed.status == "failed" and failed.error is not None
