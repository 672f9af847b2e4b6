"""File ids and links in conversations, on the real server: inline, at the vendor, fetched."""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.upstreams.simulator.media.pictures import png
from edge.upstreams.simulator.media.sounds import wav

from .conftest import SECRETS, UPSTREAM_KEY
from .program import DEADLINE, Gateway, Program, stats, until

DIALECTS = ("openai", "responses", "anthropic")
PATHS = {
    "openai": "/v1/chat/completions",
    "responses": "/v1/responses",
    "anthropic": "/v1/messages",
}
PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\n" + bytes(range(256)) * 8
"""Bytes that the simulator takes for a PDF."""


def picture(words: str, width: int, height: int) -> bytes:
    """A PNG that no other words make."""
    return png(width, height, sha256(words.encode()).digest(), words)


PIXEL = f"data:image/png;base64,{b64encode(picture('pixel', 8, 8)).decode()}"


class FileServer:
    """A web server on loopback. asked: paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.contents: dict[str, bytes] = {}
        asked, contents = self.asked, self.contents

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                content = contents.get(self.path.partition("?")[0])
                self.send_response(200 if content is not None else 404)
                self.send_header("content-length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def web() -> Iterator[FileServer]:
    server = FileServer()
    server.contents["/a.png"] = picture("a fetched picture", 32, 24)
    server.contents["/a.pdf"] = PDF
    yield server
    server.close()


@pytest.fixture(scope="module")
def eyes(
    tmp_path_factory: pytest.TempPathFactory, simulator: Program, web: FileServer
) -> Iterator[Gateway]:
    """A gateway whose models say which media they see. By name and dialect: `inline`, at an
    upstream without files; `kept`, with files; `closed`, one that fetches no links."""
    upstreams, models = [], []
    kinds: dict[str, dict[str, Any]] = {
        "inline": {},
        "kept": {"files": True},
        "closed": {"fetches_urls": False},
    }
    for kind, options in kinds.items():
        for dialect in DIALECTS:
            name = f"{kind}-{dialect}"
            upstreams.append(
                {
                    "name": name,
                    "dialect": dialect,
                    "base_url": f"{simulator.url}/v1",
                    "api_key": "env:UPSTREAM_KEY",
                    **options,
                }
            )
            models.append({"id": name, "targets": [f"{name}/sim-eye"]})
    models.append({"id": "media", "targets": ["inline-openai/sim-media"]})
    document = {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": upstreams,
        "models": models,
        "files": {"sweep_interval": "1s"},
        "fetch": {"allow_http": True, "ports": [web.port], "allowed_networks": ["127.0.0.0/8"]},
    }
    program = Gateway(tmp_path_factory.mktemp("eyes"), document, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


def upload(gateway: Gateway, name: str, content: bytes, key: str = "") -> str:
    """The id of a new file."""
    made = httpx.post(
        f"{gateway.url}/v1/files",
        files={"file": (name, content)},
        data={"purpose": "user_data"},
        headers={"authorization": f"Bearer {key or gateway.key}"},
        timeout=DEADLINE,
        trust_env=False,
    )
    assert made.status_code == 200, made.text
    found: str = made.json()["id"]
    return found


def body_of(dialect: str, model: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    said = {"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}
    if dialect == "responses":
        said["content"][0]["type"] = "input_text"  # type: ignore[index]
        return {"model": model, "input": [said], **more}
    if dialect == "anthropic":
        return {"model": model, "messages": [said], "max_tokens": 500, **more}
    return {"model": model, "messages": [said], **more}


def named(dialect: str, file_id: str, *, image: bool) -> dict[str, Any]:
    """A part with a file by its id."""
    if dialect == "responses":
        return {"type": "input_image" if image else "input_file", "file_id": file_id}
    if dialect == "anthropic":
        source = {"type": "file", "file_id": file_id}
        return {"type": "image" if image else "document", "source": source}
    return {"type": "file", "file": {"file_id": file_id}}


def ask(gateway: Gateway, dialect: str, body: dict[str, Any], key: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {key or gateway.key}"}
    url = gateway.url + PATHS[dialect]
    return httpx.post(url, json=body, headers=headers, timeout=DEADLINE, trust_env=False)


def digest(content: bytes) -> str:
    return f"sha256 {sha256(content).hexdigest()[:12]}"


def vendors_files(simulator: Program) -> list[dict[str, Any]]:
    listed = httpx.get(
        f"{simulator.url}/v1/files",
        headers={"authorization": f"Bearer {UPSTREAM_KEY}"},
        trust_env=False,
    )
    found: list[dict[str, Any]] = listed.json()["data"]
    return found


@pytest.mark.parametrize("kind", ["inline", "kept"])
@pytest.mark.parametrize("target", DIALECTS)
@pytest.mark.parametrize("caller", DIALECTS)
def test_an_uploaded_file_is_seen_at_every_target(
    eyes: Gateway, simulator: Program, caller: str, target: str, kind: str
) -> None:
    """BerriAI/litellm#29830, #29832, #27406."""
    image = picture(f"{caller} {target} {kind}", 40, 30)
    document = PDF + f"{caller} {target} {kind}".encode()
    before = stats(simulator)["uploads"]
    ids = [upload(eyes, "a.png", image), upload(eyes, "a.pdf", document)]
    parts = [named(caller, one, image=n == 0) for n, one in enumerate(ids)]
    for stream in (False, True):
        body = body_of(caller, f"{kind}-{target}", *parts, stream=stream)
        answer = ask(eyes, caller, body)
        assert answer.status_code == 200, answer.text
        seen = answer.text
        if not stream:
            assert digest(image) in seen, seen
            assert digest(document) in seen, seen
        for file in vendors_files(simulator):
            assert file["id"] not in seen
    uploads = stats(simulator)["uploads"] - before
    # Chat has no image by id.
    assert uploads == (0 if kind == "inline" else 1 if target == "openai" else 2)


