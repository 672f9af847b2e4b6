"""Claude Code Proxy: the Claude models of a signed-in `claude` program, without keys.

Most tests have the simulator in place of that program, which costs a second of processor time for
each answer; those that take `signed_in` have the program. Each sends from an address of its own,
since addresses are limited.
"""

import asyncio
import base64
import json
import stat
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import httpx
import openai
import psutil
import pytest

from edge.upstreams.simulator import SimulatorServer
from edge.upstreams.simulator.controls import call_word
from tests.clients.programs import claude_code
from tests.e2e.program import DEADLINE, Gateway, Program, stats, until
from tests.schemas import check, check_stream

from . import snippets
from .system import client_from, document_of, from_address, pointed_at, serve_profile

PROFILE = "claude-code-proxy"
CLAUDE_CLI = "http"

HOST = "http://localhost:8000"
SONNET, HAIKU, OPUS = (
    "claude-3-5-sonnet-20241022",
    "claude-3-7-sonnet-20250219",
    "claude-opus-4-20250514",
)
ANTHROPIC, OPENAI = "/v1/chat/completions", "/openai/v1/chat/completions"
MESSAGES = "/v1/messages"
SAID = "This answer was made by the simulator."
HELLO: Any = {"model": SONNET, "messages": [{"role": "user", "content": "Hello"}]}
BY_PATH = pytest.mark.parametrize(
    ("path", "dialect"), [(ANTHROPIC, "messages"), (OPENAI, "chat")], ids=["anthropic", "openai"]
)
"""Both endpoints, with the dialect of what they answer."""


@pytest.fixture
def client(gateway: Gateway, new_address: str) -> Iterator[httpx.Client]:
    """A client without a key, from an address of its own."""
    with client_from(gateway, new_address) as client:
        yield client


