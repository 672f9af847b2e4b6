"""Errors of an operator's own form, as clients of each dialect get them from a real process."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from .conftest import ADMIN_TOKEN, SECRETS, over_http
from .operator import change
from .program import Gateway, Program, until
from .wire import ANTHROPIC, CHAT, MESSAGES, ask, bearer, chat, events

RESPONSES = "/v1/responses"
DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
KINDS: dict[str, Any] = {
    "model_not_found": {"type": "validation_error"},
    "invalid_request": {"type": "validation_error"},
    "upstream_error": {
        "status": 500,
        "type": "cli_error",
        "code": "cli_failed",
        "message": "{brand} had no luck.",
    },
    "upstream_unavailable": {"status": 503},
    "endpoint_not_allowed": {"status": 404},
    "not_found": {"status": 410, "type": "gone_error", "code": ""},
    "invalid_key": {"status": 403, "message": "Not with this key."},
    "unsupported_media_type": {"status": 400},
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    document = {**over_http(simulator.url), "brand": "Acme"}
    document["errors"] = {"details": True, "kinds": KINDS}
    document["auth"] = {**document["auth"], "key_prefix": "sk_acme_"}
    program = Gateway(tmp_path_factory.mktemp("own"), document, env=SECRETS)
    try:
        yield program
        assert program.stop() == 0, program.stderr
    finally:
        program.kill()


def asked(
    dialect: str, text: str = "Hello", model: str | None = None, **fields: Any
) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Path, body and headers of a conversation."""
    if dialect == "responses":
        return RESPONSES, {"model": model or "resp", "input": text, **fields}, {}
    if dialect == "anthropic":
        return MESSAGES, chat(text, model or "claude", **fields), ANTHROPIC
    return CHAT, chat(text, model or "chat", **fields), {}


@DIALECTS
async def test_unknown_model_has_the_own_type_and_short_details(own: Gateway, dialect: str) -> None:
    path, body, headers = asked(dialect, model="no-such-model")
    reply = await ask(own.url, path, body, {**headers, **own.bearer})
    assert (reply.status, reply.error["type"]) == (404, "validation_error")
    assert reply.error["details"] == {"field": "model", "issue": "Model not found"}
    assert "no-such-model" in reply.error["message"]  # the case's own text
    assert reply.error.get("code") == (None if dialect == "anthropic" else "model_not_found")
    line = await asyncio.to_thread(own.request_line, reply.header("x-request-id"))
    assert (line["problem"], line["status"]) == ("model_not_found", 404)


@DIALECTS
async def test_invalid_request_names_its_field(own: Gateway, dialect: str) -> None:
    path, body, headers = asked(dialect, stream="yes")
    reply = await ask(own.url, path, body, {**headers, **own.bearer})
    assert (reply.status, reply.error["type"]) == (400, "validation_error")
    details = reply.error["details"]
    assert details["field"] == "stream"
    assert details["issue"].startswith("expected ")
    reply = await ask(own.url, path, b'{"model', {**headers, **own.bearer})
    assert reply.error["details"]["field"] is None


@DIALECTS
async def test_failure_of_the_upstream_is_changed_in_answer_and_stream(
    own: Gateway, dialect: str
) -> None:
    path, body, headers = asked(dialect, "[[sim fault=status:500]]")
    reply = await ask(own.url, path, body, {**headers, **own.bearer})
    error = {"type": "cli_error", "message": "Acme had no luck."}
    assert reply.status == 500
    assert error.items() <= reply.error.items()
    words = "[[sim tokens=20 fault=cut:8]]"
    path, body, headers = asked(dialect, words, stream=True)
    reply = await ask(own.url, path, body, {**headers, **own.bearer})
    assert reply.status == 200
    *_, last = events(reply.body)
    if dialect == "responses":
        assert last["type"] == "response.failed"
        assert last["response"]["error"] == {
            "code": "cli_failed",
            "message": "Acme had no luck.",
        }
        last = events(reply.body)[-2]
        assert (last["type"], last["code"]) == ("error", "cli_failed")
    assert error.items() <= last["error"].items()
    assert last["error"]["details"] == {"field": None, "issue": "Acme had no luck."}
    line = await asyncio.to_thread(own.request_line, reply.header("x-request-id"))
    assert (line["problem"], line["outcome"]) == ("upstream_error", "cut")


async def test_other_endpoints_and_unknown_paths_have_the_own_form(own: Gateway) -> None:
    for path in ("/v1/files/file_none", "/v1/videos/video_none", "/v1/requests/none"):
        reply = await ask(own.url, path, None, own.bearer)
        found = (reply.status, reply.error["type"], reply.error["code"])
        assert found == (410, "gone_error", None), path
    for headers in ({}, ANTHROPIC):
        reply = await ask(own.url, "/v1/nothing", {}, {**own.bearer, **headers})
        assert (reply.status, reply.error["type"]) == (404, "permission_error")
        assert reply.error["details"]["field"] is None
        reply = await ask(own.url, CHAT, chat(), {**bearer("sk_acme_" + "x" * 43), **headers})
        assert (reply.status, reply.error["message"]) == (403, "Not with this key.")