def test_a_file_in_the_result_of_a_tool_is_seen(eyes: Gateway) -> None:
    image = picture("a screenshot", 50, 30)
    file_id = upload(eyes, "a.png", image)
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"file_id": "any"}}
    result = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [named("anthropic", file_id, image=True)],
    }
    body = {
        "model": "inline-anthropic",
        "max_tokens": 500,
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ],
    }
    answer = ask(eyes, "anthropic", body)
    assert answer.status_code == 200, answer.text
    assert digest(image) in answer.text
    output = {
        "type": "function_call_output",
        "call_id": "call_1",
        "output": [named("responses", file_id, image=True)],
    }
    given = [
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        output,
    ]
    answer = ask(eyes, "responses", {"model": "inline-responses", "input": given})
    assert answer.status_code == 200, answer.text
    assert digest(image) in answer.text


def test_a_stored_response_is_continued_with_its_file(eyes: Gateway) -> None:
    image = picture("kept", 20, 30)
    part = named("responses", upload(eyes, "a.png", image), image=True)
    first = ask(eyes, "responses", body_of("responses", "inline-openai", part))
    assert first.status_code == 200, first.text
    body = {
        "model": "inline-openai",
        "previous_response_id": first.json()["id"],
        "input": "And now?",
    }
    second = ask(eyes, "responses", body)
    assert second.status_code == 200, second.text
    assert digest(image) in second.text


def test_a_conversation_whose_file_was_deleted_is_compacted_and_counted(
    eyes: Gateway, simulator: Program
) -> None:
    file_id = upload(eyes, "gone.png", picture("gone", 20, 30))
    part = named("responses", file_id, image=True)
    conversations = []
    for model in ("inline-responses", "inline-openai"):
        first = ask(eyes, "responses", body_of("responses", model, part))
        assert first.status_code == 200, first.text
        conversations.append((model, first.json()["id"]))
    headers = eyes.bearer
    url = f"{eyes.url}/v1/files/{file_id}"
    assert httpx.delete(url, headers=headers, trust_env=False).status_code == 200
    for model, id_ in conversations:
        body = {"model": model, "previous_response_id": id_}
        compacted = eyes.post("/v1/responses/compact", body)
        assert compacted.status_code == 200, compacted.text
        before = stats(simulator)["requests"]
        counted = eyes.post("/v1/responses/input_tokens", {**body, "input": "And now?"})
        assert counted.status_code == 200, counted.text
        assert stats(simulator)["requests"] == before  # the id is ours
    new = body_of("responses", "inline-openai", part)
    assert eyes.post("/v1/responses/compact", new).status_code == 404


