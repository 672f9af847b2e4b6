"""The real models in one process: what they answer, in every format, and how they refuse."""

import asyncio
import base64
import io
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import pytest_asyncio
from PIL import Image, ImageDraw, ImageFont

from edge.media.decode.audio import convert, measure
from edge.upstreams import Request
from edge.upstreams.local_media import LocalMediaUpstream
from tests.edge.media.decode.samples import tone, wav
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SENTENCES = "The river is wide today. Penstock opens the gate and the water runs."
JSON = "application/json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models() -> AsyncIterator[LocalMediaUpstream]:
    upstream = LocalMediaUpstream()
    yield upstream
    await upstream.aclose()


class Answer:
    """A whole answer, and its pieces as they came."""

    def __init__(self, status: int, type_: str, pieces: list[bytes]) -> None:
        self.status = status
        self.type = type_
        self.pieces = pieces
        self.body = b"".join(pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of an event stream, without `[DONE]`."""
        lines = self.body.decode().split("\n\n")
        assert lines[-1] == ""
        return [json.loads(line[6:]) for line in lines[:-1] if line != "data: [DONE]"]


async def ask(models: LocalMediaUpstream, path: str, body: bytes, type_: str = JSON) -> Answer:
    headers = ((b"content-type", type_.encode()),)
    response = await models.open(Request(b"POST", b"/v1" + path.encode(), headers, body))
    pieces = []
    while data := await response.read():
        pieces.append(data)
    return Answer(response.status, dict(response.headers)[b"content-type"].decode(), pieces)


async def speak(models: LocalMediaUpstream, **members: Any) -> Answer:
    body = {"model": "voice", "input": SENTENCES, "voice": "alloy", **members}
    return await ask(models, "/audio/speech", json.dumps(body).encode())


async def transcribe(models: LocalMediaUpstream, audio: bytes, *fields: tuple[str, str]) -> Answer:
    out = bytearray()
    for name, value in (("model", "whisper-tiny"), *fields):
        out += f'--B\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    out += b'--B\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    out += audio + b"\r\n--B--\r\n"
    return await ask(models, "/audio/transcriptions", bytes(out), "multipart/form-data; boundary=B")


async def read(models: LocalMediaUpstream, *pictures: bytes, **members: Any) -> Answer:
    parts = [
        {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64," + base64.b64encode(each).decode()},
        }
        for each in pictures
    ]
    content = [{"type": "text", "text": "What is this?"}, *parts]
    body = {"model": "ocr", "messages": [{"role": "user", "content": content}], **members}
    return await ask(models, "/chat/completions", json.dumps(body).encode())


def picture(*lines: str) -> bytes:
    image = Image.new("RGB", (640, 60 + 70 * len(lines)), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(36)
    for number, line in enumerate(lines):
        draw.text((20, 30 + 70 * number), line, font=font, fill="black")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


@pytest.mark.parametrize("format_", TYPES)
async def test_speech_every_format_is_sound(models: LocalMediaUpstream, format_: str) -> None:
    answer = await speak(models, response_format=format_)
    assert (answer.status, answer.type) == (200, TYPES[format_])
    data = answer.body if format_ != "pcm" else wav_of(answer.body)
    assert 4 < measure(io.BytesIO(data)).seconds < 9
    assert convert(io.BytesIO(data), 0.0, None).peak > 0.1


def wav_of(samples: bytes) -> bytes:
    from array import array

    return wav(array("h", samples))


async def test_speech_first_sentence_comes_before_the_second(models: LocalMediaUpstream) -> None:
    answer = await speak(models, response_format="pcm")
    assert len(answer.pieces) > 1
    assert len(answer.pieces[0]) < len(answer.body) / 2


async def test_speech_as_events_holds_the_same_format(models: LocalMediaUpstream) -> None:
    answer = await speak(models, response_format="wav", stream_format="sse")
    *deltas, done = answer.events
    sound = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert sound.startswith(b"RIFF")
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["input_tokens"] == len(SENTENCES)


async def test_speech_speed_changes_its_length(models: LocalMediaUpstream) -> None:
    slow, fast = [
        len((await speak(models, response_format="pcm", speed=speed)).body) for speed in (0.6, 1.8)
    ]
    assert slow > 1.5 * fast


async def test_transcription_reads_what_was_spoken(models: LocalMediaUpstream) -> None:
    spoken = await speak(models, response_format="mp3")
    answer = await transcribe(models, spoken.body)
    assert answer.json["text"] == SENTENCES
    assert answer.json["usage"]["type"] == "duration"
    assert 4 < answer.json["usage"]["seconds"] < 10


async def test_transcription_formats_hold_the_same_words(models: LocalMediaUpstream) -> None:
    audio = (await speak(models, input="Open the gate.", response_format="wav")).body
    text, srt, vtt, verbose, events = [
        await transcribe(models, audio, *fields)
        for fields in (
            [("response_format", "text")],
            [("response_format", "srt")],
            [("response_format", "vtt")],
            [("response_format", "verbose_json"), ("timestamp_granularities[]", "word")],
            [("stream", "true")],
        )
    ]
    assert text.type == "text/plain; charset=utf-8"
    assert text.body == b"Open the gate.\n"
    assert srt.body.startswith(b"1\n00:00:0")
    assert vtt.body.startswith(b"WEBVTT\n\n00:00:0")
    assert b"Open the gate." in srt.body and b"Open the gate." in vtt.body
    assert [word["word"] for word in verbose.json["words"]] == ["Open", "the", "gate."]
    assert events.events[-1]["type"] == "transcript.text.done"
    assert events.events[-1]["text"] == "Open the gate."


async def test_transcription_of_silence_and_of_a_tone_has_no_words(
    models: LocalMediaUpstream,
) -> None:
    for audio in (wav(tone(2.0, quiet=((0, 2),))), wav(tone(2.0))):
        assert (await transcribe(models, audio)).json["text"] == ""


async def test_chat_reads_the_words_of_a_picture(models: LocalMediaUpstream) -> None:
    answer = await read(models, picture("Error 42: the gate is stuck", "see /var/log/water.log"))
    text = answer.json["choices"][0]["message"]["content"]
    assert text.startswith(
        "Text in the image:\nError 42: the gate is stuck\nsee /var/log/water.log\n\n"
        "The image is 640 x 200 pixels. Its main colours are #ffffff"
    )
    assert answer.json["usage"]["completion_tokens"] > 0


async def test_chat_streamed_gives_the_same_text(models: LocalMediaUpstream) -> None:
    pictures = (picture("first page"), picture("second page"))
    plain = (await read(models, *pictures)).json["choices"][0]["message"]["content"]
    streamed = await read(models, *pictures, stream=True, stream_options={"include_usage": True})
    *chunks, last = streamed.events
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == plain
    assert "1:\nText in the image:\nfirst page" in text
    assert "2:\nText in the image:\nsecond page" in text
    assert last["usage"]["total_tokens"] > 0
    assert streamed.body.endswith(b"data: [DONE]\n\n")


async def test_chat_short_text_before_a_picture_names_it(models: LocalMediaUpstream) -> None:
    parts: list[dict[str, Any]] = []
    for label, word in (("At 00:02:", "closed"), ("At 00:07:", "open")):
        url = "data:image/png;base64," + base64.b64encode(picture(word)).decode()
        parts += [{"type": "text", "text": label}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "ocr", "messages": [{"role": "user", "content": parts}]}
    answer = await ask(models, "/chat/completions", json.dumps(body).encode())
    text = answer.json["choices"][0]["message"]["content"]
    assert text.startswith("At 00:02:\nText in the image:\nclosed\n")
    assert "\n\nAt 00:07:\nText in the image:\nopen\n" in text


async def test_chat_with_sound_is_its_transcript(models: LocalMediaUpstream) -> None:
    spoken = (await speak(models, input="Open the gate.", response_format="mp3")).body
    sounds = {"spoken": spoken, "silent": wav(tone(1.0, quiet=((0, 1),)))}
    heard = {}
    for name, data in sounds.items():
        sound = {"data": base64.b64encode(data).decode(), "format": "mp3"}
        part = {"type": "input_audio", "input_audio": sound}
        body = {"model": "whisper-tiny", "messages": [{"role": "user", "content": [part]}]}
        answer = await ask(models, "/chat/completions", json.dumps(body).encode())
        heard[name] = answer.json["choices"][0]["message"]["content"]
    assert heard == {"spoken": "[00:00] Open the gate.", "silent": "[no speech]"}


async def test_chat_picture_without_words_says_so(models: LocalMediaUpstream) -> None:
    image = io.BytesIO()
    Image.new("RGB", (80, 40), "#ff0000").save(image, "PNG")
    text = (await read(models, image.getvalue())).json["choices"][0]["message"]["content"]
    assert text == (
        "The image contains no text.\n\n"
        "The image is 80 x 40 pixels. Its main colours are #ff0000 (100%)."
    )


async def test_broken_media_are_refused_with_their_path(models: LocalMediaUpstream) -> None:
    audio = await transcribe(models, b"no audio at all")
    image = await read(models, b"no image at all")
    for answer, param in ((audio, "file"), (image, "messages[0].content[1].image_url.url")):
        assert answer.status == 400
        assert answer.json["error"]["code"] == "invalid_media"
        assert answer.json["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/audio/speech", {"model": "voice", "input": ""}, 400),
        ("/audio/speech", {"model": "voice", "input": "x" * 4097}, 400),
        ("/audio/speech", {"model": "voice", "input": "x", "response_format": "mid"}, 400),
        ("/audio/speech", {"model": "whisper-tiny", "input": "x"}, 404),
        ("/audio/transcriptions", {"model": "whisper-tiny"}, 415),
        ("/chat/completions", {"model": "ocr", "messages": [{"role": "user"}]}, 400),
        ("/chat/completions", {"model": "ocr"}, 400),
        ("/embeddings", {"model": "ocr"}, 404),
    ],
)
async def test_other_requests_are_refused(
    models: LocalMediaUpstream, path: str, body: dict[str, Any], status: int
) -> None:
    answer = await ask(models, path, json.dumps(body).encode())
    assert answer.status == status
    assert answer.json["error"]["message"]


HOLDER = """
import asyncio
from edge.upstreams import Request
from edge.upstreams.local_media import LocalMediaUpstream

async def hold():
    models = LocalMediaUpstream()
    await models.open(Request(b"POST", b"/v1/embeddings"))
    print(models.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(hold())
"""


async def test_program_ends_when_its_worker_is_killed() -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    program = psutil.Process(int(await holder.stdout.readline()))
    holder.kill()
    await holder.wait()
    await until(lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE)
