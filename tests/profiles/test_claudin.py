"""The profile of Claudin.io: one text model in two vendors' dialects, behind a hidden provider.

`provider` records what the provider receives; the simulator behind it answers.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from edge.dashboard.formats import money
from edge.upstreams.simulator import SECRETS
from edge.upstreams.simulator.controls import call_word
from tests.clients.programs import claude_code, codex, node
from tests.e2e.program import DEADLINE, Gateway, Program, until
from tests.e2e.visitor import signed_in
from tests.edge.media.decode import samples

from . import snippets
from .recorder import Recorder, recorder
from .system import CANARY

PROFILE = "claudin"
MODEL = "claudinio"
TEXT, EYE, EAR, EMBEDDER = (
    *("kimi-k2-0905-preview", "gpt-4.1-mini"),
    *("gpt-4o-mini-transcribe", "text-embedding-3-small"),
)
"""The provider's names, which no caller sees."""
HIDDEN = (*SECRETS, CANARY, TEXT, EYE, EAR, EMBEDDER, "kimi", "moonshot", "api.openai.com")
HOST = "https://api.claudin.io"
ANTHROPIC = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def simulator(simulator: Program) -> Iterator[Recorder]:
    """What the gateways of this module ask in place of the simulator."""
    with recorder(simulator.url, {EYE: "see=1"}) as running:
        yield running


@pytest.fixture(scope="module")
def provider(simulator: Recorder) -> Recorder:
    return simulator


@pytest.fixture
def key(gateway: Gateway, request: pytest.FixtureRequest) -> str:
    """A key of this test's own."""
    return gateway.new_key(request.node.name[:60])


def sdk(gateway: Gateway, key: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, **{"max_retries": 0, **options})


def post(gateway: Gateway, key: str, path: str, body: Any, **headers: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", **headers}
    return httpx.post(
        f"{gateway.url}{path}", json=body, headers=headers, trust_env=False, timeout=DEADLINE
    )


def get(gateway: Gateway, key: str, path: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.get(f"{gateway.url}{path}", headers=headers, trust_env=False, timeout=DEADLINE)


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


ROWS: Mapping[str, tuple[dict[str, Any], str]] = {
    "/v1/chat/completions": (chat("Hello"), "chat.completion"),
    "/v1/completions": ({"model": MODEL, "prompt": "Hello"}, "text_completion"),
    "/v1/messages": (chat("Hello", max_tokens=100), "message"),
    "/v1/responses": ({"model": MODEL, "input": "Hello"}, "response"),
    "/v1/embeddings": ({"model": MODEL, "input": "Hello"}, "list"),
}
"""The endpoints that take a body, with one, and the kind of their answer."""


def assert_branded(answer: httpx.Response, status: int | None = None) -> dict[str, Any]:
    """The error object of an answer: branded, in OpenAI's form, and without a trace of the
    provider in body and headers."""
    if status is not None:
        assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert {"message", "type", "param", "code"} <= error.keys(), error
    assert "Claudin.io" in error["message"]
    assert isinstance(error["type"], str)
    assert_hidden(answer.text, *answer.headers.values())
    assert answer.headers["content-type"] == "application/json"
    return error


def assert_hidden(*texts: str) -> None:
    for text in texts:
        assert not [word for word in HIDDEN if word.lower() in text.lower()], text


def test_openai_sdk_needs_only_base_url_and_model(gateway: Gateway, key: str) -> None:
    with sdk(gateway, key) as client:
        reply = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Familiar?"}]
        )
        listed = [one.id for one in client.models.list()]
    assert "Familiar?" in (reply.choices[0].message.content or "")
    assert (reply.model, reply.object, reply.choices[0].finish_reason) == (
        *(MODEL, "chat.completion"),
        "stop",
    )
    assert reply.usage is not None and reply.usage.total_tokens > 0
    assert listed == [MODEL]


@pytest.mark.parametrize("path", ROWS)
def test_each_endpoint_of_the_table_answers_curl(
    path: str, gateway: Gateway, key: str, tmp_path: Path
) -> None:
    body, kind = ROWS[path]
    line = (
        f"curl {HOST}{path} -H 'Content-Type: application/json' "
        f"-H 'Authorization: Bearer YOUR_API_KEY' -d '{json.dumps(body)}'"
    )
    answer = snippets.curl(line, {HOST: gateway.url, "YOUR_API_KEY": key}, tmp_path)
    assert answer.status == 200, answer.text
    found = answer.json()
    assert found["model"] == MODEL
    assert kind in (found.get("object"), found.get("type"))
    assert_hidden(answer.text, *answer.headers.values())


def test_models_are_listed_for_curl(gateway: Gateway, key: str, tmp_path: Path) -> None:
    line = f"curl {HOST}/v1/models -H 'Authorization: Bearer YOUR_API_KEY'"
    answer = snippets.curl(line, {HOST: gateway.url, "YOUR_API_KEY": key}, tmp_path)
    assert answer.status == 200
    assert [one["id"] for one in answer.json()["data"]] == [MODEL]


def test_each_endpoint_answers_the_sdk_of_its_dialect(gateway: Gateway, key: str) -> None:
    with sdk(gateway, key) as client:
        completion = client.completions.create(model=MODEL, prompt="Say it")
        response = client.responses.create(model=MODEL, input="Say it")
        vector = client.embeddings.create(model=MODEL, input=["one", "two"])
    assert completion.choices[0].text
    assert "Say it" in response.output_text
    assert [len(one.embedding) > 1 for one in vector.data] == [True, True]
    assert vector.model == MODEL
    with anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0) as other:
        message = other.messages.create(
            model=MODEL, max_tokens=200, messages=[{"role": "user", "content": "Say it"}]
        )
        assert message.content[0].type == "text" and "Say it" in message.content[0].text
        counted = other.messages.count_tokens(
            model=MODEL, messages=[{"role": "user", "content": "Say it"}]
        )
        assert counted.input_tokens > 0