@pytest.mark.parametrize("dialect", ["anthropic", "responses"])
def test_a_prompt_with_a_file_is_counted_here(
    eyes: Gateway, simulator: Program, dialect: str
) -> None:
    path = "/v1/messages/count_tokens" if dialect == "anthropic" else "/v1/responses/input_tokens"
    own = upload(eyes, "counted.png", picture("counted", 20, 30))
    before = stats(simulator)["requests"]
    for file_id in (own, "file_011CNha8iCJcU1wXNR6q4V8w"):  # a vendor's id reaches no upstream
        body = body_of(dialect, f"inline-{dialect}", named(dialect, file_id, image=True))
        body.pop("max_tokens", None)
        counted = eyes.post(path, body)
        assert counted.status_code == 200, counted.text
        assert counted.json()["input_tokens"] > 1000
    assert stats(simulator)["requests"] == before


def test_a_file_is_uploaded_to_the_vendor_once_and_deleted_with_ours(
    eyes: Gateway, simulator: Program
) -> None:
    document = PDF + b"once"
    file_id = upload(eyes, "once.pdf", document)
    before = stats(simulator)["uploads"]
    bodies = [body_of("responses", "kept-responses", named("responses", file_id, image=False))] * 8
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda body: ask(eyes, "responses", body), bodies))
    assert [one.status_code for one in answers] == [200] * 8
    assert stats(simulator)["uploads"] == before + 1
    assert "once.pdf" in [file["filename"] for file in vendors_files(simulator)]
    deleted = httpx.delete(f"{eyes.url}/v1/files/{file_id}", headers=eyes.bearer, trust_env=False)
    assert deleted.status_code == 200
    until(lambda: "once.pdf" not in [file["filename"] for file in vendors_files(simulator)] or None)
    answer = ask(eyes, "responses", bodies[0])
    assert answer.status_code == 404


MEMBERS: list[tuple[str, str, dict[str, Any]]] = [
    ("openai", "messages[0].content[1].file.file_id", named("openai", "ID", image=False)),
    (
        "openai",
        "messages[0].content[1].image_url.file_id",
        {"type": "image_url", "image_url": {"file_id": "ID"}},
    ),
    ("responses", "input[0].content[1].file_id", named("responses", "ID", image=False)),
    ("responses", "input[0].content[1].file_id", named("responses", "ID", image=True)),
    ("anthropic", "messages[0].content[1].source.file_id", named("anthropic", "ID", image=True)),
    ("anthropic", "messages[0].content[1].source.file_id", named("anthropic", "ID", image=False)),
    (
        "anthropic",
        "messages[0].content[1].content[0].source.file_id",
        {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [named("anthropic", "ID", image=True)],
        },
    ),
]


@pytest.mark.parametrize("kind", ["inline", "kept"])
@pytest.mark.parametrize(("dialect", "path", "part"), MEMBERS)
def test_a_file_of_another_key_is_answered_like_one_that_does_not_exist(
    eyes: Gateway, simulator: Program, dialect: str, path: str, part: dict[str, Any], kind: str
) -> None:
    """BerriAI/litellm#35530, majiayu000/litellm-rs#1130, danny-avila/rag_api#301."""
    theirs = upload(eyes, "theirs.pdf", PDF + b"theirs")
    stranger = eyes.new_key(f"stranger-{dialect}-{kind}-{path}-{part['type']}"[:60])
    vendor = next(iter(vendors_files(simulator)), {"id": "file-none"})["id"]
    before = stats(simulator)["requests"]
    answers = []
    for file_id in (theirs, "file-" + "0" * 27, vendor, "file_011CNha8iCJcU1wXNR6q4V8w"):
        written = json.loads(json.dumps(part).replace('"ID"', json.dumps(file_id)))
        answer = ask(eyes, dialect, body_of(dialect, f"{kind}-{dialect}", written), stranger)
        text = answer.text.replace(file_id, "ID")
        request_id = answer.headers["x-request-id"]
        answers.append((answer.status_code, text.replace(request_id, "REQUEST")))
        assert path in text
        assert answer.headers["content-type"] == "application/json"
    assert answers[0][0] == 404
    assert len(set(answers)) == 1, answers
    assert stats(simulator)["requests"] == before


BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/images/edits", {"prompt": "x", "images": [{"file_id": "ID"}]}, "images[0].file_id"),
    (
        "/v1/images/edits",
        {
            "prompt": "x",
            "images": [{"image_url": PIXEL}],
            "mask": {"file_id": "ID"},
        },
        "mask.file_id",
    ),
    ("/v1/videos/generations", {"prompt": "x", "image": {"file_id": "ID"}}, "image"),
    ("/v1/videos/generations", {"prompt": "x", "image": "ID"}, "image"),
    ("/v1/videos/generations", {"prompt": "x", "last_image": {"file_id": "ID"}}, "last_image"),
    (
        "/v1/videos/generations",
        {"prompt": "x", "reference_images": [{"file_id": "ID"}]},
        "reference_images",
    ),
    ("/v1/videos", {"prompt": "x", "input_reference": {"file_id": "ID"}}, "input_reference"),
    ("/v1/audio/transcriptions", {"file_id": "ID"}, "file_id"),
    ("/v1/audio/translations", {"file_id": "ID"}, "file_id"),
]


@pytest.mark.parametrize(("path", "body", "param"), BODIES)
def test_a_file_of_another_key_is_not_read_by_media_routes(
    eyes: Gateway, simulator: Program, path: str, body: dict[str, Any], param: str
) -> None:
    theirs = upload(eyes, "theirs.png", picture("theirs", 8, 8))
    stranger = {"authorization": f"Bearer {eyes.new_key(f'{path} {param}')}"}
    before = stats(simulator)["requests"]
    answers = []
    for file_id in (theirs, "file-" + "0" * 27):
        written = json.loads(json.dumps(body).replace('"ID"', json.dumps(file_id)))
        answer = httpx.post(
            eyes.url + path,
            json={"model": "media", **written},
            headers=stranger,
            timeout=DEADLINE,
            trust_env=False,
        )
        text = answer.text.replace(file_id, "ID")
        answers.append(
            (answer.status_code, text.replace(answer.headers["x-request-id"], "REQUEST"))
        )
        assert param in answer.text, answer.text
    assert answers[0][0] == 404, answers
    assert answers[0] == answers[1]
    assert stats(simulator)["requests"] == before


def test_a_transcription_reads_audio_by_id_and_by_link(eyes: Gateway, web: FileServer) -> None:
    sound = wav("words of a sound", 2.0)
    web.contents["/a.wav"] = sound
    file_id = upload(eyes, "a.wav", sound)
    for named_by in ({"file_id": file_id}, {"url": web.url("/a.wav")}):
        answer = eyes.post("/v1/audio/transcriptions", {"model": "media", **named_by})
        assert answer.status_code == 200, answer.text
        assert answer.json()["text"] == "words of a sound"
    for named_by, status in (
        ({"url": web.url("/a.png")}, 400),
        ({"url": "file-x"}, 400),
        ({"url": "file:///etc/passwd"}, 400),
        ({"file_id": upload(eyes, "a.png", picture("no sound", 8, 8))}, 400),
    ):
        answer = eyes.post("/v1/audio/transcriptions", {"model": "media", **named_by})
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["param"] == next(iter(named_by))


def test_a_url_in_a_file_id_is_fetched_and_inlined(eyes: Gateway, web: FileServer) -> None:
    """BerriAI/litellm#25456."""
    url = web.url("/a.pdf?sig=hidden-canary")
    part = {"type": "file", "file": {"file_id": url}}
    answer = ask(eyes, "openai", body_of("openai", "inline-openai", part))
    assert answer.status_code == 200, answer.text
    assert digest(PDF) in answer.text
    assert "hidden-canary" not in eyes.stdout + eyes.whole_log()


