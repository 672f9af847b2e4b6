"""The multimodal profile: OpenAI's surface with every kind of media, on both kinds of stores.

Clients are OpenAI's SDKs for Python and Node.js, curl and plain HTTP. The providers are simulated.
Each test has a key of its own, so its files, rates and requests are its own too.
"""

import asyncio
import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import openai
import pytest
from pydantic import BaseModel

from edge.upstreams.simulator.media.films import film_words
from edge.upstreams.simulator.media.pictures import png
from edge.upstreams.simulator.media.sounds import words_of
from middlewares.pricing import nano
from tests.clients.programs import node
from tests.e2e.curl import curl
from tests.e2e.ledger import rows
from tests.e2e.program import DEADLINE, Gateway, Program, until

from .multimodal_user import (
    CHAT,
    SPOKEN,
    VOICE,
    User,
    announced,
    data_url,
    digest,
    image,
    text,
    user_of,
)
from .pipelining import pipelined
from .system import Stores, client_from, document_of, pointed_at, serve_profile

PROFILE = "multimodal"
CHANGES = {"server": {"ops_networks": ["127.0.0.1/32"]}}
"""Other addresses of loopback are those of strangers, whose health checks count too."""
GPT, CLAUDE = "gpt-5.5", "claude-sonnet-5-5"
BOTH = pytest.mark.parametrize("model", [GPT, CLAUDE])
"""A model at an upstream of each dialect."""
PAINTER, LINKING_PAINTER = "gpt-image-2", "grok-imagine-image"
EAR, EMBEDDER = "gpt-transcribe", "text-embedding-3-small"
FILM, SONG = "grok-imagine-video", "music_v1"
HEAR = "/v1/audio/transcriptions"
PICTURE = png(16, 16, bytes(32), "a gate")
PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\n" + bytes(range(256)) * 8
SEE = "What is it? [[sim see]]"
"""A question that the simulated model answers with what it saw."""
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}


class Weather(BaseModel):
    """A structured answer."""

    city: str
    days: int


@pytest.fixture
def user(gateway: Gateway) -> Iterator[User]:
    one = user_of(gateway)
    with one.http, one.sdk:
        yield one