@pytest.fixture(scope="module")
def signed_in(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    """The profile with the real program, which asks the simulator."""
    program = serve_profile(PROFILE, tmp_path_factory.mktemp("cli"), simulator)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


def none_left(gateway: Gateway) -> None:
    """Wait until no program runs for a request."""

    def clients() -> list[psutil.Process]:
        children = psutil.Process(gateway.process.pid).children(recursive=True)
        return [one for one in children if is_client(one)]

    until(lambda: not clients(), what="no client left")


def is_client(process: psutil.Process) -> bool:
    try:
        return "--input-format" in process.cmdline()
    except psutil.Error:
        return False


def asking(text: str, **members: Any) -> dict[str, Any]:
    """A body of either dialect, without `max_tokens`."""
    return {"model": SONNET, "messages": [{"role": "user", "content": text}], **members}


def said(dialect: str, answer: httpx.Response) -> str:
    """The text of an unstreamed answer, which has to be one of the vendor's."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    check("message" if dialect == "messages" else "chat.completion", body)
    assert body["model"] == SONNET
    if dialect == "messages":
        return str(body["content"][0]["text"])
    return str(body["choices"][0]["message"]["content"])


def streamed(dialect: str, answer: httpx.Response, *, error: bool = False) -> str:
    """The text of a stream, whose events and their order have to be the vendor's."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert dialect == "chat" or b"[DONE]" not in answer.content
    return check_stream(dialect, answer.content, error=error).text  # type: ignore[arg-type]


def error_of(dialect: str, answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, whose form has to be the vendor's with `details` in it."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    error: dict[str, Any] = body["error"]
    assert isinstance(error["type"], str) and error["type"]
    assert isinstance(error["message"], str) and error["message"]
    assert set(error["details"]) == {"field", "issue"}
    assert error["details"]["issue"]
    if dialect == "messages":
        assert body["type"] == "error"
        assert body["request_id"] == answer.headers["request-id"]
        assert set(body) == {"type", "error", "request_id"}
    else:
        assert set(body) == {"error"}
        assert {"param", "code"} <= set(error)
    return error


# Endpoints


@BY_PATH
def test_each_base_url_completes_chats_in_its_own_format(
    client: httpx.Client, path: str, dialect: str
) -> None:
    answer = client.post(path, json=asking("Hello!", max_tokens=1000))
    assert said(dialect, answer) == f"You said: Hello!\n\n{SAID}"


@BY_PATH
def test_each_endpoint_streams_the_body_as_printed(
    client: httpx.Client, path: str, dialect: str
) -> None:
    body = {
        "model": "claude-3-5-sonnet-20241022",
        "messages": [{"role": "user", "content": "Tell me a story"}],
        "stream": True,
    }
    assert streamed(dialect, client.post(path, json=body)) == f"You said: Tell me a story\n\n{SAID}"


def test_openai_body_as_printed_is_answered(client: httpx.Client) -> None:
    body = {
        "model": "claude-3-5-sonnet-20241022",
        "messages": [{"role": "user", "content": "Hello!"}],
        "max_tokens": 1000,
        "temperature": 0.7,
    }
    assert said("chat", client.post(OPENAI, json=body)) == f"You said: Hello!\n\n{SAID}"
    assert said("messages", client.post(ANTHROPIC, json=body)) == f"You said: Hello!\n\n{SAID}"


def test_both_base_urls_list_the_same_models(client: httpx.Client) -> None:
    listed = client.get("/v1/models")
    assert listed.status_code == 200
    assert check("openai.models", listed.json()) == client.get("/openai/v1/models").json()
    page = client.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
    assert check("anthropic.models", page)["data"] == listed.json()["data"]


def test_models_are_the_three_with_their_names_and_context(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()["data"]
    assert [(one["id"], one["display_name"], one["context_window"]) for one in listed] == [
        ("claude-3-5-sonnet-20241022", "Latest Claude 3.5 Sonnet", 200_000),
        ("claude-3-7-sonnet-20250219", "Latest Claude 3.5 Haiku", 200_000),
        ("claude-opus-4-20250514", "Claude 3 Opus", 200_000),
    ]
    for base in ("/v1", "/openai/v1"):
        for model in listed:
            assert client.get(f"{base}/models/{model['id']}").json() == model
            body = {**HELLO, "model": model["id"]}
            answer = client.post(f"{base}/chat/completions", json=body)
            assert answer.json()["model"] == model["id"]
            assert answer.headers["x-model-used"] == model["id"]


def test_health_is_answered(client: httpx.Client) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


def test_other_endpoints_are_not_available(client: httpx.Client) -> None:
    others = {
        "/v1/completions": {"model": SONNET, "prompt": "Hello"},
        "/v1/embeddings": {"model": SONNET, "input": "Hello"},
        "/v1/responses": {"model": SONNET, "input": "Hello"},
        "/v1/images/generations": {"model": SONNET, "prompt": "a cat"},
        "/v1/audio/speech": {"model": SONNET, "input": "Hello", "voice": "alloy"},
        "/v1/videos/generations": {"model": SONNET, "prompt": "a cat"},
        "/v1/moderations": {"input": "Hello"},
        "/openai/v1/completions": {"model": SONNET, "prompt": "Hello"},
        "/openai/v1/embeddings": {"model": SONNET, "input": "Hello"},
        "/openai/v1/messages": {**HELLO, "max_tokens": 10},
    }
    for path, body in others.items():
        answer = client.post(path, json=body)
        assert answer.status_code == 404, (path, answer.text)
        error_of("chat", answer)
    for path in ("/v1/files", "/v1/batches", "/v1/usage", "/openai/v1/files"):
        assert client.get(path).status_code == 404, path
    answer = client.post("/openai/chat/completions", json=HELLO)
    assert answer.status_code == 404
    assert "Put /v1 at the end of the base URL" in error_of("chat", answer)["message"]
    headers = {"anthropic-version": "2023-06-01"}
    answer = client.post("/v1/complete", json={"model": SONNET, "prompt": "Hi"}, headers=headers)
    assert answer.status_code == 404
    error_of("messages", answer)


# Keys


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer dummy"},
        {"x-api-key": "dummy"},
        {"authorization": "Bearer dummy", "x-api-key": "another"},
        {"authorization": "Basic ZHVtbXk6ZHVtbXk="},
        {"authorization": ""},
    ],
    ids=["none", "bearer", "x-api-key", "both", "basic", "empty"],
)
def test_no_key_is_needed_and_any_is_ignored(
    client: httpx.Client, headers: Mapping[str, str]
) -> None:
    for path, dialect in ((ANTHROPIC, "messages"), (OPENAI, "chat")):
        assert SAID in said(dialect, client.post(path, json=HELLO, headers=headers))
    assert client.get("/v1/models", headers=headers).status_code == 200


# Errors


@BY_PATH
def test_invalid_requests_are_answered_400_with_the_field(
    client: httpx.Client, path: str, dialect: str
) -> None:
    content = "messages.0.content" if dialect == "messages" else "messages[0].content"
    wrong: list[tuple[dict[str, Any], str | None]] = [
        ({"model": SONNET}, "messages"),
        ({"messages": HELLO["messages"]}, "model"),
        ({**HELLO, "max_tokens": "many"}, "max_tokens"),
        ({**HELLO, "messages": [{"role": "user", "content": 7}]}, content),
        ({**HELLO, "stream": "yes"}, "stream"),
    ]
    for body, field in wrong:
        answer = client.post(path, json=body)
        assert answer.status_code == 400, (body, answer.text)
        error = error_of(dialect, answer)
        assert error["type"] == "validation_error", body
        assert error["details"]["field"] == field, (body, error)
    answer = client.post(path, content=b'{"model": ', headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert error_of(dialect, answer)["type"] == "validation_error"


@BY_PATH
def test_unknown_model_is_answered_404_as_printed(
    client: httpx.Client, path: str, dialect: str
) -> None:
    for stream in (False, True):
        answer = client.post(path, json={**HELLO, "model": "gpt-9", "stream": stream})
        assert answer.status_code == 404
        error = error_of(dialect, answer)
        assert error["type"] == "validation_error"
        assert error["details"] == {"field": "model", "issue": "Model not found"}
    answer = client.get(f"{path.removesuffix('/chat/completions')}/models/gpt-9")
    assert answer.status_code == 404
    assert answer.json()["error"]["details"] == {"field": "model", "issue": "Model not found"}


def test_wrong_method_is_answered_405(client: httpx.Client) -> None:
    for path in (ANTHROPIC, OPENAI):
        assert client.get(path).status_code == 405


@BY_PATH
def test_broken_stream_ends_with_an_error_of_its_format(
    client: httpx.Client, path: str, dialect: str
) -> None:
    body = asking("[[sim tokens=20 fault=cut:9]]", stream=True)
    answer = client.post(path, json=body)
    streamed(dialect, answer, error=True)
    last = json.loads(answer.text.strip().splitlines()[-1].removeprefix("data: "))
    assert set(last["error"]["details"]) == {"field", "issue"}


@BY_PATH
def test_error_before_the_first_event_of_a_stream_has_its_status(
    client: httpx.Client, path: str, dialect: str
) -> None:
    for fault, status in (("status:500", 500), ("status:429", 429), ("status:529", 503)):
        answer = client.post(path, json=asking(f"[[sim fault={fault}]]", stream=True))
        assert answer.status_code == status, answer.text
        error_of(dialect, answer)


# Content types


@BY_PATH
def test_json_is_the_required_content_type(client: httpx.Client, path: str, dialect: str) -> None:
    body = json.dumps(HELLO).encode()
    for accepted in ("application/json", "application/json; charset=utf-8"):
        answer = client.post(path, content=body, headers={"content-type": accepted})
        assert SAID in said(dialect, answer)
    for refused in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = client.post(path, content=body, headers={"content-type": refused})
        assert answer.status_code == 415, refused
        error_of(dialect, answer)


# Limits


def test_an_address_has_60_requests_a_minute_and_10_more(
    gateway: Gateway, new_address: str
) -> None:
    """More only as time passes: one for each second."""
    began = time.monotonic()
    with client_from(gateway, new_address) as client:
        admitted = 0
        while (answer := client.get("/v1/models")).status_code == 200:
            admitted += 1
    passed = time.monotonic() - began
    assert 70 <= admitted <= 70 + passed + 1
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert error_of("messages", answer)["type"] == "rate_limit_error"
    with client_from(gateway, "127.8.8.8") as client:
        assert client.get("/v1/models").status_code == 200


@BY_PATH
def test_rate_limit_is_refused_in_the_format_of_the_endpoint(
    client: httpx.Client, path: str, dialect: str
) -> None:
    while (answer := client.post(path, json={})).status_code != 429:
        assert answer.status_code == 400
    error_of(dialect, answer)
    assert int(answer.headers["retry-after"]) >= 1


@BY_PATH
def test_answers_show_the_rate_limit(client: httpx.Client, path: str, dialect: str) -> None:
    before = int(time.time())
    answers = [
        client.post(path, json=HELLO),
        client.post(path, json=asking("Hello", stream=True)),
        client.post(path, json={**HELLO, "model": "gpt-9"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404]
    for answer in answers:
        assert answer.headers["X-RateLimit-Limit"] == "60"
        assert before <= int(answer.headers["X-RateLimit-Reset"]) <= time.time() + 61
    assert answers[0].headers["X-RateLimit-Remaining"] == "59"
    assert all(0 < int(one.headers["X-RateLimit-Remaining"]) < 60 for one in answers)


# Clients


CURL_ANTHROPIC = """\
curl -X POST http://localhost:8000/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{"model": "claude-3-5-sonnet-20241022", "messages": [{"role": "user", "content": "Hello"}]}'
"""

CURL_OPENAI = """\
curl -X POST http://localhost:8000/openai/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{"model": "claude-3-5-sonnet-20241022", "messages": [{"role": "user", "content": "Hello"}]}'
"""

PYTHON = """
data = {"model": "claude-3-5-sonnet-20241022", "messages": [{"role": "user", "content": "Hello"}]}

# Using OpenAI client
from openai import OpenAI
client = OpenAI(base_url="http://localhost:8000/v1", api_key="dummy")
print(client.chat.completions.create(**data).choices[0].message.content)

# Using Anthropic client
from anthropic import Anthropic
client = Anthropic(base_url="http://localhost:8000", api_key="dummy")
print(client.messages.create(**data, max_tokens=1000).content[0].text)

# Using requests
import requests
response = requests.post("http://localhost:8000/v1/chat/completions", json=data)
print(response.json()["content"][0]["text"])
"""
"""With what a user does with each client."""

JAVASCRIPT = """
const requestData = {
  model: 'claude-3-5-sonnet-20241022',
  messages: [{ role: 'user', content: 'Hello' }]
};

// Using OpenAI SDK
import OpenAI from 'openai';
const client = new OpenAI({
  baseURL: 'http://localhost:8000/v1',
  apiKey: 'dummy'
});
console.log((await client.chat.completions.create(requestData)).choices[0].message.content);

// Using fetch
const response = await fetch('http://localhost:8000/v1/chat/completions', {
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(requestData)
});
console.log((await response.json()).content[0].text);
"""


def test_curl_in_anthropic_format(url_from_new_address: str, tmp_path: Path) -> None:
    answer = snippets.curl(CURL_ANTHROPIC, {HOST: url_from_new_address}, tmp_path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    body = check("message", answer.json())
    assert body["content"][0]["text"] == f"You said: Hello\n\n{SAID}"
    assert answer.headers["x-ratelimit-remaining"] == "59"


def test_curl_in_openai_format(url_from_new_address: str, tmp_path: Path) -> None:
    answer = snippets.curl(CURL_OPENAI, {HOST: url_from_new_address}, tmp_path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    body = check("chat.completion", answer.json())
    assert body["choices"][0]["message"]["content"] == f"You said: Hello\n\n{SAID}"
    assert answer.headers["x-ratelimit-remaining"] == "59"


def test_python_clients(embedded: Gateway, tmp_path: Path, new_address: str) -> None:
    with from_address(embedded.url, new_address) as url:
        printed = snippets.python(PYTHON, {HOST: url}, tmp_path)
    assert printed.count(f"You said: Hello\n\n{SAID}\n") == 3


def test_javascript_clients(embedded: Gateway, tmp_path: Path, new_address: str) -> None:
    with from_address(embedded.url, new_address) as url:
        printed = snippets.node(JAVASCRIPT, {HOST: url}, tmp_path)
    assert printed.count(f"You said: Hello\n\n{SAID}\n") == 2


class Clients(NamedTuple):
    """Both SDKs at one host, with the key "dummy", and OpenAI's at the base URL of its own."""

    openai: openai.AsyncOpenAI
    openai_only: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic


@pytest.fixture
async def clients(url_from_new_address: str) -> AsyncIterator[Clients]:
    url = url_from_new_address
    options: Any = {"api_key": "dummy", "max_retries": 0}
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", **options) as chat,
        openai.AsyncOpenAI(base_url=f"{url}/openai/v1", **options) as chat_only,
        anthropic.AsyncAnthropic(base_url=url, **options) as messages,
    ):
        yield Clients(chat, chat_only, messages)


async def test_both_sdks_at_one_host_at_once(clients: Clients) -> None:
    """Plain and streamed; each reads its own format."""

    async def chat(text: str) -> str | None:
        answer = await clients.openai.chat.completions.create(**asking(text))
        return answer.choices[0].message.content  # type: ignore[no-any-return]

    async def chat_stream(text: str) -> str:
        chunks = await clients.openai.chat.completions.create(**asking(text), stream=True)
        return "".join([one.choices[0].delta.content or "" async for one in chunks if one.choices])

    async def message(text: str) -> str:
        answer = await clients.anthropic.messages.create(**asking(text), max_tokens=1000)
        return answer.content[0].text  # type: ignore[no-any-return]

    async def message_stream(text: str) -> str:
        async with clients.anthropic.messages.stream(**asking(text), max_tokens=1000) as stream:
            return "".join([text async for text in stream.text_stream])

    ways = (chat, chat_stream, message, message_stream)
    texts = [f"number {number}" for number in range(20)]
    answers = await asyncio.gather(*(ways[n % 4](text) for n, text in enumerate(texts)))
    assert answers == [f"You said: {text}\n\n{SAID}" for text in texts]


async def test_both_sdks_list_the_models(clients: Clients) -> None:
    ids = [SONNET, HAIKU, OPUS]
    assert [model.id async for model in clients.openai.models.list()] == ids
    assert [model.id async for model in clients.openai_only.models.list()] == ids
    page = await clients.anthropic.models.list()
    assert [model.id for model in page.data] == ids
    assert (await clients.anthropic.models.retrieve(OPUS)).display_name == "Claude 3 Opus"
    assert (await clients.openai.models.retrieve(OPUS)).id == OPUS


async def test_openai_sdk_reads_errors(clients: Clients) -> None:
    for sdk in (clients.openai, clients.openai_only):
        with pytest.raises(openai.NotFoundError) as unknown:
            await sdk.chat.completions.create(**{**HELLO, "model": "gpt-9"})
        assert unknown.value.param == "model"
        assert unknown.value.type == "validation_error"
        assert unknown.value.body["details"]["field"] == "model"  # type: ignore[index]
        with pytest.raises(openai.BadRequestError) as wrong:
            await sdk.chat.completions.create(**{**HELLO, "temperature": "warm"})
        assert wrong.value.param == "temperature"
        with pytest.raises(openai.NotFoundError):
            await sdk.embeddings.create(model=SONNET, input="Hello")
        with pytest.raises(openai.NotFoundError):
            await sdk.completions.create(model=SONNET, prompt="Hello")
        with pytest.raises(openai.APIError, match="CLI failed"):
            body = asking("[[sim tokens=20 fault=cut:9]]")
            async for _ in await sdk.chat.completions.create(**body, stream=True):
                pass


async def test_anthropic_sdk_reads_errors(clients: Clients) -> None:
    create = clients.anthropic.messages.create
    with pytest.raises(anthropic.NotFoundError, match="gpt-9"):
        await create(**{**HELLO, "model": "gpt-9"}, max_tokens=10)
    with pytest.raises(anthropic.BadRequestError) as wrong:
        await create(**HELLO, max_tokens=10, extra_body={"tools": "all"})
    error = wrong.value.body["error"]  # type: ignore[index]
    assert error["type"] == "validation_error"
    assert error["details"]["field"] == "tools"
    with pytest.raises(anthropic.APIStatusError) as broken:
        async for _ in await create(
            **asking("[[sim tokens=20 fault=cut:9]]"), max_tokens=100, stream=True
        ):
            pass
    assert broken.value.body["error"]["details"]["issue"]  # type: ignore[index]


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"name": "weather", "description": "of a city", "input_schema": SCHEMA}
PDF = base64.b64encode(
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1"
    b">>endobj 3 0 obj<</Type/Page/MediaBox[0 0 3 3]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"
).decode()
PICTURE = {"type": "base64", "media_type": "image/png", "data": PIXEL}
IMAGE: Any = {"type": "image", "source": PICTURE}
DOCUMENT: Any = {
    "type": "document",
    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
}
CALL = {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Ulm"}}
RESULT: Any = {"type": "tool_result", "tool_use_id": "toolu_01", "content": "rain in Ulm"}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def turns(*contents: Any) -> Any:
    """Messages of user and assistant in turn."""
    return [
        {"role": "assistant" if n % 2 else "user", "content": content}
        for n, content in enumerate(contents)
    ]


FORMATS: Mapping[str, tuple[dict[str, Any], str]] = {
    "string": ({"messages": turns("Hello")}, "You said: Hello"),
    "blocks": ({"messages": turns([text("one"), text("two")])}, "You said: one"),
    "system": ({"system": "Be brief.", "messages": turns("Hello")}, "You said: Hello"),
    "system blocks": (
        {"system": [text("Be brief."), text("Be kind.")], "messages": turns("Hello")},
        "You said: Hello",
    ),
    "turns": ({"messages": turns("Hello", "Hi", [text("and now?")])}, "You said: and now?"),
    "image": (
        {"messages": turns([IMAGE, text("What is it? [[sim see=1]]")])},
        "I see 1 media: image image/png 1x1",
    ),
    "document": (
        {"messages": turns([DOCUMENT, text("What is it? [[sim see=1]]")])},
        "I see 1 media: document application/pdf",
    ),
    "tool result": (
        {"tools": [WEATHER], "messages": turns("How is it?", [CALL], [RESULT])},
        "The tool returned: rain in Ulm",
    ),
}
"""Members of a request, and how its answer begins."""


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("path", [ANTHROPIC, MESSAGES])
def test_each_format_of_messages_is_answered(client: httpx.Client, path: str, form: str) -> None:
    members, begins = FORMATS[form]
    body = {"model": SONNET, "max_tokens": 500, **members}
    assert said("messages", client.post(path, json=body)).startswith(begins)
    answer = client.post(path, json={**body, "stream": True})
    assert streamed("messages", answer).startswith(begins)


async def test_anthropic_sdk_calls_tools_and_thinks(clients: Clients) -> None:
    create = clients.anthropic.messages.create
    word = call_word("weather", {"city": "Ulm"})
    asked: Any = turns(f"How is it? [[sim {word}]]")
    answer: Any = await create(model=SONNET, max_tokens=500, tools=[WEATHER], messages=asked)
    assert answer.stop_reason == "tool_use"
    (call,) = answer.content
    assert (call.name, call.input) == ("weather", {"city": "Ulm"})
    result = {**RESULT, "tool_use_id": call.id}
    asked = [*asked, {"role": "assistant", "content": [call]}, *turns([result])]
    answer = await create(model=SONNET, max_tokens=500, tools=[WEATHER], messages=asked)
    assert answer.content[0].text.startswith("The tool returned: rain in Ulm")
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    body: Any = {"model": HAIKU, "max_tokens": 2000, "thinking": thinking}
    answer = await create(**body, messages=turns("Why?"))
    assert [block.type for block in answer.content] == ["thinking", "text"]
    again: Any = [*turns("Why?"), {"role": "assistant", "content": answer.content}, *turns("So?")]
    async with clients.anthropic.messages.stream(**body, messages=again) as stream:
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    count = await clients.anthropic.messages.count_tokens(model=SONNET, messages=turns("Hello"))
    assert count.input_tokens > 0


async def test_openai_sdk_calls_tools(clients: Clients) -> None:
    """Its tools are a sign of their format at the base URL that both share."""
    function = {"name": "weather", "parameters": SCHEMA}
    tools: Any = [{"type": "function", "function": function}]
    for sdk in (clients.openai, clients.openai_only):
        asked: Any = turns(f"How is it? [[sim {call_word('weather', {'city': 'Ulm'})}]]")
        create = sdk.chat.completions.create
        answer: Any = await create(model=SONNET, messages=asked, tools=tools)
        (call,) = answer.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Ulm"}
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain in Ulm"}
        asked = [*asked, answer.choices[0].message, result]
        answer = await create(model=SONNET, messages=asked, tools=tools)
        assert answer.choices[0].message.content.startswith("The tool returned: rain in Ulm")


# The program


@BY_PATH
def test_program_answers_plain_and_streamed(
    signed_in: Gateway, simulator: Program, path: str, dialect: str
) -> None:
    """Signed in on the host, it needs no key of the caller."""
    with client_from(signed_in, "127.7.1.1") as client:
        body = asking("Hello [[sim strict=1]]", temperature=0.7)  # which its vendor would refuse
        assert SAID in said(dialect, client.post(path, json=body))
        answer = client.post(path, json=asking("Tell me a story", stream=True))
        assert streamed(dialect, answer) == f"You said: Tell me a story\n\n{SAID}"
    none_left(signed_in)


WRONG: tuple[Any, ...] = ({"thinking": {"type": "deep"}}, {"top_k": -1}, {"tools": [{}]})
"""Members that the program's own vendor would refuse."""


def test_program_refuses_invalid_parameters_with_400(signed_in: Gateway) -> None:
    """In its own format the body is passed on, and the program is not started for it."""
    with client_from(signed_in, "127.7.1.3") as client:
        for path in (ANTHROPIC, MESSAGES):
            for wrong in WRONG:
                answer = client.post(path, json={**HELLO, **wrong})
                assert answer.status_code == 400, answer.text
                error = error_of("messages", answer)
                assert error["type"] == "validation_error"
                assert error["details"]["field"].partition(".")[0] in wrong, error


def test_models_are_the_newest_of_the_program(signed_in: Gateway, simulator: Program) -> None:
    before = stats(simulator)["seen"]
    with client_from(signed_in, "127.7.1.2") as client:
        for model in (SONNET, HAIKU, OPUS):
            assert client.post(ANTHROPIC, json={**HELLO, "model": model}).json()["model"] == model
    seen = {
        name.rsplit("-", 2)[0]: count["requests"] - before.get(name, {"requests": 0})["requests"]
        for name, count in stats(simulator)["seen"].items()
    }
    assert {name: seen.get(name) for name in ("claude-sonnet", "claude-opus")} == {
        "claude-sonnet": 2,
        "claude-opus": 1,
    }


async def test_program_gets_each_format_of_messages_as_it_was(tmp_path: Path) -> None:
    system = [text("Be brief."), text("Be kind.")]
    messages = turns(
        [IMAGE, DOCUMENT, text("What is it?")],
        [text("A pixel."), CALL],
        [{**RESULT, "content": [text("rain"), IMAGE]}],
        [text("It rains.")],
        "And now?",
    )
    body = {"model": SONNET, "max_tokens": 500, "system": system, "tools": [WEATHER]}
    async with SimulatorServer() as vendor:
        gateway = serve_profile(PROFILE, tmp_path, vendor)
        try:
            url = f"{gateway.url}{ANTHROPIC}"
            async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
                answer = await client.post(url, json={**body, "messages": messages})
            assert said("messages", answer) == f"You said: And now?\n\n{SAID}"
        finally:
            await asyncio.to_thread(gateway.stop)
        (request,) = [one for one in vendor.recent if one.method == b"POST"]
    assert isinstance(request.body, bytes)
    asked = json.loads(request.body)
    shown = [message for message in asked["messages"] if message["role"] != "system"]
    for message in shown:
        for block in message["content"] if isinstance(message["content"], list) else ():
            block.pop("cache_control", None)
    assert shown == messages
    assert asked["system"][-1]["text"] == "Be brief.\n\nBe kind."
    (tool,) = asked["tools"]
    assert {name: tool[name] for name in WEATHER} == WEATHER


def test_claude_code_works_through_the_proxy(signed_in: Gateway, tmp_path: Path) -> None:
    """With its own tools, whose calls come back through the program of the host."""
    command = {"command": "echo written-$((6*7)) | tee note.txt", "description": "a note"}
    prompt = f"Leave a note. [[sim {call_word('Bash', command)}]]"
    events = claude_code(prompt, url=signed_in.url, key="dummy", model=SONNET, folder=tmp_path)
    assert (tmp_path / "work/note.txt").read_text() == "written-42\n"
    assert (events[-1]["type"], events[-1]["subtype"]) == ("result", "success")
    assert "written-42" in events[-1]["result"]


BROKEN = "#!/bin/sh\necho Segmentation fault\ncat > /dev/null\n"
"""A program that starts and then says what makes no sense."""


@pytest.fixture(scope="module")
def out_of_order(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    """The profile with a model for each way in which the program is out of order."""
    folder = tmp_path_factory.mktemp("out-of-order")
    script = folder / "claude"
    script.write_text(BROKEN)
    script.chmod(stat.S_IRWXU)
    (profile,) = document_of(PROFILE)["upstreams"]
    upstream = pointed_at(simulator.url, profile, folder / "home")
    signed_out = {**upstream["environment"]}
    del signed_out["ANTHROPIC_AUTH_TOKEN"]
    upstreams = [
        {**upstream, "name": "works"},
        {**upstream, "name": "broken", "command": str(script)},
        {**upstream, "name": "missing", "command": "no-such-claude"},
        {**upstream, "name": "cannot-start", "command": "/bin/false"},
        {**upstream, "name": "signed-out", "environment": signed_out},
    ]
    models = [
        {"id": one["name"], "targets": [f"{one['name']}/sonnet"], "family": "claude-sonnet"}
        for one in upstreams
    ]
    changes = {"upstreams": upstreams, "models": models}
    program = serve_profile(PROFILE, folder, simulator, changes=changes)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


def out_of_order_answer(gateway: Gateway, path: str, model: str, words: str) -> httpx.Response:
    with client_from(gateway, "127.7.2.1") as client:
        return client.post(path, json={**asking(words), "model": model})


@BY_PATH
def test_error_of_the_program_is_answered_500(
    out_of_order: Gateway, path: str, dialect: str
) -> None:
    """Its own, which is nonsense on its output, and its vendor's."""
    model, words = ("broken", "Hello") if path == OPENAI else ("works", "[[sim fault=status:500]]")
    answer = out_of_order_answer(out_of_order, path, model, words)
    assert answer.status_code == 500, answer.text
    assert error_of(dialect, answer)["details"]["field"] is None
    assert "fault" not in answer.text


@BY_PATH
def test_program_that_is_not_available_is_answered_503(
    out_of_order: Gateway, path: str, dialect: str
) -> None:
    for model in ("missing", "cannot-start"):
        answer = out_of_order_answer(out_of_order, path, model, "Hello")
        assert answer.status_code == 503, answer.text
        error_of(dialect, answer)
        assert int(answer.headers["retry-after"]) >= 1


@BY_PATH
def test_program_that_is_signed_out_is_answered_401(
    out_of_order: Gateway, path: str, dialect: str
) -> None:
    answer = out_of_order_answer(out_of_order, path, "signed-out", "Hello")
    assert answer.status_code == 401, answer.text
    error = error_of(dialect, answer)
    assert error["type"] == "authentication_error"
    assert "Sign in" in error["message"]
