"""Capio: what its documentation promises, with the clients that it shows."""

import hashlib
import json
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import httpx
import openai
import pytest

from middlewares.pricing import nano
from tests.e2e.program import DEADLINE, Gateway, until
from tests.e2e.visitor import signed_in
from tests.schemas import check, check_stream

from . import capio_snippets, snippets
from .capio_snippets import HOST
from .stored import change, everything_of
from .system import ADMIN_TOKEN, CANARY, document_of

PROFILE = "capio"
SECRET = re.compile(r"sk-capio-live-[0-9A-Za-z]{43}")
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ANTHROPIC = {"anthropic-version": "2023-06-01"}
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
CONTEXTS = {
    "claude-opus-4-8": None,
    "deepseek-v4-flash": "1M",
    "deepseek-v4-pro": "1M",
    "gemini-3.1-pro": None,
    "gpt-5.5": "1M",
    "kimi-k2.6": "262K",
    "MiniMax-M3": "1M",
}
"""Models of the cheat sheet, and their context in tokens as it is written there."""
BUDGET = {"deepseek-v4-flash": ("0.07", "0.14"), "MiniMax-M3": ("0.30", "1.20")}
"""Prices of the cheat sheet: per million tokens of input and output."""


class Customer(NamedTuple):
    """A team that has credits, and its first key. id: of the key."""

    id: str
    secret: str
    team: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"}


def admin(gateway: Gateway, method: str, path: str, body: Any = None) -> Any:
    url = f"{gateway.url}/admin/v1/{path}"
    answer = httpx.request(method, url, json=body, headers=ADMIN, trust_env=False, timeout=DEADLINE)
    assert answer.is_success, answer.text
    return answer.json()


def customer(gateway: Gateway, name: str, credits_: str = "5.00", **fields: Any) -> Customer:
    """Set up a customer as the profile's file says."""
    team = gateway.new_team(name, plan="payg")
    if credits_:
        admin(gateway, "POST", f"teams/{team}/credits", {"amount": credits_})
    key = admin(gateway, "POST", "keys", {"name": name, "owner": name, "team": team, **fields})
    return Customer(key["id"], key["secret"], team)


def chat(model: str, text: str = "ping", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def ask(
    gateway: Gateway, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """A request on a connection of its own, so that either worker may get it. None: a GET."""
    return httpx.request(
        "GET" if body is None else "POST",
        f"{gateway.url}{path}",
        json=body,
        headers=headers,
        trust_env=False,
        timeout=DEADLINE,
    )


def asked(gateway: Gateway, name: str, count: int) -> Sequence[tuple[str, str, str]]:
    """Path, model as written and model that served, of the `count` requests of a key's name."""

    def lines() -> list[dict[str, Any]]:
        return [line for line in gateway.log if line.get("key_name") == name]

    until(lambda: len(lines()) >= count, what=f"{count} requests of {name}")
    return [(line["path"], line.get("model", ""), line.get("served", "")) for line in lines()]


def made_at_the_dashboard(gateway: Gateway, secret: str, name: str) -> httpx.Response:
    """The page that shows a new key, made by the holder of another one at /app/api-keys."""
    with signed_in(gateway, secret) as visitor:
        form = visitor.get("/app/api-keys/new").text
        return visitor.post("/app/api-keys", data={"name": name, **hidden_fields(form)})


def hidden_fields(form: str) -> dict[str, str]:
    return {
        name: re.findall(rf'name="{name}" value="([^"]*)"', form)[0] for name in ("form", "parent")
    }


@pytest.fixture(scope="module")
def ann(gateway: Gateway) -> Customer:
    """A customer whose use does not matter."""
    return customer(gateway, "ann", "50.00")


# Quick start


def test_curl_line_is_answered_as_openai_answers(
    gateway: Gateway, ann: Customer, tmp_path: Path
) -> None:
    replaced = {HOST: gateway.url}
    answer = snippets.curl(capio_snippets.CURL, replaced, tmp_path, CAPIO_API_KEY=ann.secret)
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = check("chat.completion", answer.text.encode())
    assert body["model"] == "deepseek-v4-flash"
    assert "ping" in body["choices"][0]["message"]["content"]


TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
REQUESTS: dict[str, dict[str, Any]] = {
    "sampling": {"temperature": 0.5, "top_p": 0.9, "max_tokens": 50, "stop": ["zzz"], "user": "u"},
    "tools": {"tools": [TOOL], "tool_choice": "auto"},
    "tool called": {"tools": [TOOL], "tool_choice": "required"},
    "JSON": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "city",
                "schema": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
        }
    },
    "reasoning": {"reasoning_effort": "low", "max_completion_tokens": 5000},
}


