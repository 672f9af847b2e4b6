"""`penstock demo --local`: speech, transcription, a picture and a film, all on this machine."""

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from edge.cli import main
from tests.e2e.program import Program

SENTENCE = "Penstock opens the gate and the water runs."


def start(folder: Path) -> Program:
    return Program("demo", "--local", "--port", "0", folder=folder)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = start(tmp_path_factory.mktemp("demo"))
    try:
        yield program
    finally:
        assert program.stop(signal.SIGINT) == 0, program.stderr


@pytest.fixture
def client(demo: Program) -> Iterator[openai.OpenAI]:
    key = re.search(r"A key for you: +(\S+)", demo.stdout)
    assert key
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key=key[1], max_retries=0) as client:
        yield client


def shown(demo: Program, start_: str, end: str) -> str:
    """What the demo printed between two of its lines."""
    _, found, rest = demo.stdout.partition(start_)
    assert found, f"{start_!r} is not in\n{demo.stdout}"
    return " ".join(rest.partition(end)[0].split())


def test_tour_speech_is_streamed_and_heard_again(demo: Program) -> None:
    report = shown(demo, f'Speech, by local-voice, streamed:  "{SENTENCE}"', "The same sound")
    assert re.fullmatch(r"[234]\.\d s of sound, the first of it after \d+\.\d s", report)
    assert shown(demo, "again, by local-whisper:", "A PNG") == SENTENCE


def test_tour_picture_becomes_text(demo: Program) -> None:
    text = shown(demo, "as sim-text gets it (text only):", "And what smollm2")
    assert '<media kind="image" number="1" read-by="gateway">' in text
    assert "Gate 7 is closed Call 555-0199" in text
    answer = shown(demo, "which is small and often wrong:", "An MP4")
    assert len(answer.split()) > 3
    assert "error" not in answer


def test_tour_film_becomes_text(demo: Program) -> None:
    text = shown(demo, "two pictures and the sound), as sim-text gets it:", "Try it yourself")
    assert '<media kind="video"' in text
    assert "The gate is shut" in text
    assert "The gate is open" in text
    assert SENTENCE in text


def test_vendor_client_hears_and_speaks(client: openai.OpenAI, tmp_path: Path) -> None:
    file = tmp_path / "speech.mp3"
    with client.audio.speech.with_streaming_response.create(
        model="local-voice", voice="alloy", input="The river is wide today."
    ) as response:
        assert response.headers["content-type"] == "audio/mpeg"
        response.stream_to_file(file)
    with file.open("rb") as spoken:
        heard = client.audio.transcriptions.create(model="local-whisper", file=spoken)
    assert heard.text == "The river is wide today."


def test_without_the_packages_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--local", "--port", "0"])
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert "need rapidocr: pip install 'penstock[media,local-media]'" in printed.err
    assert printed.out == ""