async def test_management_api_keeps_the_table(own: Gateway) -> None:
    token = {"authorization": f"Bearer {ADMIN_TOKEN}"}
    reply = await ask(own.url, "/admin/v1/keys/key_none", None, token)
    assert (reply.status, reply.error["type"], reply.error["code"]) == (
        404,
        "invalid_request_error",
        "not_found",
    )
    assert (await ask(own.url, "/app/none", None, own.bearer)).status in (303, 404)


async def test_metrics_have_the_names_of_the_table(own: Gateway) -> None:
    path, body, headers = asked("openai", "[[sim fault=status:500]]")
    await ask(own.url, path, body, {**headers, **own.bearer})

    def failures() -> float:
        return sum(
            value
            for (name, labels), value in own.metrics().items()
            if name == "penstock_upstream_errors_total" and ("kind", "upstream_error") in labels
        )

    assert await asyncio.to_thread(until, failures, what="the failure in the metrics")


def test_sdks_parse_the_own_form(own: Gateway) -> None:
    say: Any = [{"role": "user", "content": "Hello"}]
    with anthropic.Anthropic(base_url=own.url, api_key=own.key, max_retries=0) as client:
        with pytest.raises(anthropic.NotFoundError) as raised:
            client.messages.create(model="no-such", messages=say, max_tokens=9)
        body: Any = raised.value.body
        assert body["error"]["type"] == "validation_error"
        assert body["error"]["details"] == {"field": "model", "issue": "Model not found"}
        say[0]["content"] = "[[sim tokens=20 fault=cut:8]]"
        with (
            pytest.raises(anthropic.APIStatusError) as cut,
            client.messages.stream(model="claude", messages=say, max_tokens=99) as stream,
        ):
            stream.until_done()
        broken_off: Any = cut.value.body
        assert broken_off["error"]["type"] == "cli_error"
    with openai.OpenAI(base_url=f"{own.url}/v1", api_key=own.key, max_retries=0) as other:
        with pytest.raises(openai.NotFoundError) as missing:
            other.chat.completions.create(model="no-such", messages=say)
        assert (missing.value.type, missing.value.param) == ("validation_error", "model")
        found: Any = missing.value.body
        assert found["details"]["issue"] == "Model not found"
        with pytest.raises(openai.APIError) as broken:
            for _ in other.chat.completions.create(model="chat", messages=say, stream=True):
                pass
        assert (broken.value.type, broken.value.code) == ("cli_error", "cli_failed")


def test_reload_changes_the_form(tmp_path: Path) -> None:
    document = {
        "auth": {"mode": "none"},
        "upstreams": [{"name": "near", "dialect": "simulator"}],
        "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
    }
    gateway = Gateway(tmp_path, document, env=SECRETS)
    try:

        def seen() -> tuple[int, str]:
            answer = httpx.get(f"{gateway.url}/v1/models/none", trust_env=False)
            return answer.status_code, answer.json()["error"]["type"]

        assert seen() == (404, "invalid_request_error")
        change(gateway, errors={"kinds": {"model_not_found": {"status": 400, "type": "own"}}})
        until(lambda: seen() == (400, "own"), what="the new form")
        change(gateway, errors={})
        until(lambda: seen() == (404, "invalid_request_error"), what="the table's form")
        assert gateway.stop() == 0, gateway.stderr
    finally:
        gateway.kill()


# Content types

WRONG_TYPES = {
    "none": None,
    "text": "text/plain",
    "form": "application/x-www-form-urlencoded",
    "multipart": "multipart/form-data; boundary=x",
}
JSON_ROUTES = (
    *(CHAT, MESSAGES, RESPONSES, "/v1/completions", "/v1/embeddings"),
    *("/v1/messages/count_tokens", "/v1/responses/input_tokens", "/v1/responses/compact"),
    *("/v1/images/generations", "/v1/audio/speech", "/v1/uploads/upload_none/complete"),
)


@pytest.mark.parametrize("kind", WRONG_TYPES)
def test_json_routes_take_json_only(gateway: Gateway, kind: str) -> None:
    given = WRONG_TYPES[kind]
    headers = {**gateway.bearer, **({} if given is None else {"content-type": given})}
    with httpx.Client(base_url=gateway.url, headers=headers, trust_env=False) as client:
        for path in JSON_ROUTES:
            answer = client.post(path, content=b'{"model": "sim-1", "input": "x", "messages": []}')
            error = answer.json()["error"]
            assert answer.status_code == 415, (path, answer.text)
            assert "content-type: application/json" in error["message"], path
            if path.startswith(MESSAGES):
                assert error["type"] == "invalid_request_error"
            else:
                assert (error["code"], error["param"]) == (
                    "unsupported_media_type",
                    "content-type",
                )
        answer = client.post("/v1/nothing", content=b"{}")
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "given", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"]
)
def test_json_by_another_spelling_is_taken(gateway: Gateway, given: str) -> None:
    answer = gateway.post(CHAT, chat(), **{"content-type": given})
    assert answer.status_code == 200, answer.text