@pytest.fixture(scope="module")
def without_openai(
    other_stores: Stores, simulator: Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """The profile while OpenAI answers nothing but errors."""
    folder = tmp_path_factory.mktemp("failing")
    upstreams = [
        pointed_at(simulator.url, upstream, folder)
        for upstream in document_of(PROFILE)["upstreams"]
    ]
    for upstream in upstreams:
        if upstream["name"] == "openai":
            upstream["headers"] = {"x-sim": "fault=status:503"}
    changes = {"upstreams": upstreams, "breaker": {"min_failures": 10**6}}
    program = serve_profile(PROFILE, folder, simulator, other_stores, changes=changes)
    try:
        yield program
        assert program.stop() == 0, program.stderr
    finally:
        program.kill()


@pytest.fixture
def unlucky(without_openai: Gateway) -> Iterator[User]:
    """A caller while OpenAI fails."""
    one = user_of(without_openai)
    with one.http, one.sdk:
        yield one


# The surface


def test_openai_sdk_needs_only_the_base_url_and_a_key(user: User) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    answer = user.sdk.chat.completions.create(model=GPT, messages=messages)
    assert str(answer.choices[0].message.content).startswith("You said: Hello")
    for given in ("", "Bearer sk-multimodal-live-" + "0" * 43):
        refused = user.http.get("/v1/models", headers={"authorization": given})
        assert refused.status_code == 401, given
        assert refused.json()["error"]["type"] == "authentication_error"


def test_every_endpoint_is_below_v1(user: User) -> None:
    paths = {
        CHAT: {"model": GPT, "messages": [{"role": "user", "content": "Hello"}]},
        "/v1/embeddings": {"model": EMBEDDER, "input": "Hello"},
        "/v1/images/generations": {"model": PAINTER, "prompt": "a gate", "size": "64x64"},
        "/v1/audio/speech": {"model": VOICE, "voice": "alloy", "input": "Hello"},
        "/v1/audio/transcriptions": {
            "model": EAR,
            "file": base64.b64encode(user.spoken()).decode(),
        },
        "/v1/videos/generations": {"model": FILM, "prompt": "A wheel", "seconds": 4},
        "/v1/music/generations": {"model": SONG, "prompt": "A wheel", "seconds": 4},
    }
    for path, body in paths.items():
        assert user.http.post(path, json=body).status_code in (200, 202), path
        assert user.http.post(path.removeprefix("/v1"), json=body).status_code == 404, path
    for path in ("/v1/files", "/v1/models"):
        assert user.http.get(path).status_code == 200, path
        assert user.http.get(path.removeprefix("/v1")).status_code == 404, path


def test_curl_reaches_every_endpoint(gateway: Gateway, tmp_path: Path) -> None:
    def sent(path: str, body: Any) -> bytes:
        given = ("-H", "content-type: application/json", "-d", json.dumps(body))
        status, answer = curl(gateway, tmp_path, path, *given)
        assert status in (200, 202), answer
        return answer

    chat = {"model": GPT, "messages": [{"role": "user", "content": "Hello"}]}
    assert b"You said: Hello" in sent("/chat/completions", chat)
    assert sent("/chat/completions", {**chat, "stream": True}).endswith(b"data: [DONE]\n\n")
    assert json.loads(sent("/embeddings", {"model": EMBEDDER, "input": "a"}))["data"]
    drawn = sent("/images/generations", {"model": PAINTER, "prompt": "a gate", "size": "64x64"})
    drawn = base64.b64decode(json.loads(drawn)["data"][0]["b64_json"])
    said = {"model": VOICE, "voice": "alloy", "input": SPOKEN, "response_format": "wav"}
    (tmp_path / "said.wav").write_bytes(sent("/audio/speech", said))
    (tmp_path / "gate.png").write_bytes(drawn)
    for path, fields, member in (
        ("/audio/transcriptions", ("file=@said.wav", f"model={EAR}"), "text"),
        ("/images/edits", ("image=@gate.png", f"model={PAINTER}", "prompt=bluer"), "data"),
        ("/files", ("file=@gate.png", "purpose=vision"), "id"),
    ):
        form = [word for field in fields for word in ("-F", field)]
        status, answer = curl(gateway, tmp_path, path, *form)
        assert status == 200 and json.loads(answer)[member], answer
    for path, model in (("/videos/generations", FILM), ("/music/generations", SONG)):
        assert json.loads(sent(path, {"model": model, "prompt": "A wheel"}))["job_id"]
    assert curl(gateway, tmp_path, "/models")[0] == 200


def test_node_sdk_chats_streams_and_calls_tools(embedded: Gateway, tmp_path: Path) -> None:
    key = embedded.new_key("node", plan="400-per-minute")
    seen = node("openai-chat.mjs", tmp_path, GATEWAY=embedded.url, KEY=key, MODEL=CLAUDE)
    assert seen["plain"]["text"].startswith("You said: Hello from Node")
    assert seen["streamed"] == seen["plain"]
    assert seen["toolsStreamed"] == seen["tools"]
    assert seen["tools"]["called"]["calls"] == [["weather", {"city": "sample", "days": 3}]] * 2


def test_node_sdk_makes_media_and_keeps_files(embedded: Gateway, tmp_path: Path) -> None:
    key = embedded.new_key("node", plan="400-per-minute")
    named = {"PAINTER": PAINTER, "VOICE": VOICE, "EAR": EAR, "FILM": FILM, "MODEL": GPT}
    seen = node("openai-media.mjs", tmp_path, GATEWAY=embedded.url, KEY=key, **named)
    assert seen["images"] == [["PNG", 64, 48]] * 2
    assert seen["edits"]["one"].startswith("A gate (1 images: image/png 64x48 ")
    assert seen["speech"]["mp3"][0] == "audio/mpeg"
    assert seen["transcripts"]["json"] == seen["transcripts"]["fromStream"] == SPOKEN
    assert seen["files"]["same"] and seen["files"]["gone"] == 404
    assert seen["fileInChat"]["output_text"].startswith("I see 1 media: image image/png 64x48 ")
    assert (seen["video"]["status"], seen["video"]["magic"]) == ("completed", "ftyp")


# Chat completions


@BOTH
def test_chat_says_the_same_streamed_and_unstreamed(user: User, model: str) -> None:
    messages: Any = [{"role": "user", "content": "Hello, naïve café ☕"}]
    plain = user.sdk.chat.completions.create(model=model, messages=messages)
    stream = user.sdk.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == plain.choices[0].message.content
    assert said.startswith("You said: Hello, naïve café ☕")
    assert chunks[-1].usage == plain.usage
    assert {chunk.model for chunk in chunks} == {plain.model} == {model}


@BOTH
@pytest.mark.parametrize("stream", [False, True])
def test_tool_call_is_answered_after_its_result(user: User, model: str, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather? [[sim tools=1]]"}]

    def asked() -> Any:
        given = {"model": model, "messages": messages, "tools": [TOOL]}
        if not stream:
            return user.sdk.chat.completions.create(**given).choices[0]
        with user.sdk.chat.completions.stream(**given) as events:
            return events.get_final_completion().choices[0]

    choice = asked()
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "weather"
    assert Weather.model_validate_json(call.function.arguments).city
    function = {"name": call.function.name, "arguments": call.function.arguments}
    called = {"id": call.id, "type": "function", "function": function}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": call.id, "content": "three days of sun"},
    ]
    choice = asked()
    assert choice.finish_reason == "stop"
    assert choice.message.content.startswith("The tool returned: three days of sun")


@BOTH
def test_json_mode_answers_an_object(user: User, model: str) -> None:
    asked = "The weather of a week, in JSON"
    found = user.said(model, asked, response_format={"type": "json_object"})
    assert isinstance(json.loads(found), dict)
    streamed = user.chat(model, asked, response_format={"type": "json_object"}, stream=True)
    events = [json.loads(one) for one in re.findall(r"^data: (\{.*)$", streamed.text, re.MULTILINE)]
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == found


@BOTH
def test_json_mode_with_a_schema_answers_what_fits_it(user: User, model: str) -> None:
    made = user.sdk.chat.completions.parse(
        model=model,
        messages=[{"role": "user", "content": "The weather"}],
        response_format=Weather,
    )
    assert isinstance(made.choices[0].message.parsed, Weather)


@BOTH
def test_vision_sees_a_data_url_and_a_link(user: User, model: str) -> None:
    seen = user.said(model, text(SEE), image(data_url("image/png", PICTURE)))
    assert seen.startswith(f"I see 1 media: image image/png 16x16 {digest(PICTURE)}.")
    seen = user.said(model, text(SEE), image("https://example.com/gate.png"))
    assert seen.startswith("I see 1 media: image at https://example.com/gate.png.")


@BOTH
def test_content_blocks_of_several_kinds_arrive_in_their_order(user: User, model: str) -> None:
    document = {"filename": "gate.pdf", "file_data": data_url("application/pdf", PDF)}
    seen = user.said(
        model,
        text("First this"),
        image(data_url("image/png", PICTURE)),
        text("then that"),
        {"type": "file", "file": document},
        text(SEE),
    )
    assert seen.startswith("I see 2 media: ")
    assert seen.index(digest(PICTURE)) < seen.index(f"application/pdf {digest(PDF)}")
    assert all(words in seen for words in ("First this", "then that", "What is it?"))


# Embeddings


def test_embeddings_are_one_for_each_input_in_both_encodings(user: User) -> None:
    given = ["a gate", "water", "a gate"]
    made = user.sdk.embeddings.create(model=EMBEDDER, input=given)  # asks for base64
    assert [each.index for each in made.data] == [0, 1, 2]
    assert made.data[0].embedding == made.data[2].embedding != made.data[1].embedding
    floats = user.sdk.embeddings.create(model=EMBEDDER, input=given, encoding_format="float")
    assert floats.data[1].embedding == pytest.approx(made.data[1].embedding, abs=1e-6)
    short = user.sdk.embeddings.create(model=EMBEDDER, input="a gate", dimensions=64)
    assert len(short.data[0].embedding) == 64 and short.usage.prompt_tokens > 0


# Images


@pytest.mark.parametrize("model", [PAINTER, LINKING_PAINTER])
def test_images_are_generated_and_edited(user: User, model: str) -> None:
    made = user.sdk.images.generate(model=model, prompt="a gate", n=2, size="1024x1024")
    assert made.data is not None and len(made.data) == 2
    drawn = base64.b64decode(made.data[0].b64_json or "")
    assert drawn.startswith(b"\x89PNG")
    edited = user.sdk.images.edit(
        model=model,
        prompt="bluer",
        image=[("a.png", drawn, "image/png"), ("b.png", PICTURE, "image/png")],
        mask=("mask.png", PICTURE, "image/png"),
    )
    assert edited.data is not None and edited.data[0].b64_json
    revised = str(edited.data[0].revised_prompt)
    assert revised.startswith(f"bluer (2 images: image/png 1024x1024 {len(drawn)} bytes ")
    assert "; mask: image/png 16x16 " in revised


@pytest.mark.parametrize("path", ["generations", "edits"])
def test_image_url_is_the_link_of_the_provider(user: User, simulator: Program, path: str) -> None:
    given = {"model": LINKING_PAINTER, "prompt": "a gate", "response_format": "url"}
    if path == "edits":
        files = {"image": ("a.png", PICTURE, "image/png")}
        answer = user.http.post("/v1/images/edits", data=given, files=files)
    else:
        answer = user.http.post("/v1/images/generations", json=given)
    (made,) = answer.json()["data"]
    assert "b64_json" not in made
    assert made["url"].startswith(f"{simulator.url}/")
    assert httpx.get(made["url"], trust_env=False).content.startswith(b"\x89PNG")


def test_image_url_of_a_provider_without_links_ends_after_an_hour(user: User) -> None:
    made = user.sdk.images.generate(model=PAINTER, prompt="a gate", response_format="url")
    assert made.data is not None
    url = str(made.data[0].url)
    assert url.startswith(f"{user.gateway.url}/v1/links/")
    assert httpx.get(url, trust_env=False).content.startswith(b"\x89PNG")
    left = int(parse_qs(urlsplit(url).query)["exp"][0]) - time.time()
    assert 3600 - DEADLINE < left <= 3601


def test_base64_image_uploaded_as_a_file_stays(user: User) -> None:
    made = user.sdk.images.generate(model=PAINTER, prompt="a gate", response_format="b64_json")
    assert made.data is not None
    drawn = base64.b64decode(made.data[0].b64_json or "")
    kept = user.sdk.files.create(file=("gate.png", drawn, "image/png"), purpose="vision")
    assert kept.expires_at is None
    content = user.http.get(f"/v1/files/{kept.id}/content")
    assert content.content == drawn
    assert content.headers["content-type"] == "image/png"


# Audio


def test_speech_is_audio_in_the_requested_format(user: User) -> None:
    for form, magic in {"mp3": b"ID3", "wav": b"RIFF", "opus": b"OggS", "flac": b"fLaC"}.items():
        made = user.sdk.audio.speech.create(
            model=VOICE,
            voice="alloy",
            input=SPOKEN,
            response_format=form,  # type: ignore[arg-type]
        )
        assert made.content.startswith(magic), form
        assert words_of(made.content) == SPOKEN


def test_transcription_takes_a_form(user: User) -> None:
    heard = user.sdk.audio.transcriptions.create(model=EAR, file=("said.wav", user.spoken()))
    assert heard.text == SPOKEN


@pytest.mark.parametrize("member", ["file", "audio"])
def test_transcription_takes_json_with_base64(user: User, member: str) -> None:
    spoken = user.spoken()
    for written in (base64.b64encode(spoken).decode(), data_url("audio/wav", spoken)):
        answer = user.http.post(HEAR, json={"model": EAR, member: written})
        assert answer.status_code == 200, answer.text
        assert answer.json()["text"] == SPOKEN


@pytest.mark.parametrize("model", ["claude-opus-5-5", CLAUDE, "claude-haiku-5-5"])
@pytest.mark.parametrize("stream", [False, True])
def test_audio_to_a_claude_model_is_refused(user: User, model: str, stream: bool) -> None:
    spoken = user.spoken()
    said = {"data": base64.b64encode(spoken).decode(), "format": "wav"}
    uploaded = user.upload("said.wav", spoken)
    for part in (
        {"type": "input_audio", "input_audio": said},
        {"type": "file", "file": {"file_id": uploaded}},
    ):
        answer = user.chat(model, text("What is said?"), part, stream=stream)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "audio_not_supported_by_model")
        assert error["type"] == "invalid_request_error"
        assert error["param"] == "messages[0].content[1]"
        assert "x-fallback-from" not in answer.headers
        assert "x-credits-used" not in answer.headers
    heard = user.said("gpt-audio-mini", text(SEE), {"type": "input_audio", "input_audio": said})
    assert digest(spoken) in heard, "a model that hears gets it"


