"""Transcription of the simulator: the words of its own sounds, in all formats."""

import json
from typing import Any

import pytest

from edge.upstreams import Request
from edge.upstreams.simulator.media.films import film
from edge.upstreams.simulator.media.pictures import FORMATS as PICTURES
from edge.upstreams.simulator.media.sounds import FORMATS
from tests.edge.upstreams.simulated import ask, ask_json, events, post, whole
from tests.edge.upstreams.simulator.media.forms import form

TRANSCRIPTIONS = b"/v1/audio/transcriptions"
TEXT = "The gate opens. The water runs!"
WORDS: dict[str, Any] = {"timestamp_granularities[]": ["word"]}
SOUND = FORMATS["wav"][0](TEXT, 3.0)


def heard(
    data: bytes = SOUND, name: str = "said.wav", kind: str | None = "audio/wav", **fields: Any
) -> Request:
    fields = {"model": "sim-ear", **fields}
    return form(TRANSCRIPTIONS, fields, [("file", name, kind, data)])


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "pcm"])
def test_transcript_has_the_words_of_speech_in_every_format(name: str) -> None:
    data = FORMATS[name][0](TEXT, 2.0)
    ending = {"opus": "ogg", "aac": "m4a"}.get(name, name)
    assert ask_json(heard(data, f"a.{ending}", None))["text"] == TEXT


def test_transcript_of_a_film_has_its_words() -> None:
    answer = ask_json(heard(film(TEXT), "a.mp4", response_format="verbose_json"))
    assert (answer["text"], answer["duration"]) == (TEXT, 2.0)


def test_transcript_of_an_unknown_sound_names_its_size_and_digest() -> None:
    text = ask_json(heard(b"\xff\xfb" + bytes(range(256)), "a.mp3"))["text"]
    assert text.startswith("A sound of 258 bytes with the digest ")


def test_transcript_as_json_counts_tokens_or_seconds_or_nothing() -> None:
    usage = ask_json(heard())["usage"]
    assert usage["type"] == "tokens"
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert ask_json(heard(prompt="[[sim usage=duration]]"))["usage"] == {
        "type": "duration",
        "seconds": 3.0,
    }
    assert "usage" not in ask_json(heard(prompt="[[sim usage=none]]"))


def test_verbose_transcript_has_segments_and_words_as_wanted() -> None:
    answer = ask_json(heard(response_format="verbose_json"))
    assert [segment["text"] for segment in answer["segments"]] == [
        "The gate opens. ",
        "The water runs!",
    ]
    assert (answer["segments"][0]["start"], answer["segments"][-1]["end"]) == (0.0, 3.0)
    assert (answer["duration"], answer["usage"]["type"]) == (3.0, "duration")
    assert "words" not in answer
    fields: dict[str, Any] = {
        "timestamp_granularities[]": ["word"],
        "response_format": "verbose_json",
    }
    answer = ask_json(heard(**fields))
    assert [word["word"] for word in answer["words"]] == TEXT.split()
    assert "segments" not in answer


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("text", TEXT + "\n"),
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:01,548\nThe gate opens.\n\n"
            "2\n00:00:01,548 --> 00:00:03,000\nThe water runs!\n\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.548\nThe gate opens.\n\n"
            "00:00:01.548 --> 00:00:03.000\nThe water runs!\n\n",
        ),
    ],
)
def test_transcript_as_text(name: str, body: str) -> None:
    found = ask(heard(response_format=name))
    assert (b"content-type", b"text/plain; charset=utf-8") in found.headers
    assert whole(found).decode() == body


def test_diarized_transcript_names_speakers() -> None:
    fields: dict[str, Any] = {
        "known_speaker_names[]": ["Ann", "Bob"],
        "response_format": "diarized_json",
    }
    answer = ask_json(heard(**fields))
    assert [segment["speaker"] for segment in answer["segments"]] == ["Ann", "Bob"]
    said = events(whole(ask(heard(stream="true", **fields))))
    assert [e["speaker"] for e in said if e != "[DONE]" and "speaker" in e] == ["Ann", "Bob"]


def test_streamed_transcript_has_deltas_usage_and_done() -> None:
    said = events(whole(ask(heard(stream="true"))))
    deltas = [e["delta"] for e in said[:-2]]
    assert "".join(deltas) == TEXT == said[-2]["text"]
    assert said[-2]["usage"] == ask_json(heard())["usage"]
    assert said[-1] == "[DONE]"


def test_silence_gives_an_empty_text() -> None:
    assert ask_json(heard(FORMATS["wav"][0]("", 1.0)))["text"] == ""


def test_translation_is_the_same_text() -> None:
    request = heard(response_format="verbose_json")
    answer = ask_json(sent_to(request, b"/v1/audio/translations"))
    assert (answer["task"], answer["text"]) == ("translate", TEXT)


def sent_to(request: Request, target: bytes) -> Request:
    return Request(request.method, target, request.headers, request.body)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (heard(b""), 400),
        (heard(b"some text"), 400),
        (heard(PICTURES["png"](8, 8, bytes(32), "")), 400),
        (heard(name="said"), 400),
        (heard(name="said.exe"), 400),
        (heard(bytes(26_214_401)), 413),
        (heard(response_format="midi"), 400),
        (heard(**WORDS), 400),
        (
            heard(
                response_format="verbose_json", prompt="[[sim refuse=response_format:verbose_json]]"
            ),
            400,
        ),
        (heard(model=""), 400),
        (form(TRANSCRIPTIONS, {"model": "m"}, []), 400),
        (post(TRANSCRIPTIONS, {"model": "m"}), 415),
    ],
)
def test_transcription_of_a_bad_request_is_refused(request_: Request, status: int) -> None:
    found = ask(request_)
    assert found.status == status
    assert json.loads(whole(found))["error"]["message"]
