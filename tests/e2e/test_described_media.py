"""A text model answers about a picture, a sound, a film and a document, on the real server.

The text models are the simulator in three dialects, which repeats what it is asked; the describer
is the simulator too, which says what media it sees.
"""

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.edge.media.decode import samples

from .conftest import Start, shared_store
from .ledger import rows
from .program import DEADLINE, Gateway, Program
from .wire import ANTHROPIC, CHAT, MESSAGES

RESPONSES = "/v1/responses"
DIALECTS = ("openai", "anthropic", "responses")
PRICE = {"input": "1", "output": "2"}


def described(simulator: str, **rest: Any) -> dict[str, Any]:
    """A configuration of text models, and a describer that says what it sees."""
    address = f"{simulator}/v1"
    upstreams = [
        {"name": f"far-{dialect}", "dialect": dialect, "base_url": address} for dialect in DIALECTS
    ]
    eye = {"name": "eye", "dialect": "openai", "base_url": address, "headers": {"x-sim": "see=1"}}
    models = [
        {"id": f"blind-{name}", "targets": [f"far-{name}/m"], "modalities": ["text"]}
        for name in DIALECTS
    ]
    seeing = {
        "id": "eye",
        "targets": ["eye/eye"],
        "modalities": ["text", "image", "audio"],
        "price": PRICE,
    }
    return {
        "auth": {"mode": "none"},
        "limits": {"address": "1000000/s"},
        "upstreams": [*upstreams, eye],
        "models": [*models, seeing],
        "media": {"image": "eye", "audio": "eye", "video": "eye"},
        **rest,
    }


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    program = Gateway(tmp_path_factory.mktemp("described"), described(simulator.url))
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


class Sample:
    """A file, and words that its text has."""

    def __init__(self, type_: str, content: bytes, *words: str) -> None:
        self.type = type_
        self.data = b64encode(content).decode()
        self.words = words

    @property
    def url(self) -> str:
        return f"data:{self.type};base64,{self.data}"

    @property
    def kind(self) -> str:
        kind = self.type.partition("/")[0]
        return "document" if kind == "application" else kind


SAMPLES = {
    "png": Sample("image/png", samples.image(), "I see 1 media: image image/png 40x30"),
    "wav": Sample("audio/wav", samples.wav(samples.tone(1)), "I see 1 media: audio audio/wav"),
    "mp4": Sample("video/mp4", samples.video(4), "I see", "image/jpeg"),
    "pdf": Sample(
        "application/pdf",
        samples.pdf("The water runs at nine sharp.", ""),
        "[page 1]",
        "The water runs at nine sharp.",
        "[page 2]",
        "I see 1 media: image image/png",
    ),
}


def chat_part(sample: Sample) -> dict[str, Any]:
    match sample.kind:
        case "image":
            return {"type": "image_url", "image_url": {"url": sample.url}}
        case "audio":
            return {"type": "input_audio", "input_audio": {"data": sample.data, "format": "wav"}}
        case "video":
            return {"type": "video_url", "video_url": {"url": sample.url}}
    return {"type": "file", "file": {"filename": "a.pdf", "file_data": sample.url}}


def responses_part(sample: Sample) -> dict[str, Any]:
    match sample.kind:
        case "image":
            return {"type": "input_image", "image_url": sample.url}
        case "audio":
            return {"type": "input_audio", "input_audio": {"data": sample.data, "format": "wav"}}
    return {"type": "input_file", "filename": "a", "file_data": sample.url}


def messages_part(sample: Sample) -> dict[str, Any]:
    source = {"type": "base64", "media_type": sample.type, "data": sample.data}
    return {"type": "image" if sample.kind == "image" else "document", "source": source}


def asked(path: str, sample: Sample, question: str) -> dict[str, Any]:
    """A request with the media in the user's turn."""
    if path == CHAT:
        parts = [{"type": "text", "text": question}, chat_part(sample)]
        return {"messages": [{"role": "user", "content": parts}]}
    if path == RESPONSES:
        parts = [{"type": "input_text", "text": question}, responses_part(sample)]
        return {"input": [{"role": "user", "content": parts}]}
    parts = [{"type": "text", "text": question}, messages_part(sample)]
    return {"max_tokens": 4000, "messages": [{"role": "user", "content": parts}]}