@pytest.mark.parametrize(
    "header", ["Authorization: Bearer YOUR_API_KEY", "x-api-key: YOUR_API_KEY"]
)
def test_key_is_taken_from_either_header(
    header: str, gateway: Gateway, key: str, tmp_path: Path
) -> None:
    for path, (body, _) in ROWS.items():
        line = (
            f"curl {HOST}{path} -H 'Content-Type: application/json' -H '{header}' "
            f"-d '{json.dumps(body)}'"
        )
        answer = snippets.curl(line, {HOST: gateway.url, "YOUR_API_KEY": key}, tmp_path)
        assert answer.status == 200, (path, answer.text)


def test_model_has_a_context_of_256k(gateway: Gateway, key: str) -> None:
    (model,) = get(gateway, key, "/v1/models").json()["data"]
    assert (model["id"], model["context_window"]) == (MODEL, 256_000)
    assert get(gateway, key, f"/v1/models/{MODEL}").json()["context_window"] == 256_000


@pytest.mark.parametrize("name", [MODEL, f"claudinio/{MODEL}"])
@pytest.mark.parametrize("path", ROWS)
def test_model_name_is_the_same_everywhere_with_and_without_provider(
    path: str, name: str, gateway: Gateway, key: str
) -> None:
    answer = post(gateway, key, path, {**ROWS[path][0], "model": name})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == name
    assert answer.headers["x-model-used"] == MODEL


CURL = """\
curl https://api.claudin.io/v1/chat/completions \\
-H "Content-Type: application/json" \\
-H "Authorization: Bearer YOUR_API_KEY" \\
-d '{
"model": "claudinio",
"messages": [
{"role": "system", "content": "You are a helpful assistant."},
{"role": "user", "content": "Write a haiku about proxies."}
],
"temperature": 0.7
}'
"""