@pytest.mark.parametrize("model", CONTEXTS)
def test_openai_requests_are_answered_in_openais_shape(
    gateway: Gateway, ann: Customer, model: str
) -> None:
    """By the SDK as it is, which here refuses what differs from its types."""
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=ann.secret, _strict_response_validation=True
    ) as client:
        for what, members in REQUESTS.items():
            answer = client.chat.completions.with_raw_response.create(**chat(model), **members)
            body = check("chat.completion", answer.content)
            assert body["model"] == model, what
            parsed = answer.parse()
            assert parsed.choices[0].finish_reason == (
                "tool_calls" if what == "tool called" else "stop"
            ), what
        check(
            "response", client.responses.with_raw_response.create(model=model, input="ping").content
        )
        text = client.completions.with_raw_response.create(model=model, prompt="ping")
        check("text_completion", text.content)


def test_existing_code_changes_base_url_and_key_only(
    gateway: Gateway, ann: Customer, tmp_path: Path
) -> None:
    replaced = {HOST: gateway.url, capio_snippets.KEY: ann.secret}
    printed = "deepseek-v4-flash assistant\nstop\n"
    assert snippets.python(capio_snippets.OPENAI_PYTHON, replaced, tmp_path) == printed
    assert snippets.node(capio_snippets.OPENAI_NODE, replaced, tmp_path) == printed


def test_anthropic_sdk_works_with_a_base_url(gateway: Gateway, ann: Customer) -> None:
    with anthropic.Anthropic(
        base_url=gateway.url, api_key=ann.secret, _strict_response_validation=True
    ) as client:
        for model in CONTEXTS:
            answer = client.messages.with_raw_response.create(**chat(model), max_tokens=50)
            assert check("message", answer.http_response.content)["model"] == model
    body = chat("MiniMax-M3", max_tokens=50, stream=True)
    streamed = ask(gateway, MESSAGES, body, {"x-api-key": ann.secret, **ANTHROPIC})
    assert "ping" in check_stream("messages", streamed.content).text


def test_model_names_are_aliases_and_the_providers_never_show(
    gateway: Gateway, ann: Customer
) -> None:
    """`dated`: the providers answer with a name that differs from the one they were asked for."""
    document = document_of(PROFILE)
    models = {model["id"]: model["targets"] for model in document["models"]}
    names = {upstream["name"] for upstream in document["upstreams"]}
    theirs = {target.partition("/")[2] for targets in models.values() for target in targets}
    hidden = {*(theirs - set(models)), "-2026-", "openrouter", CANARY, "sim-gpu", "SimProvider"}
    assert "moonshotai/kimi-k2.6" in hidden
    for model in models:
        for words in ("dated=1", "fault=status:400", "fault=overflow"):
            for path in (CHAT, MESSAGES):
                for stream in (False, True):
                    body = chat(model, f"[[sim {words}]]", stream=stream, max_tokens=50)
                    answer = ask(gateway, path, body, ann.bearer)
                    head = "".join(f"{k}: {v}\n" for k, v in answer.headers.multi_items())
                    for name in hidden:
                        assert name not in answer.text + head, (model, words, path)
                    assert not [name for name in names if f"{name}/" in answer.text + head]
                    if words == "dated=1":
                        assert answer.headers["x-model-used"] == model
                        assert f'"model":"{model}"' in answer.text