def test_audio_to_a_claude_model_in_an_answered_turn_is_a_note(user: User) -> None:
    said = {"data": base64.b64encode(user.spoken()).decode(), "format": "wav"}
    turns = [
        {"role": "user", "content": [{"type": "input_audio", "input_audio": said}]},
        {"role": "assistant", "content": "The gate opens."},
        {"role": "user", "content": SEE},
    ]
    answer = user.http.post(CHAT, json={"model": CLAUDE, "messages": turns})
    assert answer.status_code == 200, answer.text
    assert "I see no media." in answer.text


def test_audio_is_transcribed_first_and_its_text_passed_to_claude(user: User) -> None:
    heard = user.sdk.audio.transcriptions.create(model=EAR, file=("said.wav", user.spoken()))
    answer = user.sdk.chat.completions.create(
        model=CLAUDE, messages=[{"role": "user", "content": heard.text}]
    )
    assert str(answer.choices[0].message.content).startswith(f"You said: {SPOKEN}")


# Files


def test_files_are_uploaded_listed_retrieved_downloaded_and_deleted(user: User) -> None:
    data = bytes(range(256)) * 300
    made = user.sdk.files.create(file=("naïve café.bin", data), purpose="user_data")
    other = user.upload("other.txt", b"words")
    assert (made.bytes, made.filename, made.status) == (len(data), "naïve café.bin", "processed")
    assert [each.id for each in user.sdk.files.list()] == [other, made.id]
    assert user.sdk.files.retrieve(made.id) == made
    assert user.sdk.files.content(made.id).content == data
    assert user.sdk.files.delete(made.id).deleted
    assert [each.id for each in user.sdk.files.list()] == [other]
    for gone in (user.sdk.files.retrieve, user.sdk.files.content, user.sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            gone(made.id)
    stranger = user_of(user.gateway)
    with stranger.http, stranger.sdk, pytest.raises(openai.NotFoundError):
        stranger.sdk.files.content(other)


@BOTH
def test_file_id_in_a_content_block_reaches_the_model(user: User, model: str) -> None:
    picture, document = user.upload("gate.png", PICTURE), user.upload("gate.pdf", PDF)
    for id_, seen in (
        (picture, f"image image/png 16x16 {digest(PICTURE)}"),
        (document, f"document application/pdf {digest(PDF)}"),
    ):
        image_part = {"type": "image_url", "image_url": {"file_id": id_}}
        for part in (
            {"type": "file", "file": {"file_id": id_}},
            {"type": "file", "file_id": id_},
            {"type": "input_file", "file_id": id_},
            *((image_part, {"type": "input_image", "file_id": id_}) if id_ == picture else ()),
        ):
            said = user.said(model, text(SEE), part)
            assert said.startswith(f"I see 1 media: {seen}."), part
    missing = user.chat(model, text(SEE), {"type": "file", "file": {"file_id": "file-none"}})
    assert missing.status_code == 404
    assert missing.json()["error"]["param"] == "messages[0].content[1].file.file_id"


def test_files_say_the_storage_that_is_used_and_its_limit(gateway: Gateway) -> None:
    user = user_of(gateway, limits={"storage": "100KB"})

    def sent(method: str, path: str, used: int, status: int = 200, **more: Any) -> httpx.Response:
        answer = user.http.request(method, path, **more)
        assert answer.status_code == status, answer.text
        assert answer.headers["x-storage-used-bytes"] == str(used), (method, path)
        assert answer.headers["x-storage-limit-bytes"] == "100000"
        return answer

    def form(size: int) -> dict[str, Any]:
        return {"data": {"purpose": "user_data"}, "files": {"file": ("a.bin", bytes(size))}}

    with user.http, user.sdk:
        sent("GET", "/v1/files", 0)
        id_ = sent("POST", "/v1/files", 60_000, **form(60_000)).json()["id"]
        for method, path in (
            ("GET", "/v1/files"),
            ("HEAD", "/v1/files"),
            ("GET", f"/v1/files/{id_}"),
            ("GET", f"/v1/files/{id_}/content"),
            ("HEAD", f"/v1/files/{id_}/content"),
        ):
            sent(method, path, 60_000)
        sent("GET", "/v1/files/file-none", 60_000, 404)
        sent("POST", "/v1/files", 60_000, 400, **form(0))
        full = sent("POST", "/v1/files", 60_000, 413, **form(60_000))
        assert full.json()["error"]["code"] == "storage_limit_exceeded"
        second = sent("POST", "/v1/files", 90_000, **form(30_000)).json()["id"]
        sent("DELETE", f"/v1/files/{id_}", 30_000)
        sent("DELETE", f"/v1/files/{second}", 0)
        sent("GET", "/v1/files", 0)


# Jobs


@pytest.mark.parametrize(("kind", "model"), [("videos", FILM), ("music", SONG)])
def test_job_is_polled_by_its_id_until_it_succeeded(user: User, kind: str, model: str) -> None:
    path = f"/v1/{kind}/generations"
    body = {"model": model, "prompt": "A wheel turns", "seconds": 4}
    made = user.http.post(path, json=body)
    assert made.status_code == 202
    assert made.json()["status"] == "queued"
    job_id = made.json()["job_id"]

    def ended() -> dict[str, Any] | None:
        time.sleep(0.2)  # the polls of a key have a rate
        answer = user.http.get(f"{path}/{job_id}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        assert shown["status"] in ("queued", "running", "succeeded"), shown
        return shown if shown["status"] == "succeeded" else None

    job = until(ended, what="the end of the job")
    content = user.http.get(f"{path}/{job_id}/content")
    assert content.status_code == 200
    if kind == "videos":
        assert content.headers["content-type"] == "video/mp4"
        assert str(film_words(content.content)).startswith("A wheel turns (4 s")
    else:
        assert content.headers["content-type"].startswith("audio/")
        assert words_of(content.content) == "A wheel turns"
    price = {"videos": "0.2", "music": "0.04"}[kind]
    assert nano(job["usage"]["cost"]) == nano(price)
    bill = user.http.get(f"/v1/requests/{made.headers['x-request-id']}").json()
    assert nano(bill["credits"]) == nano(price)
    with user_of(user.gateway).http as stranger:
        assert stranger.get(f"{path}/{job_id}").status_code == 404


# Headers


def test_every_response_has_the_id_of_its_log_line(
    user: User, unlucky: User, new_address: str
) -> None:
    http, key = user.http, user.key
    hello = {"model": GPT, "messages": [{"role": "user", "content": "Hello"}]}
    slow = user_of(user.gateway, limits={"requests": "1/h"})
    small = user_of(user.gateway, limits={"storage": "10"})
    job = http.post("/v1/videos/generations", json={"model": FILM, "prompt": "A wheel"})
    file = http.post("/v1/files", data={"purpose": "vision"}, files={"file": ("a.png", PICTURE)})
    content = f"/v1/files/{file.json()['id']}/content"
    answers = {202: [job], 200: [file]}

    def add(status: int, answer: httpx.Response) -> None:
        assert answer.status_code == status, (answer.request.url, answer.text)
        answers.setdefault(status, []).append(answer)

    public = client_from(user.gateway, new_address)
    public.headers.update(http.headers)
    with slow.http, small.http, slow.sdk, small.sdk, public:
        for path in ("/health", "/healthz", "/", "/v1/models"):
            add(200, public.get(path))
            add(200, public.head(path))
        for path in ("/livez", "/readyz", "/metrics"):
            add(404, public.get(path))
        for path in (f"/v1/models/{GPT}", "/v1/limits", "/v1/usage", "/v1/files", content):
            add(200, http.get(path))
        add(206, http.get(content, headers={"range": "bytes=0-1"}))
        add(303, http.get("/app"))
        for body in (hello, {**hello, "stream": True}, {**hello, "model": CLAUDE, "stream": True}):
            add(200, http.post(CHAT, json=body))
        add(200, http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "a"}))
        speech = {"model": VOICE, "voice": "alloy", "input": "a"}
        add(200, http.post("/v1/audio/speech", json=speech))
        add(200, http.get(f"/v1/videos/generations/{job.json()['job_id']}"))
        add(200, http.delete(f"/v1/files/{file.json()['id']}"))
        add(400, http.post(CHAT, content=b"{", headers={"content-type": "application/json"}))
        add(415, http.post(CHAT, content=b"{"))
        add(400, http.post(CHAT, json={**hello, "messages": []}))
        add(400, http.post(CHAT, json={**hello, "stream": True, "max_tokens": -1}))
        add(401, http.get("/v1/models", headers={"authorization": ""}))
        add(401, http.get("/v1/files", headers={"authorization": "Bearer sk-none"}))
        add(401, http.get("/admin/v1/keys"))
        add(403, http.get("/v1/nowhere"))
        add(403, http.post("/v1/fine_tuning/jobs", json={}))
        for path in ("/nowhere", "/v1/models/none", "/v1/files/none", "/v1/requests/none"):
            add(404, http.get(path))
        add(404, http.head("/nowhere"))
        add(404, http.get("/v1/videos/generations/none"))
        add(404, http.post(CHAT, json={**hello, "model": "none"}))
        add(405, http.put("/v1/models"))
        add(405, http.get(CHAT))
        add(413, small.http.post("/v1/files", files={"file": ("a.png", PICTURE)}))
        add(413, announced(user, CHAT, 1 << 30))
        add(415, http.post(HEAR, content=b"a", headers={"content-type": "text/plain"}))
        add(200, slow.http.get("/v1/models"))
        add(429, slow.http.get("/v1/models"))
        failing = {**hello, "messages": [{"role": "user", "content": "[[sim fault=status:500]]"}]}
        add(502, http.post(CHAT, json=failing))
        add(502, http.post(CHAT, json={**failing, "stream": True}))
        add(503, unlucky.http.post("/v1/audio/speech", json=speech))
    ids = [answer.headers["x-request-id"] for each in answers.values() for answer in each]
    assert len(set(ids)) == len(ids)
    assert all(str(UUID(one)) == one for one in ids)

    def logged() -> dict[str, int] | None:
        lines = [*user.gateway.log, *unlucky.gateway.log]
        found = {line["request_id"]: line["status"] for line in lines if "outcome" in line}
        return found if found.keys() >= set(ids) else None

    found = until(logged, what="a log line for each id")
    for status, each in answers.items():
        assert {found[answer.headers["x-request-id"]] for answer in each} == {status}
    assert key not in user.gateway.stderr