def test_curl_works_as_pasted(
    gateway: Gateway, key: str, provider: Recorder, tmp_path: Path
) -> None:
    answer = snippets.curl(CURL, {HOST: gateway.url, "YOUR_API_KEY": key}, tmp_path)
    assert answer.status == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert "Write a haiku about proxies." in choice["message"]["content"]
    asked = provider.of_model(TEXT)[-1].body
    assert [turn["role"] for turn in asked["messages"]] == ["system", "user"]
    assert asked["temperature"] == 0.7


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
SCHEMA = {
    "name": "reply",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    },
}
PARAMETERS: Mapping[str, Any] = {
    "temperature": 0.25,
    "top_p": 0.5,
    "max_tokens": 321,
    "max_completion_tokens": 322,
    "stop": ["END", "FIN"],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "response_format": {"type": "json_schema", "json_schema": SCHEMA},
    "parallel_tool_calls": False,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "seed": 7,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 2,
    "n": 1,
    "reasoning_effort": "low",
    "user": "someone",
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_standard_parameters_reach_the_model_as_sent(
    name: str, gateway: Gateway, key: str, provider: Recorder
) -> None:
    value = {name: PARAMETERS[name]}
    if name in ("tool_choice", "parallel_tool_calls"):
        value["tools"] = [TOOL]
    if name == "top_logprobs":
        value["logprobs"] = True
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"Set {name} [[sim strict=1]]"},
    ]
    for stream in (False, True):
        body = {"model": MODEL, "messages": messages, "stream": stream, **value}
        answer = post(gateway, key, "/v1/chat/completions", body)
        assert answer.status_code == 200, answer.text
        asked = provider.of_model(TEXT)[-1].body
        assert asked["messages"] == messages
        assert {each: asked[each] for each in value} == value
        assert bool(asked.get("stream")) is stream


def test_stream_is_data_lines_that_end_with_done(
    gateway: Gateway, key: str, tmp_path: Path
) -> None:
    body = json.dumps(chat("Hello", stream=True))
    line = (
        f"curl -N {HOST}/v1/chat/completions -H 'Content-Type: application/json' "
        f"-H 'Authorization: Bearer YOUR_API_KEY' -d '{body}'"
    )
    answer = snippets.curl(line, {HOST: gateway.url, "YOUR_API_KEY": key}, tmp_path)
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [one for one in answer.text.split("\n") if one and not one.startswith(":")]
    assert lines[-1] == "data: [DONE]"
    assert all(one.startswith("data: {") for one in lines[:-1])
    chunks = answer.events()
    assert {one["object"] for one in chunks} == {"chat.completion.chunk"}
    assert {one["model"] for one in chunks} == {MODEL}
    said = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks)
    assert said.startswith("You said: Hello")
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    with sdk(gateway, key) as client:
        streamed = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        assert "".join(one.choices[0].delta.content or "" for one in streamed) == said


def test_tool_calls_make_the_round_trip_in_python(gateway: Gateway, key: str) -> None:
    with sdk(gateway, key) as client:
        complete = client.chat.completions.create
        turns: list[Any] = [{"role": "user", "content": "Weather? [[sim tools=1 strict=1]]"}]
        tools: Any = [TOOL]
        first = complete(model=MODEL, messages=turns, tools=tools).choices[0]
        assert first.finish_reason == "tool_calls" and first.message.tool_calls
        (call,) = first.message.tool_calls
        assert call.type == "function" and call.function.name == "weather"
        assert json.loads(call.function.arguments).keys() == {"city"}
        turns.append(first.message.model_dump(exclude_none=True))
        turns.append({"role": "tool", "tool_call_id": call.id, "content": "sun all day"})
        last = complete(model=MODEL, messages=turns, tools=tools).choices[0]
    assert last.finish_reason == "stop"
    assert "sun all day" in (last.message.content or "")