# Authentication


def test_each_request_needs_a_bearer_token(gateway: Gateway, ann: Customer, tmp_path: Path) -> None:
    for headers in ({}, {"authorization": f"Basic {ann.secret}"}):
        for path in (CHAT, MESSAGES, "/v1/responses", "/v1/models"):
            body = None if path == "/v1/models" else chat("deepseek-v4-flash")
            assert ask(gateway, path, body, headers).status_code == 401, (headers, path)
    assert ask(gateway, CHAT, chat("deepseek-v4-flash"), ann.bearer).status_code == 200
    unset = snippets.curl(capio_snippets.CURL, {HOST: gateway.url}, tmp_path)
    assert unset.status == 401
    assert check("openai.error", unset.text.encode())["error"]["code"] == "missing_key"


def test_request_as_shown_is_answered(gateway: Gateway, ann: Customer) -> None:
    """Byte for byte over a socket, with a length and a body besides."""
    replaced = {
        "capiollm.tech": gateway.url.removeprefix("http://"),
        capio_snippets.KEY: ann.secret,
    }
    head = snippets.filled_in(capio_snippets.REQUEST, replaced).replace("\n", "\r\n")
    body = json.dumps(chat("deepseek-v4-flash")).encode()
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), DEADLINE) as connection:
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    first, _, rest = answer.partition(b"\r\n")
    assert first.split()[1] == b"200", answer
    assert b'"chat.completion"' in rest


def test_key_from_the_dashboard_is_shown_once(gateway: Gateway) -> None:
    first = customer(gateway, "once")
    with signed_in(gateway, first.secret) as visitor:
        fields = hidden_fields(visitor.get("/app/api-keys/new").text)
        made = visitor.post("/app/api-keys", data={"name": "laptop", **fields})
        (secret,) = set(SECRET.findall(made.text))
        (path,) = set(re.findall(r'href="(/app/api-keys/key_[0-9a-z]{20})">Done', made.text))
        again = visitor.post("/app/api-keys", data={"name": "laptop", **fields})
        pages = [visitor.get(page).text for page in (path, "/app/api-keys", "/app/setup", "/app")]
        note = visitor.get(again.headers["location"])
    key = {"authorization": f"Bearer {secret}"}
    until(lambda: ask(gateway, "/v1/models", None, key).status_code == 200, what="the new key")
    management = [admin(gateway, "GET", name) for name in ("keys", f"keys/{path[14:]}", "audit")]
    for text in (*pages, again.text, note.text, json.dumps(management)):
        assert secret not in text
        assert secret.removeprefix("sk-capio-live-")[8:] not in text


def test_only_the_sha_256_of_a_key_is_stored(gateway: Gateway) -> None:
    """Of keys made by the API and by the command line, after requests that go well and wrong."""
    keys = [customer(gateway, "stored").secret, gateway.make_key("stored-by-command")]
    last = ""
    for key in keys:
        headers = {"authorization": f"Bearer {key}"}
        ask(gateway, CHAT, chat(key), headers)
        ask(gateway, f"/v1/models/{key}?key={key}", None, {"x-api-key": key})
        ask(gateway, MESSAGES, {"model": key}, {"x-api-key": key, "authorization": "Bearer other"})
        last = ask(gateway, CHAT, chat("kimi-k2.6"), headers).headers["x-request-id"]
    gateway.request_line(last)
    everything = everything_of(gateway)
    for key in keys:
        digest = hashlib.sha256(key.encode()).digest()
        assert repr(digest)[2:-1] in everything
        text = key.removeprefix("sk-capio-live-")
        for secret in (text, text[10:40], text.encode().hex()):
            assert secret not in everything


def refusal(gateway: Gateway, path: str, headers: Mapping[str, str]) -> httpx.Response:
    """The 401 that a key gets, once the worker that is asked knows of its end."""

    def refused() -> httpx.Response | None:
        answer = ask(gateway, path, chat("gpt-5.5", max_tokens=9), headers)
        return answer if answer.status_code == 401 else None

    return until(refused, what="the key to be refused")


