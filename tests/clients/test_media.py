"""Media with OpenAI's SDK for Node.js and with the AI SDK, at models that they do not know."""

from typing import Any

import pytest

from tests.e2e.program import Gateway

from .programs import node

TEXT = "The gate opens. The water runs."
NAMES = {"PAINTER": "painter", "VOICE": "voice", "EAR": "ear", "FILM": "film", "MODEL": "on-openai"}
PICTURE = ["PNG", 64, 48]
SPEECH = {
    "mp3": ["audio/mpeg", "ID3\x04"],
    "opus": ["audio/ogg", "OggS"],
    "aac": ["audio/aac", "ID3\x04"],
    "flac": ["audio/flac", "fLaC"],
    "wav": ["audio/wav", "RIFF"],
}


@pytest.fixture(scope="module")
def openai_seen(media_gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("openai")
    at = {"GATEWAY": media_gateway.url, "KEY": media_gateway.key}
    return node("openai-media.mjs", folder, **at, **NAMES)


@pytest.fixture(scope="module")
def vercel_seen(media_gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("vercel")
    at = {"GATEWAY": media_gateway.url, "KEY": media_gateway.key}
    return node("vercel-media.mjs", folder, **at, **NAMES)


def test_openai_sdk_makes_images_plain_and_streamed(openai_seen: Any) -> None:
    assert openai_seen["images"] == [PICTURE] * 2
    assert openai_seen["imageStream"] == [
        ["image_generation.partial_image", *PICTURE],
        ["image_generation.completed", *PICTURE],
    ]


def test_openai_sdk_makes_speech_in_every_format(openai_seen: Any) -> None:
    speech = openai_seen["speech"]
    assert speech.pop("pcm")[0] == "audio/pcm"
    assert speech == SPEECH


def test_ai_sdk_makes_images_at_a_model_that_refuses_its_response_format(vercel_seen: Any) -> None:
    assert vercel_seen["images"] == [PICTURE] * 2


def test_ai_sdk_makes_speech(vercel_seen: Any) -> None:
    assert vercel_seen["speech"] == ["audio/wav", "RIFF"]


def test_ai_sdk_shows_an_image_to_a_model(vercel_seen: Any) -> None:
    assert vercel_seen["imageInText"].startswith("I see 1 media: image image/png 64x48 ")


def test_openai_sdk_keeps_files_of_every_kind_of_source(openai_seen: Any) -> None:
    assert openai_seen["files"] == {
        "names": ["bytes.bin", "naïve café.bin", "streamed.bin"],
        "sizes": [70000] * 3,
        "same": True,
        "status": "processed",
        "listed": True,
        "deleted": True,
        "gone": 404,
    }


def test_openai_sdk_uploads_in_parts(openai_seen: Any) -> None:
    assert openai_seen["upload"] == {"status": "completed", "bytes": 70000, "same": True}


def test_openai_sdk_creates_polls_and_downloads_a_video(openai_seen: Any) -> None:
    assert openai_seen["video"] == {
        "begun": "queued",
        "status": "completed",
        "seconds": "4",
        "magic": "ftyp",
        "listed": True,
        "deleted": True,
    }


def test_openai_sdk_edits_one_image_several_and_a_mask(openai_seen: Any) -> None:
    edits = openai_seen["edits"]
    image = f"image/png 64x48 157 bytes {edits['digest'][:12]}"
    assert edits["one"] == f"A gate (1 images: {image})"
    assert edits["two"] == f"A gate (2 images: {image}, {image}; mask: {image})"
    assert edits["streamed"] == ["image_edit.completed"]


def test_ai_sdk_edits_an_image(vercel_seen: Any) -> None:
    assert vercel_seen["edit"] == [PICTURE]


def test_openai_sdk_transcribes_into_every_form_and_from_a_stream(openai_seen: Any) -> None:
    transcripts = openai_seen["transcripts"]
    assert transcripts.pop("srt").startswith("1\n00:00:00,000 --> ")
    assert transcripts == {
        "json": TEXT,
        "text": f"{TEXT}\n",
        "verbose": ["The gate opens. ", "The water runs."],
        "streamed": TEXT,
        "fromStream": TEXT,
    }


def test_ai_sdk_transcribes_with_segments_that_the_model_may_not_know(vercel_seen: Any) -> None:
    for name, segments in {
        "transcript": [],
        "verbose": ["The gate opens. ", "The water runs."],
        "derived": [TEXT],
        "words": ["The", "gate", "opens.", "The", "water", "runs."],
    }.items():
        assert vercel_seen[name] == {"text": TEXT, "segments": segments, "seconds": 2.07}, name


def test_openai_sdk_shows_an_uploaded_image_to_a_model(openai_seen: Any) -> None:
    seen = openai_seen["fileInChat"]
    assert seen["output_text"].startswith("I see 1 media: image image/png 64x48 157 bytes sha256 ")
    assert seen["digest"][:12] in seen["output_text"]