@pytest.mark.parametrize(
    ("script", "sdk_of"),
    [("openai-chat.mjs", ""), ("anthropic.mjs", ""), ("vercel.mjs", "compatible")],
)
def test_tool_calls_make_the_round_trip_in_node(
    script: str, sdk_of: str, embedded: Gateway, tmp_path: Path
) -> None:
    """The last is what Kilo is built with."""
    where = {"GATEWAY": embedded.url, "KEY": embedded.key, "MODEL": MODEL, "PROVIDER": sdk_of}
    seen = node(script, tmp_path, **where)
    for way in ("tools", "toolsStreamed"):
        called, settled = seen[way]["called"], seen[way]["settled"]
        assert [name for name, _ in called["calls"]] == ["weather", "weather"]
        assert settled["text"].startswith("The tool returned: 3 days of sun in sample")
    assert seen["plain"]["model"] == seen["streamed"]["model"] == MODEL


COMMAND = "printf written > note.txt && echo done-$((6*7))"


def test_claude_code_does_a_job_with_a_tool(embedded: Gateway, tmp_path: Path) -> None:
    word = call_word("Bash", {"command": COMMAND, "description": "a note"})
    events = claude_code(
        f"Leave a note. [[sim strict=1 {word}]]",
        url=embedded.url,
        key=embedded.key,
        model=MODEL,
        folder=tmp_path,
    )
    assert (tmp_path / "work/note.txt").read_text() == "written"
    assert events[-1]["subtype"] == "success" and "done-42" in events[-1]["result"]


def test_codex_does_a_job_with_a_tool(embedded: Gateway, tmp_path: Path) -> None:
    word = call_word("exec_command", {"cmd": COMMAND})
    events = codex(
        f"Leave a note. [[sim strict=1 {word}]]",
        url=embedded.url,
        key=embedded.key,
        model=MODEL,
        folder=tmp_path,
    )
    assert (tmp_path / "work/note.txt").read_text() == "written"
    assert events[-1]["type"] == "turn.completed"
    assert any("done-42" in json.dumps(event) for event in events)