@pytest.mark.parametrize("caller", DIALECTS)
def test_links_are_fetched_for_an_upstream_that_must_not(
    eyes: Gateway, web: FileServer, caller: str
) -> None:
    url = web.url(f"/a.png?{caller}")
    part: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
    if caller == "responses":
        part = {"type": "input_image", "image_url": url}
    elif caller == "anthropic":
        part = {"type": "image", "source": {"type": "url", "url": url}}
    for target in DIALECTS:
        answer = ask(eyes, caller, body_of(caller, f"closed-{target}", part))
        assert answer.status_code == 200, answer.text
        assert digest(web.contents["/a.png"]) in answer.text
    assert web.asked.count(f"/a.png?{caller}") == 1  # used again for the same key
    # Others get the link itself.
    answer = ask(eyes, caller, body_of(caller, f"inline-{caller}", part))
    assert answer.status_code == 200, answer.text
    assert digest(web.contents["/a.png"]) not in answer.text
    assert web.asked.count(f"/a.png?{caller}") == 1


def test_without_the_setting_an_address_of_this_network_is_not_fetched(
    tmp_path: Path, simulator: Program, web: FileServer
) -> None:
    document = {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [
            {
                "name": "own",
                "dialect": "openai",
                "base_url": f"{simulator.url}/v1",
                "fetches_urls": False,
            }
        ],
        "models": [{"id": "own", "targets": ["own/sim-eye"]}],
        "fetch": {"allow_http": True, "ports": [web.port]},
    }
    program = Gateway(tmp_path, document, env=SECRETS)
    before = len(web.asked)
    try:
        for url in (web.url("/a.png"), f"http://localhost:{web.port}/a.png?x=query-canary"):
            part = {"type": "image_url", "image_url": {"url": url}}
            answer = ask(program, "openai", body_of("openai", "own", part))
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == "messages[0].content[1].image_url.url"
            line = program.request_line(answer.headers["x-request-id"])
            assert "127.0.0.1 is not public (loopback)" in line["reason"]
        assert program.metrics()["penstock_fetches_total", (("outcome", "refused"),)] == 2
        url = web.url("/a.png")
        for odd, where in (
            ({"image_url": {"url": url}}, ".image_url.url"),
            ({"type": "image_url", "image_url": {"url": f"\n{url}"}}, ".image_url.url"),
            ({"type": "image_url", "image_url": {"url": url + "?" * 9000}}, ".image_url.url"),
            ({"type": "video", "video": [url, url]}, ".video[0]"),
        ):
            answer = ask(program, "openai", body_of("openai", "own", odd))
            assert answer.status_code == 400, answer.text
            assert answer.json()["error"]["param"] == f"messages[0].content[1]{where}"
        for path, body, param in (
            ("images/generations", {"prompt": url, "image": url}, "image"),
            ("audio/speech", {"input": url, "voice": "alloy", "ref_audio": url}, "ref_audio"),
        ):
            headers = {"authorization": f"Bearer {program.key}"}
            with httpx.Client(headers=headers, timeout=DEADLINE, trust_env=False) as client:
                to = f"{program.url}/v1/{path}"
                answer = client.post(to, json={"model": "own", **body})
                assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
                del body[param]
                assert client.post(to, json={"model": "own", **body}).status_code == 200
        assert "query-canary" not in program.stdout + program.whole_log()
    finally:
        assert program.stop() == 0, program.stderr
    assert len(web.asked) == before


def test_many_large_files_at_once_take_a_bounded_memory(
    eyes: Gateway, full: bool, tmp_path: Path
) -> None:
    """16 requests with 28 MiB of images each; a tenth of it in every run.

    kortix-ai/suna#6831, BerriAI/litellm#33955, #40565, llm-d/llm-d-router#2196.
    """
    size = (28 << 20) // 3 if full else (28 << 20) // 30
    ids = [upload(eyes, f"{n}.png", picture(f"large {n}", 8, 8) + bytes(size)) for n in range(3)]
    parts = [named("responses", one, image=True) for one in ids]
    body = body_of("responses", "inline-responses", *parts)
    before = eyes.rss()
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: ask(eyes, "responses", body), range(16)))
    statuses = [one.status_code for one in answers]
    assert 200 in statuses
    assert set(statuses) <= {200, 429, 503}, statuses
    assert eyes.rss() - before < (400 << 20 if full else 150 << 20)