def test_wrong_revoked_and_disabled_keys_get_invalid_key(gateway: Gateway) -> None:
    """And a new key, made at /app/api-keys with another one, is accepted."""
    spare, revoked, disabled = (customer(gateway, name) for name in ("spare", "old", "off"))
    for one in (revoked, disabled):
        assert ask(gateway, "/v1/models", None, one.bearer).status_code == 200
    admin(gateway, "POST", f"keys/{revoked.id}/revoke", {})
    admin(gateway, "PATCH", f"keys/{disabled.id}", {"disabled": True})
    wrong = f"{spare.secret[:-1]}{'a' if spare.secret[-1] != 'a' else 'b'}"
    for secret in (wrong, revoked.secret, disabled.secret, "sk-capio-live-xxxxxxxxxxxx", "x"):
        bearer = {"authorization": f"Bearer {secret}"}
        refused = refusal(gateway, CHAT, bearer)
        assert check("openai.error", refused.content)["error"]["code"] == "invalid_key"
        theirs = refusal(gateway, MESSAGES, {"x-api-key": secret})
        error = check("anthropic.error", theirs.content)["error"]
        assert error["type"] == "authentication_error"
    (secret,) = set(SECRET.findall(made_at_the_dashboard(gateway, spare.secret, "new").text))
    new = {"authorization": f"Bearer {secret}"}
    until(lambda: ask(gateway, CHAT, chat("gpt-5.5"), new).status_code == 200, what="the new key")


# Streaming


def test_curl_line_of_a_stream_has_openais_wire_format(
    gateway: Gateway, ann: Customer, tmp_path: Path
) -> None:
    replaced = {HOST: gateway.url}
    answer = snippets.curl(capio_snippets.CURL_STREAM, replaced, tmp_path, CAPIO_API_KEY=ann.secret)
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    answered = check_stream("chat", answer.text.encode())
    assert "Tell me a story" in answered.text
    assert answer.text.rstrip().endswith("data: [DONE]")
    assert {chunk["model"] for chunk in answer.events()} == {"deepseek-v4-flash"}


@pytest.mark.parametrize("model", CONTEXTS)
def test_clients_that_stream_from_openai_stream_each_model(
    gateway: Gateway, ann: Customer, model: str
) -> None:
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=ann.secret, _strict_response_validation=True
    ) as client:
        stream = client.chat.completions.create(
            **chat(model), stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = list(stream)
    assert last.choices == [] and last.usage is not None and last.usage.completion_tokens > 0
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert "ping" in text
    assert {chunk.model for chunk in chunks} == {model}
    body = chat(model, stream=True, tools=[TOOL], tool_choice="required")
    called = check_stream("chat", ask(gateway, CHAT, body, ann.bearer).content)
    assert [name for _, name, _ in called.calls] == ["weather"]


# Models


def test_models_are_listed_with_the_cheat_sheets_figures(gateway: Gateway, ann: Customer) -> None:
    assert ask(gateway, "/v1/models").status_code == 401
    answer = ask(gateway, "/v1/models", None, ann.bearer)
    listed = {model["id"]: model for model in check("openai.models", answer.content)["data"]}
    assert set(listed) == set(CONTEXTS)
    for name, context in CONTEXTS.items():
        tokens = listed[name].get("context_window")
        assert (None if tokens is None else _short(tokens)) == context, name
        price = listed[name]["price"]
        assert {"input", "output"} <= set(price)
        if name in BUDGET:
            assert (price["input"], price["output"]) == BUDGET[name]
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=ann.secret) as client:
        assert {model.id for model in client.models.list()} == set(CONTEXTS)
    page = ask(gateway, "/v1/models?limit=1000", None, {"x-api-key": ann.secret, **ANTHROPIC})
    assert [model["id"] for model in check("anthropic.models", page.content)["data"]] == [*listed]