def test_cursor_sends_the_body_of_responses_to_chat_and_gets_tool_calls(
    gateway: Gateway, key: str
) -> None:
    function = TOOL["function"]
    assert isinstance(function, dict)
    turn = {"role": "user", "content": "Weather? [[sim tools=1 strict=1]]"}
    body = {"model": MODEL, "input": [turn], "tools": [{"type": "function", **function}]}
    answer = post(gateway, key, "/v1/chat/completions", {**body, "stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"tool_calls"' in answer.text and '"weather"' in answer.text
    (call,) = post(gateway, key, "/v1/chat/completions", body).json()["choices"][0]["message"][
        "tool_calls"
    ]
    assert call["function"]["name"] == "weather"


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


SOUND = samples.wav(samples.tone(1))
MEDIA: Mapping[str, tuple[dict[str, Any], str]] = {
    "image": (
        {"type": "image_url", "image_url": {"url": _data("image/png", samples.image())}},
        EYE,
    ),
    "audio": (
        {
            "type": "input_audio",
            "input_audio": {"data": b64encode(SOUND).decode(), "format": "wav"},
        },
        EAR,
    ),
    "video": (
        {"type": "video_url", "video_url": {"url": _data("video/mp4", samples.video(4))}},
        EYE,
    ),
}


@pytest.mark.parametrize("kind", MEDIA)
def test_media_become_text_before_the_model_sees_them(
    kind: str, gateway: Gateway, key: str, provider: Recorder
) -> None:
    part, describer = MEDIA[kind]
    content = [{"type": "text", "text": "What is this?"}, part]
    before = len(provider.asked)
    for stream in (False, True):
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
        answer = post(gateway, key, "/v1/chat/completions", {**body, "stream": stream})
        assert answer.status_code == 200, answer.text
        assert_hidden(answer.text, *answer.headers.values())
        sent = json.dumps(provider.of_model(TEXT)[-1].body)
        assert f'<media kind=\\"{kind}\\" number=\\"1\\"' in sent
        assert "base64" not in sent and "image_url" not in sent and "input_audio" not in sent
        if not stream:  # the simulator repeats what it got
            assert f'<media kind=\\"{kind}' in answer.text
    asked = provider.asked[before:]
    paths = {one.path for one in asked if (one.body or {}).get("model") != TEXT}
    assert paths == {"/v1/audio/transcriptions" if describer == EAR else "/v1/chat/completions"}


def test_media_are_paid_by_the_key_that_sent_them(gateway: Gateway, key: str) -> None:
    picture = _data("image/png", samples.image(colour="#225511"))
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": picture}},
    ]
    message = {"role": "user", "content": parts}
    answer = post(gateway, key, "/v1/chat/completions", {"model": MODEL, "messages": [message]})
    assert answer.status_code == 200, answer.text
    found = get(gateway, key, f"/v1/requests/{answer.headers['x-request-id']}").json()
    assert found["included"] == {"describe": 1}
    assert found["credits"] == answer.headers["x-credits-used"]
    used = get(gateway, key, "/v1/usage").text
    assert "describe" in used
    assert_hidden(used, json.dumps(found))


@pytest.mark.parametrize("name", ["eye", "ear", "embedder", "claudinio/eye"])
def test_describers_do_not_exist_for_callers(name: str, gateway: Gateway, key: str) -> None:
    error = assert_branded(post(gateway, key, "/v1/chat/completions", chat("Hi", model=name)), 404)
    missing = assert_branded(
        post(gateway, key, "/v1/chat/completions", chat("Hi", model="x9")), 404
    )
    assert error["code"] == missing["code"] == "model_not_found"
    assert error["message"].replace(name, "x9") == missing["message"]
    assert get(gateway, key, f"/v1/models/{name}").status_code == 404
    assert_hidden(httpx.get(gateway.url, trust_env=False).text)


def test_missing_and_wrong_keys_are_401(gateway: Gateway, key: str) -> None:
    for path in ROWS:
        answer = httpx.post(gateway.url + path, json=ROWS[path][0], trust_env=False)
        assert assert_branded(answer, 401)["code"] == "missing_key"
        answer = post(gateway, key[:-1] + "_", path, ROWS[path][0])
        assert assert_branded(answer, 401)["code"] == "invalid_key"
    with sdk(gateway, "wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/files"),
        *("/v1/videos", "/v1/music/generations", "/v1/moderations", "/v1/fine_tuning/jobs", "/v1"),
    ],
)
def test_endpoints_outside_the_table_are_403(path: str, gateway: Gateway, key: str) -> None:
    error = assert_branded(post(gateway, key, path, {"model": MODEL, "prompt": "x"}), 403)
    assert error["code"] == "endpoint_not_allowed"
    assert_branded(get(gateway, key, path), 403)
    assert_branded(httpx.get(gateway.url + path, trust_env=False), 403)


@pytest.mark.parametrize("path", ROWS)
def test_malformed_requests_are_400_that_name_the_field(
    path: str, gateway: Gateway, key: str
) -> None:
    address = gateway.url + path
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    for text in ("{", "[]", '"x"', "\xff"):
        answer = httpx.post(address, content=text.encode("latin-1"), headers=headers)
        assert_branded(answer, 400)
    without = {name: value for name, value in ROWS[path][0].items() if name == "model"}
    error = assert_branded(post(gateway, key, path, without), 400)
    (needed,) = {"messages", "prompt", "input"} & ROWS[path][0].keys()
    assert error["param"] == needed
    error = assert_branded(post(gateway, key, path, {**ROWS[path][0], "model": 7}), 400)
    assert error["param"] == "model"