def test_request_id_finds_the_request_of_a_support_ticket(user: User) -> None:
    answer = user.chat(GPT, "Hello [[sim fault=status:500]]")
    ticket = answer.headers["x-request-id"]
    line = user.gateway.request_line(ticket)
    assert (line["path"], line["status"], line["key_name"]) == (CHAT, 502, "user")
    assert line["reason"], "the operator reads why"
    found = user.http.get(f"/v1/requests/{ticket}")
    assert found.status_code == 200, found.text
    assert [tried["model"] for tried in found.json()["path"]] == [
        *(GPT, "gpt-5.4-mini", "claude-haiku-5-5"),
    ]


def test_credits_of_every_answer_are_those_of_the_ledger(user: User) -> None:
    hello = {"model": GPT, "messages": [{"role": "user", "content": "Hello"}]}
    spoken = user.spoken()
    answers = [
        user.http.post(CHAT, json=hello),
        user.http.post(CHAT, json={**hello, "model": CLAUDE}),
        user.http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "Hello there"}),
        user.http.post("/v1/images/generations", json={"model": PAINTER, "prompt": "a gate"}),
        user.http.post(
            "/v1/images/edits",
            data={"model": LINKING_PAINTER, "prompt": "bluer"},
            files={"image": ("a.png", PICTURE, "image/png")},
        ),
        user.http.post(
            "/v1/audio/speech", json={"model": VOICE, "voice": "alloy", "input": SPOKEN}
        ),
        user.http.post(
            "/v1/audio/transcriptions", data={"model": EAR}, files={"file": ("a.wav", spoken)}
        ),
    ]
    costs = {each.headers["x-request-id"]: nano(each.headers["x-credits-used"]) for each in answers}
    for model in (GPT, CLAUDE):
        stream = user.http.post(CHAT, json={**hello, "model": model, "stream": True})
        assert "x-credits-used" not in stream.headers
        comments = re.findall(
            r"^: x-credits-used (\S+)\ndata: \[DONE\]$", stream.text, re.MULTILINE
        )
        costs[stream.headers["x-request-id"]] = nano(*comments)
    assert all(cost > 0 for cost in costs.values())

    def charged() -> dict[str, int] | None:
        found = {row.id: row.cost for row in asyncio.run(rows(user.gateway.sql))}
        return found if found.keys() >= costs.keys() else None

    ledger = until(charged, what="the rows of the ledger")
    assert {id_: ledger[id_] for id_ in costs} == costs
    for id_, cost in costs.items():
        assert nano(user.http.get(f"/v1/requests/{id_}").json()["credits"]) == cost
    plain, streamed = (list(costs)[n] for n in (0, -2))
    assert costs[plain] == costs[streamed], "the same answer costs the same"


