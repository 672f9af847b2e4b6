"""Requests that are corrected when their target refuses a member, inside the whole chain."""

import json
from typing import Any

import pytest

from edge.proxy.corrections.change import NO_STREAM_OPTIONS
from edge.upstreams import Disconnected
from middlewares.exchange import Usage
from tests.asgi import Recorded, request
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
STREAM = [
    b'data: {"model":"up","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}\n\n',
    b'data: {"model":"up","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
]
PLAIN = (
    b'{"id":"x","object":"chat.completion","model":"up","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)
ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    MESSAGES: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    RESPONSES: {"input": "Hi"},
}
every_caller = pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])


def refused(message: str, status: int = 422, **more: Any) -> Answer:
    return Answer(
        [json.dumps({"error": {"message": message, **more}}).encode()],
        status=status,
        headers=[JSON],
    )


def unknown(name: str) -> Answer:
    detail = [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs canary"}]
    return Answer([json.dumps({"detail": detail}).encode()], status=422, headers=[JSON])


async def ask(gateway: ScriptedGateway, path: str = CHAT, **members: Any) -> Recorded:
    body = {"model": "only-oai", **ASKED[path], **members}
    return await request(gateway.app, "POST", path, json=body)


def bodies(up: Scripted) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in up.requests if isinstance(request.body, bytes)]


@every_caller
async def test_stream_options_that_are_refused_are_left_out_at_once_and_from_then_on(
    path: str,
) -> None:
    """BerriAI/litellm#8978: a member that the caller did not send is not its fault."""
    up = Scripted(unknown("stream_options"), Answer(STREAM))
    gateway = ScriptedGateway(up)
    for _ in range(2):
        answer = await ask(gateway, path, stream=True)
        assert answer.status == 200
        assert "Hi" in answer.text and "canary" not in answer.text
    first, second, third = bodies(up)
    assert first["stream_options"] == {"include_usage": True}
    assert second == third == {name: first[name] for name in first if name != "stream_options"}
    for exchange in gateway.exchanges:
        assert (exchange.usage, exchange.usage_reported) == (Usage(input=3, output=2), True)
        assert [attempt.status for attempt in exchange.attempts] == [200]
        assert exchange.outcome == "completed"
    assert [exchange.attempts[0].corrections for exchange in gateway.exchanges] == [1, 0]
    assert [line["dropped"] for line in gateway.log] == [[NO_STREAM_OPTIONS.note]] * 2
    assert gateway.sample("penstock_upstream_attempts_total", upstream="oai", status="200") == 2
    assert gateway.sample("penstock_upstream_attempts_total", upstream="oai", status="422") is None
    assert gateway.sample("penstock_upstream_corrections_total", upstream="oai") == 1


@every_caller
@pytest.mark.parametrize("stream", [False, True])
async def test_a_correction_of_this_request_alone_is_not_remembered(
    path: str, stream: bool
) -> None:
    message = "invalid temperature: only 1 is allowed for this model"
    answer = Answer(STREAM) if stream else Answer([PLAIN], headers=[JSON])
    model = {"model": "both-models"}
    document = {
        "models": [{"id": "both-models", "targets": ["oai/llama"]}],
    }
    up = Scripted(refused(message, 400), answer, refused(message, 400), answer)
    gateway = ScriptedGateway(up, document=document)
    for _ in range(2):
        assert (await ask(gateway, path, stream=stream, temperature=0.2, **model)).status == 200
    assert ["temperature" in body for body in bodies(up)] == [True, False, True, False]


async def test_a_correction_is_no_try_of_its_own() -> None:
    document = {
        "fallback": {"max_attempts": 1},
        "models": [{"id": "only-oai", "targets": ["oai/a", "oai/b"]}],
    }
    up = Scripted(unknown("stream_options"), Answer(STREAM))
    gateway = ScriptedGateway(up, document=document)
    assert (await ask(gateway, stream=True)).status == 200
    assert [body["model"] for body in bodies(up)] == ["a", "a"]


