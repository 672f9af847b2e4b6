"""`penstock demo --profile multimodal --local`: local models where they can, else simulated."""

import io
import re
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from edge.config import profiles
from tests.e2e.program import DEADLINE, Program

NAME = "multimodal"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("demo")
    program = Program("demo", "--profile", NAME, "--local", "--port", "0", folder=folder)
    try:
        yield program
        assert program.stop(signal.SIGINT) == 0, program.stderr
    finally:
        program.kill()


@pytest.fixture(scope="module")
def client(demo: Program) -> Iterator[httpx.Client]:
    key = re.search(r"A key for you: +(\S+)", demo.stdout)
    assert key
    headers = {"authorization": f"Bearer {key[1]}"}
    with httpx.Client(
        base_url=demo.url, headers=headers, trust_env=False, timeout=DEADLINE
    ) as client:
        yield client


def ask(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    answer = client.post(path, json=body)
    assert answer.status_code < 300, answer.text
    return answer


def test_tour_says_who_answers_and_shows_the_local_model(demo: Program) -> None:
    assert "  anthropic: models on this machine (ANTHROPIC_API_KEY not set)\n" in demo.stdout
    assert "  xai: simulated (XAI_API_KEY not set)\n" in demo.stdout
    shown = demo.stdout.partition("/v1/chat/completions:")[2].partition("Stamped on")[0]
    assert len(shown.split()) > 3
    assert "simulator" not in shown


@pytest.mark.parametrize("model", ["gpt-5.5", "claude-haiku-5-5"])
def test_text_is_by_the_local_model_whatever_the_upstream_speaks(
    client: httpx.Client, model: str
) -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    body = {"model": model, "max_tokens": 30, "temperature": 0, "messages": question}
    chat = ask(client, "/v1/chat/completions", body)
    assert chat.headers["x-model-used"] == model
    messages = ask(client, "/v1/messages", body)
    for text in (
        chat.json()["choices"][0]["message"]["content"],
        messages.json()["content"][0]["text"],
    ):
        assert len(text.split()) > 3, "the model is small, and may say anything"
        assert "You said" not in text


def test_speech_and_its_transcript_are_by_local_models(client: httpx.Client) -> None:
    said = "The gate is open and the water runs."
    body = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": said, "response_format": "wav"}
    sound = ask(client, "/v1/audio/speech", body).content
    assert said.encode() not in sound, "the simulator's sound has its words as text"
    form = {"file": ("speech.wav", io.BytesIO(sound), "audio/wav")}
    heard = client.post("/v1/audio/transcriptions", data={"model": "gpt-transcribe"}, files=form)
    words = re.findall("[a-z]+", heard.json()["text"].lower())
    assert {"gate", "open", "water"} <= set(words), heard.text


def test_words_of_a_picture_are_read_to_the_local_model(client: httpx.Client) -> None:
    """The picture of another profile's tour. What was read is in the input that is counted."""
    (picture,) = re.findall(
        r"data:image/png;base64,[\w+/=]+",
        "".join(one.run for one in profiles.tour("claudin").commands),
    )
    text = {"type": "text", "text": "Repeat the words on the sign."}
    part = {"type": "image_url", "image_url": {"url": picture}}
    used = []
    for content in ([text], [text, part]):
        messages = [{"role": "user", "content": content}]
        body = {"model": "gpt-5.5", "max_tokens": 30, "temperature": 0, "messages": messages}
        answer = ask(client, "/v1/chat/completions", body).json()
        used.append(answer["usage"]["prompt_tokens"])
    assert used[1] > used[0] + 10


def test_what_no_local_model_makes_is_simulated(client: httpx.Client) -> None:
    body = {"model": "gpt-image-2", "prompt": "A mill", "size": "1024x1024"}
    assert ask(client, "/v1/images/generations", body).json()["data"][0]["b64_json"]
    body = {"model": "text-embedding-3-small", "input": "water"}
    assert ask(client, "/v1/embeddings", body).json()["data"][0]["embedding"]
    body = {"model": "grok-imagine-video", "prompt": "Water runs"}
    assert ask(client, "/v1/videos/generations", body).json()["job_id"]