def _short(tokens: int) -> str:
    """1000000 → 1M, 262144 → 262K."""
    return f"{tokens // 10**6}M" if tokens >= 10**6 else f"{tokens // 10**3}K"


def test_prices_per_million_tokens_are_on_the_landing_page(gateway: Gateway, ann: Customer) -> None:
    page = ask(gateway, "/").text
    (prices,) = re.findall(r'<table id="models">(.*?)</table>', page, re.DOTALL)
    assert "per million" in prices
    shown = {
        re.findall(r"<code>(.*?)</code>", row)[0]: re.findall(r"<td.*?>(.*?)</td>", row)
        for row in re.findall(r"<tr>(.*?)</tr>", prices, re.DOTALL)
        if "<code>" in row
    }
    listed = ask(gateway, "/v1/models", None, ann.bearer).json()["data"]
    assert set(shown) == {model["id"] for model in listed}
    for model in listed:
        assert {model["price"]["input"], model["price"]["output"]} <= set(shown[model["id"]])
    for name, prices in BUDGET.items():
        assert set(prices) <= set(shown[name])


def test_use_is_paid_from_credits_as_it_goes(gateway: Gateway) -> None:
    """No credits, no answer; then each answer costs its tokens, and nothing else is charged."""
    payer = customer(gateway, "payer", "")

    def balance() -> int:
        limits = ask(gateway, "/v1/limits", None, payer.bearer).json()
        return nano(limits["team"]["credits"]["balance"])

    body = chat("MiniMax-M3", "[[sim tokens=1000]]", max_tokens=2000)
    refused = ask(gateway, CHAT, body, payer.bearer)
    error = check("openai.error", refused.content)["error"]
    assert (refused.status_code, error["code"]) == (429, "insufficient_credits")
    assert refused.headers["x-should-retry"] == "false"
    admin(gateway, "POST", f"teams/{payer.team}/credits", {"amount": "1.00"})
    until(lambda: balance() == 10**9, what="the credits")
    answer = ask(gateway, CHAT, body, payer.bearer)
    usage = answer.json()["usage"]
    # In nano-credits: 300 for each token of input, 1,200 for each of output.
    cost = 300 * usage["prompt_tokens"] + 1200 * usage["completion_tokens"]
    assert usage["completion_tokens"] == 1000
    assert nano(answer.headers["x-credits-used"]) == cost
    until(lambda: balance() == 10**9 - cost, what="the balance after the answer")
    assert ask(gateway, "/v1/limits", None, payer.bearer).json()["team"]["windows"] == []


def test_credits_never_expire(gateway: Gateway) -> None:
    """They were bought thirty years ago, by the ledger from which balances are made."""
    saver = customer(gateway, "saver", "2.00")
    for table in ("ledger", "ledger_totals"):
        change(gateway, f"update {table} set at = at - 946080000 where account = '{saver.team}'")
    limits = ask(gateway, "/v1/limits", None, saver.bearer).json()
    assert limits["team"]["credits"]["balance"] == "2.00"
    assert ask(gateway, CHAT, chat("deepseek-v4-flash"), saver.bearer).status_code == 200


# Names


@pytest.mark.parametrize("name", ["MiniMax-M3", "capio/MiniMax-M3", "capio/MiniMax-M3[1m]"])
def test_names_with_and_without_the_prefix_mean_the_same_model(
    gateway: Gateway, ann: Customer, name: str
) -> None:
    """The answer has the name that the client wrote."""
    for path in (CHAT, MESSAGES):
        for stream in (False, True):
            body = chat(name, stream=stream, max_tokens=50)
            answer = ask(gateway, path, body, ann.bearer)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-model-used"] == "MiniMax-M3"
            assert f'"model":"{name}"' in answer.text
    answer = ask(gateway, "/v1/responses", {"model": name, "input": "ping"}, ann.bearer)
    assert answer.headers["x-model-used"] == "MiniMax-M3"