@pytest.mark.parametrize(
    ("model", "served", "depth"),
    [
        ("gpt-5.4-mini", "claude-haiku-5-5", "1"),
        (GPT, "claude-haiku-5-5", "2"),
        (CLAUDE, CLAUDE, None),
    ],
)
def test_fallback_says_who_served_and_how_many_were_tried(
    unlucky: User, model: str, served: str, depth: str | None
) -> None:
    for stream in (False, True):
        answer = unlucky.chat(model, "Hello", stream=stream)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-model-used"] == served
        assert answer.headers.get("x-fallback-depth") == depth
        assert answer.headers.get("x-fallback-from") == (model if depth else None)


def test_fallback_serves_images_too(unlucky: User) -> None:
    body = {"model": PAINTER, "prompt": "a gate"}
    answer = unlucky.http.post("/v1/images/generations", json=body)
    assert answer.status_code == 200
    assert answer.headers["x-model-used"] == LINKING_PAINTER
    assert answer.headers["x-fallback-from"] == PAINTER
    assert answer.headers["x-fallback-depth"] == "1"


def test_without_fallback_the_model_served_is_the_one_asked_for(user: User) -> None:
    for model in (GPT, CLAUDE, f"multimodal/{GPT}"):
        for stream in (False, True):
            answer = user.chat(model, "Hello", stream=stream)
            assert answer.headers["x-model-used"] == model.rpartition("/")[2]
            assert not {"x-fallback-from", "x-fallback-depth"} & answer.headers.keys()