async def test_a_corrected_request_that_fails_goes_to_the_next_target_as_it_was() -> None:
    document = {"models": [{"id": "only-oai", "targets": ["oai/a", "oai/b"]}]}
    up = Scripted(unknown("stream_options"), Answer([b""], status=500), Answer(STREAM))
    gateway = ScriptedGateway(up, document=document)
    assert (await ask(gateway, stream=True)).status == 200
    assert [(body["model"], "stream_options" in body) for body in bodies(up)] == [
        ("a", True),
        ("a", False),
        ("b", True),
    ]
    assert [attempt.status for attempt in gateway.exchanges[0].attempts] == [500, 200]
    assert "dropped" not in gateway.log[0]
    await ask(gateway, stream=True)
    assert "stream_options" in bodies(up)[-1]  # nothing has shown yet that `a` answers without


async def test_a_corrected_request_that_is_not_answered_may_have_been_worked_on() -> None:
    document = {
        "fallback": {"retry_unanswered": False},
        "models": [{"id": "only-oai", "targets": ["oai/a", "oai/b"]}],
    }
    lost = Answer(before=[Disconnected("gone", sent=True)])
    up = Scripted(unknown("stream_options"), lost, Answer(STREAM))
    gateway = ScriptedGateway(up, document=document)
    assert (await ask(gateway, stream=True)).status == 502
    assert len(up.requests) == 2
    attempt = gateway.exchanges[0].attempts[0]
    assert (attempt.status, attempt.unanswered) == (0, True)


async def test_what_is_refused_again_is_not_sent_again() -> None:
    up = Scripted(unknown("stream_options"))
    gateway = ScriptedGateway(up)
    answer = await ask(gateway, stream=True)
    assert (answer.status, len(up.requests)) == (400, 2)
    assert gateway.exchanges[0].attempts[0].corrections == 1
    assert not await remembered(gateway, up)


async def remembered(gateway: ScriptedGateway, up: Scripted) -> bool:
    up.answers[:] = [Answer(STREAM)]
    await ask(gateway, stream=True)
    return "stream_options" not in bodies(up)[-1]


async def test_members_are_corrected_one_after_the_other_within_a_bound() -> None:
    names = ("store", "metadata", "user", "seed")
    up = Scripted(*(unknown(name) for name in names), Answer([PLAIN], headers=[JSON]))
    gateway = ScriptedGateway(up)
    answer = await ask(gateway, store=True, metadata={"a": "b"}, user="u", seed=1)
    assert answer.status == 400
    assert len(up.requests) == 4
    assert answer.json()["error"]["param"] == "seed"


async def test_a_refusal_of_what_the_caller_asked_is_not_corrected() -> None:
    up = Scripted(unknown("response_format"))
    answer = await ask(ScriptedGateway(up), response_format={"type": "json_object"})
    assert (answer.status, len(up.requests)) == (400, 1)
    assert answer.json()["error"]["param"] == "response_format"


async def test_a_target_does_not_teach_what_another_takes() -> None:
    document = {
        "models": [
            {"id": "only-oai", "targets": ["oai/a"]},
            {"id": "another", "targets": ["oai/b"]},
        ]
    }
    up = Scripted(unknown("stream_options"), Answer(STREAM))
    gateway = ScriptedGateway(up, document=document)
    await ask(gateway, stream=True)
    await ask(gateway, stream=True, model="another")
    assert "stream_options" in bodies(up)[-1]