def shown(path: str, sample: Sample) -> dict[str, Any]:
    """A request with the media in the result of a tool, which the model then says."""
    script = "Look at it. [[sim call=view:%7B%7D]]"
    parameters: dict[str, Any] = {"type": "object", "properties": {}}
    if path == CHAT:
        call = {"id": "call_1", "type": "function", "function": {"name": "view", "arguments": "{}"}}
        return {
            "messages": [
                {"role": "user", "content": script},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": [chat_part(sample)]},
            ],
            "tools": [{"type": "function", "function": {"name": "view", "parameters": parameters}}],
        }
    if path == RESPONSES:
        call = {"type": "function_call", "call_id": "call_1", "name": "view", "arguments": "{}"}
        output = [responses_part(sample)]
        return {
            "input": [
                {"role": "user", "content": script},
                call,
                {"type": "function_call_output", "call_id": "call_1", "output": output},
            ],
            "tools": [{"type": "function", "name": "view", "parameters": parameters}],
        }
    used = {"type": "tool_use", "id": "toolu_1", "name": "view", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [messages_part(sample)]}
    return {
        "max_tokens": 4000,
        "messages": [
            {"role": "user", "content": script},
            {"role": "assistant", "content": [used]},
            {"role": "user", "content": [result]},
        ],
        "tools": [{"name": "view", "input_schema": parameters}],
    }


def said(path: str, body: bytes, *, stream: bool) -> str:
    """The text of an answer."""
    if stream:
        events = [
            json.loads(line[6:])
            for line in body.decode().splitlines()
            if line.startswith("data: {")
        ]
        texts = []
        for event in events:
            if path == CHAT:
                texts += [each["delta"].get("content") or "" for each in event["choices"]]
            elif event["type"] == "response.output_text.delta":
                texts.append(event["delta"])
            elif event["type"] == "content_block_delta":
                texts.append(event["delta"].get("text", ""))
        return "".join(texts)
    answer = json.loads(body)
    if path == CHAT:
        return str(answer["choices"][0]["message"]["content"])
    if path == RESPONSES:
        parts = [part for item in answer["output"] for part in item.get("content") or ()]
        return "".join(part["text"] for part in parts)
    return "".join(block.get("text", "") for block in answer["content"])


async def answer_of(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], *, stream: bool
) -> str:
    headers = ANTHROPIC if path == MESSAGES else {}
    sent = {**body, **({"stream": True} if stream else {})}
    answer = await client.post(path, json=sent, headers=headers)
    assert answer.status_code == 200, answer.text
    return said(path, answer.content, stream=stream)


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
async def test_text_models_of_every_dialect_answer_about_every_kind(
    gateway: Gateway, path: str
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE) as client:
        for name, sample in SAMPLES.items():
            for dialect in DIALECTS:
                for stream in (False, True):
                    body = asked(path, sample, "What is this?") | {"model": f"blind-{dialect}"}
                    text = await answer_of(client, path, body, stream=stream)
                    where = (name, dialect, stream)
                    assert f'<media kind="{sample.kind}" number="1"' in text, where
                    for words in sample.words:
                        assert words in text, (*where, text)


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
async def test_media_in_the_result_of_a_tool_are_text_in_that_result(
    gateway: Gateway, path: str
) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE) as client:
        for name, sample in SAMPLES.items():
            for dialect in DIALECTS:
                for stream in (False, True):
                    body = shown(path, sample) | {"model": f"blind-{dialect}"}
                    text = await answer_of(client, path, body, stream=stream)
                    for words in sample.words:
                        assert words in text, (name, dialect, stream, text)


async def test_descriptions_are_made_once_for_all_workers_and_charged_as_rows_of_their_own(
    start: Start, simulator: Program, request: pytest.FixtureRequest
) -> None:
    store = await shared_store(request)
    gateway = start(described(simulator.url, server={"workers": 2}, store=store))
    body = asked(CHAT, SAMPLES["png"], "What?") | {"model": "blind-openai"}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE) as client:
        answers = await asyncio.gather(*[client.post(CHAT, json=body) for _ in range(12)])
        assert {answer.status_code for answer in answers} == {200}
        charged = [a for a in answers if a.headers.get("x-credits-used")]
        assert len(charged) == 1
        found = await client.get(f"/v1/requests/{charged[0].headers['x-request-id']}")
    assert gateway.stop() == 0, gateway.stderr
    assert found.json()["included"] == {"describe": 1}
    assert found.json()["credits"] == charged[0].headers["x-credits-used"]
    written = await rows(store["sql"])
    children = [row for row in written if row.endpoint == "describe"]
    assert len(children) == 1 and len(written) == 13
    assert children[0].model == "eye" and children[0].input > 0