STATUSES = {
    400: 400,
    401: 502,
    402: 502,
    403: 502,
    404: 502,
    408: 504,
    409: 502,
    413: 413,
    422: 400,
    429: 429,
    500: 502,
    502: 502,
    503: 503,
    504: 504,
    529: 503,
}
"""What a caller gets for a status of the provider."""
BODIES = {"/v1/chat/completions": "messages", "/v1/messages": "messages", "/v1/responses": "input"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_no_error_of_the_provider_leaks(
    path: str, stream: bool, gateway: Gateway, key: str
) -> None:
    faults = {f"status:{status}": shown for status, shown in STATUSES.items()}
    faults |= {"html": 502, "empty": 502}
    for fault, shown in faults.items():
        turn = {"role": "user", "content": f"Hi [[sim fault={fault}]]"}
        body = {"model": MODEL, "max_tokens": 99, BODIES[path]: [turn], "stream": stream}
        if path == "/v1/responses":
            del body["max_tokens"]
        answer = post(gateway, key, path, body)
        expected = 529 if path == "/v1/messages" and shown == 503 else shown
        error = assert_branded(answer, expected)
        assert error["code"]
        if shown >= 500 or shown == 429:
            assert answer.headers.get("x-should-retry") != "false"


@pytest.mark.parametrize("path", BODIES)
def test_error_within_a_stream_is_branded_and_leaks_nothing(
    path: str, gateway: Gateway, key: str, provider: Recorder
) -> None:
    for fault in ("error-event:8", "cut:8", "garbage:8,end:9"):
        turn = {"role": "user", "content": f"Hi [[sim tokens=40 fault=hold:7,{fault}]]"}
        body = {"model": MODEL, BODIES[path]: [turn], "stream": True}
        if path == "/v1/messages":
            body["max_tokens"] = 999
        text = ""
        with httpx.stream(
            *("POST", gateway.url + path),
            json=body,
            headers={"authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=DEADLINE,
        ) as answer:
            assert answer.status_code == 200
            for piece in answer.iter_text():
                if "delta" in piece and "delta" not in text:
                    provider.release()
                text += piece
        assert_hidden(text)
        assert "[DONE]" not in text and "message_stop" not in text
        found = [json.loads(one) for one in re.findall(r"^data: (.*)$", text, re.MULTILINE)]
        errors = [one["error"] for one in found if one.get("error")]
        assert errors and "Claudin.io" in errors[0]["message"], text
        assert {"message", "type", "param", "code"} <= errors[0].keys()


def test_budget_error_tells_the_reset_that_the_dashboard_shows(
    gateway: Gateway, request: pytest.FixtureRequest
) -> None:
    windows = [{"length": "5h", "credits": "0.01"}, {"length": "7d", "credits": "40.00"}]
    key = gateway.new_key(request.node.name[:60], limits={"windows": windows})
    body = chat("Hello [[sim tokens=600]]", max_tokens=700)
    assert post(gateway, key, "/v1/chat/completions", body).status_code == 200

    def refusal() -> httpx.Response | None:
        """Once nothing is reserved any more: what a request may cost is set aside for it."""
        answer = post(gateway, key, "/v1/chat/completions", body)
        return answer if answer.status_code == 429 and "in flight" not in answer.text else None

    refused = until(refusal, what="the end of the budget")
    error = assert_branded(refused, 429)
    assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
    assert refused.headers["x-should-retry"] == "false"
    (window, week) = get(gateway, key, "/v1/limits").json()["windows"]
    reset = datetime.fromisoformat(error["reset_at"])
    assert reset == datetime.fromisoformat(window["resets_at"])
    assert error["remaining"] == window["remaining"]
    left = (reset - datetime.now(UTC)).total_seconds()
    assert 0 < int(refused.headers["retry-after"]) <= 5 * 3600 + 1 and left <= 5 * 3600 + 1
    assert f"{window['remaining']} remaining" in error["message"]
    assert f"resets {reset:%Y-%m-%d}" in error["message"]
    with signed_in(gateway, key) as visitor:
        page = visitor.get("/app")
    assert page.status_code == 200
    shown = [
        datetime.fromisoformat(at) for at in re.findall(r'<time datetime="([^"]+)"', page.text)
    ]
    assert reset in shown and datetime.fromisoformat(week["resets_at"]) in shown
    assert f"{reset:%Y-%m-%d %H:%M:%S} UTC" in page.text
    for each in (window, week):
        assert f"{escape(money(each['remaining']))} <small>of" in page.text
    with sdk(gateway, key, max_retries=5) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=MODEL, messages=body["messages"], max_tokens=700)
    assert raised.value.code == "budget_exceeded"


def test_plan_has_the_windows_whose_use_the_dashboard_shows(gateway: Gateway, key: str) -> None:
    assert post(gateway, key, "/v1/chat/completions", chat("Hi")).status_code == 200
    shown = get(gateway, key, "/v1/limits").json()
    caps = {window["length"]: window["cap"] for window in shown["windows"]}
    assert caps == {"5h": "5.00", "7d": "40.00"}
    assert all(window["resets_at"] for window in shown["windows"])
    with signed_in(gateway, key) as visitor:
        pages = [visitor.get(path).text for path in ("/app", "/app/requests", "/app/usage")]
    assert "of 5.00" in pages[0] and "of 40.00" in pages[0]
    assert_hidden(*pages)


WAITED = ("penstock_throttle_wait_seconds_count", ())
REFUSED = ("penstock_throttle_refusals_total", ())


def test_requests_beyond_the_rate_wait_and_none_is_refused(
    gateway: Gateway, key: str, request: pytest.FixtureRequest
) -> None:
    """The plan of the profile as it is: its rate and its burst."""
    other = gateway.new_key(f"other-{request.node.name}"[:60])

    def ask(_: int) -> httpx.Response:
        return get(gateway, key, "/v1/models")

    def waited() -> float:
        return gateway.metrics().get(WAITED, 0.0)

    before, refused = waited(), gateway.metrics().get(REFUSED, 0.0)
    answers: list[httpx.Response] = []
    with ThreadPoolExecutor(4) as pool:
        while waited() == before:
            answers += pool.map(ask, range(4))
            assert len(answers) < 4000
    calm = get(gateway, other, "/v1/models")
    assert {answer.status_code for answer in (*answers, calm)} == {200}
    ids = {answer.headers["x-request-id"] for answer in answers}

    def slowed() -> bool:
        lines = [line for line in gateway.log if line.get("request_id") in ids]
        return any(line.get("queue_ms", 0) > 0 for line in lines)

    until(slowed, what="the line of a request that waited")
    assert "queue_ms" not in gateway.request_line(calm.headers["x-request-id"])
    assert gateway.metrics().get(REFUSED, 0.0) == refused


def test_more_requests_at_once_than_the_plan_has_slots_wait_for_one(
    gateway: Gateway, key: str, provider: Recorder
) -> None:
    def ask(number: int) -> int:
        text = f"Hello {number} [[sim tokens=9 fault=hold:3]]"
        body = chat(text, stream=True)
        return post(gateway, key, "/v1/chat/completions", body).status_code

    waiting = ("penstock_throttled_requests", ())
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(ask, number) for number in range(20)]
        until(lambda: gateway.metrics().get(waiting, 0.0) == 4, what="four that wait")
        assert not any(one.done() for one in asked)

        def all_done() -> bool:
            """Answers that begin later have to be released then."""
            provider.release()
            return all(one.done() for one in asked)

        until(all_done, what="all answers")
    assert {one.result() for one in asked} == {200}


@pytest.mark.parametrize("fault", ["status:429", "status:500"])
def test_rare_failure_is_answered_after_the_retries_of_the_sdk(
    fault: str, gateway: Gateway, key: str, provider: Recorder
) -> None:
    provider.once = f"fault={fault}"
    with sdk(gateway, key, max_retries=2) as client:
        reply = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Again"}]
        )
    assert "Again" in (reply.choices[0].message.content or "")
    assert provider.once == ""