@pytest.mark.parametrize("stream_usage", [False, True])
@every_caller
async def test_stream_usage_false_never_asks(path: str, stream_usage: bool) -> None:
    upstream = {
        "name": "oai",
        "dialect": "openai",
        "base_url": "http://127.0.0.1:9/v1",
        "stream_usage": stream_usage,
    }
    document = {
        "upstreams": [upstream],
        "models": [{"id": "only-oai", "targets": ["oai/a"]}],
    }
    up = Scripted(Answer(STREAM))
    gateway = ScriptedGateway(up, document=document, configured=True)
    assert (await ask(gateway, path, stream=True)).status == 200
    assert ("stream_options" in bodies(up)[0]) is stream_usage
    assert gateway.exchanges[0].usage == Usage(input=3, output=2)


@pytest.mark.parametrize("disclose", [False, True])
@every_caller
async def test_disclose_gives_callers_the_upstreams_message(path: str, disclose: bool) -> None:
    upstream = {
        "name": "oai",
        "dialect": "openai",
        "base_url": "http://127.0.0.1:9/v1",
        "disclose": disclose,
    }
    document = {
        "upstreams": [upstream],
        "models": [{"id": "only-oai", "targets": ["oai/a"]}],
    }
    up = Scripted(refused("Canary Inc.: no, https://canary.example.com, sk-canary123456", 400))
    answer = await ask(ScriptedGateway(up, document=document, configured=True), path)
    assert answer.status == 400
    assert ("Canary Inc.: no, ***, sk-***" in answer.text) is disclose
    assert "canary" not in answer.text


@pytest.mark.parametrize("disclose", [False, True])
@pytest.mark.parametrize("begun", [False, True])
@every_caller
async def test_disclose_gives_callers_the_message_of_an_error_inside_a_stream(
    path: str, begun: bool, disclose: bool
) -> None:
    upstream = {
        "name": "oai",
        "dialect": "openai",
        "base_url": "http://127.0.0.1:9/v1",
        "disclose": disclose,
    }
    document = {
        "upstreams": [upstream],
        "models": [{"id": "only-oai", "targets": ["oai/a"]}],
    }
    error = {"error": {"message": "Canary: rate limit, try again in 9s", "code": 429}}
    event = b"data: " + json.dumps(error).encode() + b"\n\n"
    up = Scripted(Answer([STREAM[0], event] if begun else [event]))
    answer = await ask(ScriptedGateway(up, document=document, configured=True), path, stream=True)
    assert (answer.status, answer.header("retry-after")) == ((200, None) if begun else (429, "9"))
    assert ("Canary: rate limit" in answer.text) is disclose


@pytest.mark.parametrize("form", ["refusal", "whole", "stream", "begun"])
async def test_credentials_that_an_upstream_repeats_reach_neither_callers_nor_the_log(
    form: str,
) -> None:
    upstream = {
        "name": "oai",
        "dialect": "openai",
        "base_url": "http://127.0.0.1:9/v1",
        "api_key": "hf_canaryAbCdEfGh",
        "headers": {"x-gateway-token": "Basic canary0therone", "x-title": "Penstock Acme"},
        "query": {"sig": "canary/quay", "api-version": "2024-10-21-preview"},
        "disclose": True,
    }
    document = {"upstreams": [upstream], "models": [{"id": "only-oai", "targets": ["oai/a"]}]}
    message = "Penstock Acme: 2024-10-21-preview hf_canaryAbCdEfGh canary0therone canary/quay"
    error = json.dumps({"error": {"message": message}}).encode()
    event = b"data: " + error + b"\n\n"
    answers = {
        "refusal": Answer([error], status=400, headers=[JSON]),
        "whole": Answer([error], headers=[JSON]),
        "stream": Answer([event]),
        "begun": Answer([STREAM[0], event]),
    }
    gateway = ScriptedGateway(Scripted(answers[form]), document=document, configured=True)
    answer = await ask(gateway, stream=form in ("stream", "begun"))
    assert "Penstock Acme: 2024-10-21-preview *** *** ***" in answer.text
    assert "canary" not in answer.text
    assert "2024-10-21-preview *** *** ***" in json.dumps(gateway.log)
    assert "canary" not in json.dumps(gateway.log)