# Models


def test_models_are_listed_with_what_they_take_make_and_cost(user: User) -> None:
    listed = {model["id"]: model for model in user.http.get("/v1/models").json()["data"]}
    assert [model.id for model in user.sdk.models.list()] == list(listed)
    assert set(listed) >= {GPT, CLAUDE, EMBEDDER, PAINTER, VOICE, EAR, FILM, SONG}
    assert "audio" not in listed[CLAUDE]["modalities"]["input"]
    assert listed[PAINTER]["modalities"]["output"] == ["image"]
    assert all(model["price"] for model in listed.values())
    assert user.sdk.models.retrieve(CLAUDE).id == CLAUDE


# Rates


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"plan": "30-per-minute"}, 30),
        ({"plan": "400-per-minute"}, 400),
        ({"plan": "400-per-minute", "limits": {"requests": "7/min"}}, 7),
    ],
)
def test_key_has_the_rate_of_its_plan_or_its_own(
    gateway: Gateway, fields: dict[str, Any], limit: int
) -> None:
    user = user_of(gateway, **fields)
    begun = time.monotonic()
    statuses: list[int] = []
    with user.http as http:
        while (answer := http.get("/v1/models")).status_code == 200:
            assert answer.headers["x-ratelimit-limit"] == str(limit)
            paths = ["/v1/models"] * 50  # at once: faster than what is refilled meanwhile
            statuses += [200, *pipelined(gateway.url, "127.0.0.1", paths, user.key)]
        refilled = (time.monotonic() - begun) * limit / 60
        assert set(statuses) == {200, 429}
        assert limit <= statuses.count(200) <= limit + refilled + 1
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answer.headers["retry-after"]) >= 1
    with user_of(gateway).http as other:
        assert other.get("/v1/models").status_code == 200, "the rate is the key's alone"


def test_address_may_send_5000_requests_in_ten_minutes(gateway: Gateway, new_address: str) -> None:
    paths = ("/health", "/livez", "/nowhere", "/v1/models", "/v1/nowhere", "/favicon.ico")
    begun = time.monotonic()
    statuses: list[int] = []
    while 429 not in statuses:
        assert len(statuses) < 100_000
        wanted = [paths[n % len(paths)] for n in range(len(statuses), len(statuses) + 500)]
        statuses += pipelined(gateway.url, new_address, wanted)
    refilled = (time.monotonic() - begun) * 5000 / 600
    passed = statuses.index(429)
    assert 5000 <= passed <= 5000 + refilled + 1
    with client_from(gateway, new_address) as client:
        while (refused := client.get("/nowhere/else")).status_code == 404:
            pass  # one more is free every 120 ms
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert UUID(refused.headers["x-request-id"])
    assert gateway.get("/health").status_code == 200, "another address is free"
