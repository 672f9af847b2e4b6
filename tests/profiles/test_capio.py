"""Capio: what its documentation promises, with the clients that it shows."""

import hashlib
import json
import re
import socket
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from middlewares.pricing import nano
from tests.clients.pasted import Desk
from tests.e2e.program import DEADLINE, Gateway, Program, until
from tests.e2e.visitor import signed_in
from tests.schemas import check, check_stream

from . import capio_snippets, snippets
from .capio_agents import openclaw_file, openclaw_key, out_of_order, pasted, write
from .capio_customers import (
    CHAT,
    MESSAGES,
    Customer,
    admin,
    ask,
    asked,
    chat,
    customer,
    hidden_fields,
    made_at_the_dashboard,
    refusal,
)
from .capio_snippets import HOST, KEY, OPENCLAW, OPENCLAW_FALLBACKS
from .stored import change, everything_of
from .system import CANARY, Stores, document_of

PROFILE = "capio"
SECRET = re.compile(r"sk-capio-live-[0-9A-Za-z]{43}")
SAID = "This answer was made by the simulator."
ANTHROPIC = {"anthropic-version": "2023-06-01"}
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
    replaced = {HOST: gateway.url, KEY: ann.secret}
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
        KEY: ann.secret,
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
        price = model["price"]
        assert {f"${price['input']}", f"${price['output']}"} <= set(shown[model["id"]])
    for name, (input_, output) in BUDGET.items():
        assert {f"${input_}", f"${output}"} <= set(shown[name])


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
    # Too few: the refusal says what `/v1/limits` says.
    admin(gateway, "POST", f"teams/{payer.team}/credits", {"amount": "0.000001"})
    until(lambda: balance() == 10**3, what="few credits")
    error = ask(gateway, CHAT, body, payer.bearer).json()["error"]
    assert (error["code"], error["remaining"]) == ("insufficient_credits", "0.000001")
    assert "Your team's credits are used up: 0.000001 remaining" in error["message"]
    admin(gateway, "POST", f"teams/{payer.team}/credits", {"amount": "0.999999"})
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


# Coding agents


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_claude_code_maps_its_tiers_to_models(embedded: Gateway, desk: Desk) -> None:
    """With the variables as pasted into a shell. Each tier is served by its own model."""
    secret = customer(embedded, "claude-shell").secret
    lines = pasted(embedded, capio_snippets.CLAUDE_CODE + capio_snippets.CLAUDE_TIERS, secret)
    tiers = {"opus": "claude-opus-4-8", "sonnet": "MiniMax-M3", "haiku": "deepseek-v4-flash"}
    runs = [f"claude -p Hello --output-format json --model {tier}" for tier in tiers]
    for line in desk.shell(lines, *runs).splitlines():
        assert SAID in json.loads(line)["result"]
    wanted = {(MESSAGES, f"capio/{model}", model) for model in tiers.values()}
    assert set(asked(embedded, "claude-shell", wanted)) == wanted


def test_claude_code_reads_the_projects_file(embedded: Gateway, desk: Desk) -> None:
    """No variable is set: the file travels with the repository. What is written as a model goes
    over the wire as it is."""
    secret = customer(embedded, "claude-project").secret
    settings = pasted(embedded, capio_snippets.CLAUDE_SETTINGS, secret)
    write(desk, ".claude/settings.local.json", settings)
    written = ["capio/deepseek-v4-flash", "MiniMax-M3[1m]"]
    runs = [f"claude -p Hello --output-format json --model '{name}'" for name in written]
    for line in desk.shell(*runs).splitlines():
        assert SAID in json.loads(line)["result"]
    wanted = {
        (MESSAGES, "capio/deepseek-v4-flash", "deepseek-v4-flash"),
        (MESSAGES, "MiniMax-M3", "MiniMax-M3"),  # the client takes `[1m]` off itself
    }
    assert set(asked(embedded, "claude-project", wanted)) == wanted


OPENCODE_AUTH = "~/.local/share/opencode/auth.json"


def test_opencode_has_the_models_of_its_file(embedded: Gateway, desk: Desk) -> None:
    """With both files as shown, and the key in the environment."""
    secret = customer(embedded, "opencode").secret
    write(desk, "opencode.json", pasted(embedded, capio_snippets.OPENCODE))
    write(desk, OPENCODE_AUTH, pasted(embedded, capio_snippets.OPENCODE_KEY, secret))
    key = f'export CAPIO_API_KEY="{secret}"'
    printed = desk.shell(key, "opencode models capio", "opencode run -m capio/MiniMax-M3 Hello")
    assert SAID in printed
    models = json.loads(capio_snippets.OPENCODE)["provider"]["capio"]["models"]
    listed = re.findall(r"^capio/(\S+)$", printed, re.MULTILINE)
    assert set(listed) == set(models)
    assert ask(embedded, "/v1/models", None, {"authorization": f"Bearer {secret}"}).is_success
    wanted = {(CHAT, "MiniMax-M3", "MiniMax-M3"), ("/v1/models", "", "")}
    assert set(asked(embedded, "opencode", wanted)) == wanted


@pytest.mark.full
def test_opencode_reads_the_key_from_its_own_file(embedded: Gateway, desk: Desk) -> None:
    """No variable is set, and `opencode auth list` has the provider.

    OpenCode prefers `apiKey` of opencode.json, also where its variable is not set: with that line
    left in, it sends no key and shows our words.
    """
    secret = customer(embedded, "opencode-file").secret
    write(desk, OPENCODE_AUTH, pasted(embedded, capio_snippets.OPENCODE_KEY, secret))
    content = json.loads(pasted(embedded, capio_snippets.OPENCODE))
    start = "opencode run -m capio/kimi-k2.6 Hello"
    write(desk, "opencode.json", json.dumps(content))
    assert "No API key was given" in desk.shell(f"{start} 2>&1 || true")
    del content["provider"]["capio"]["options"]["apiKey"]
    write(desk, "opencode.json", json.dumps(content))
    printed = desk.shell("opencode auth list 2>&1", start)
    assert SAID in printed
    assert "capio" in printed
    wanted = {(CHAT, "kimi-k2.6", "kimi-k2.6")}
    assert set(asked(embedded, "opencode-file", wanted)) == wanted


OPENCLAW_MIGRATES = "openclaw doctor --fix --non-interactive >doctor.log 2>&1"
OPENCLAW_ASKS = 'openclaw agent --local --agent main --message "Hello"'


def test_openclaw_reads_its_files_as_shown(
    embedded: Gateway, desk: Desk, full: bool, simulator: Program, tmp_path: Path
) -> None:
    """`openclaw models status` says which models there are, and where the key is from: from the
    shell if it has the variable, else from the file.

    In full it is asked something (the guide of `tests/clients` always does that); it tries the key;
    a wrong one gets 401; and with a gateway that has no fallbacks, OpenClaw goes through its own
    list. It asks a failing model for over a minute before that.
    """
    secret = customer(embedded, "openclaw").secret
    wrong = f'export CAPIO_API_KEY="{KEY[:-4]}1234"'
    for text in (OPENCLAW, OPENCLAW_FALLBACKS) if full else (OPENCLAW_FALLBACKS,):
        openclaw_file(embedded, desk, text, secret)
        status = json.loads(desk.shell(OPENCLAW_MIGRATES, "openclaw models status --json"))
        wanted = json.loads(text)["agents"]["defaults"]["model"]
        assert status["defaultModel"] == wanted["primary"]
        assert status["fallbacks"] == wanted.get("fallbacks", [])
        assert openclaw_key(status) == f"sk-capio...{secret[-8:]}"
        shown = desk.shell(wrong, "openclaw models status --json")
        assert openclaw_key(json.loads(shown)).endswith("1234")
        if full:
            assert SAID in desk.shell(OPENCLAW_ASKS)
    if full:
        wanted = {(CHAT, "deepseek-v4-flash", "deepseek-v4-flash")}
        assert set(asked(embedded, "openclaw", wanted)) == wanted
        shown = desk.shell("openclaw models status --probe --probe-provider capio")
        assert re.search(r"capio/deepseek-v4-flash .* ok ", shown)
        shown = desk.shell(wrong, f"{OPENCLAW_ASKS} 2>&1 || echo failed")
        assert "401" in shown and "failed" in shown
        _openclaw_goes_through_its_list(simulator, tmp_path, Desk(tmp_path / "home"))


def _openclaw_goes_through_its_list(simulator: Program, folder: Path, desk: Desk) -> None:
    gateway = out_of_order(folder, simulator, fallbacks=False)
    try:
        secret = customer(gateway, "openclaw").secret
        openclaw_file(gateway, desk, OPENCLAW_FALLBACKS, secret)
        assert SAID in desk.shell(OPENCLAW_MIGRATES, OPENCLAW_ASKS)
        assert gateway.stop() == 0, gateway.stderr  # every line is in the log now
        order = ["deepseek-v4-flash", "deepseek-v4-pro", "MiniMax-M3"]
        assert [*dict.fromkeys(name for _, name, _ in asked(gateway, "openclaw", []))] == order
    finally:
        gateway.kill()


def test_next_model_of_the_list_answers_when_the_first_fails(
    other_stores: Stores, simulator: Program, tmp_path: Path
) -> None:
    """By the gateway itself: plain and streamed, in both dialects, at the price of the model that
    answered."""
    gateway = out_of_order(tmp_path, simulator, other_stores, fallbacks=True)
    try:
        payer = customer(gateway, "payer")
        for path in (CHAT, MESSAGES):
            for stream in (False, True):
                body = chat("capio/deepseek-v4-flash", stream=stream, max_tokens=50)
                answer = ask(gateway, path, body, payer.bearer)
                assert answer.status_code == 200, answer.text
                assert answer.headers["x-model-used"] == "MiniMax-M3"
                assert answer.headers["x-fallback-from"] == "deepseek-v4-flash"
                assert answer.headers["x-fallback-depth"] == "2"
                assert "ping" in answer.text
        answer = ask(gateway, CHAT, chat("deepseek-v4-flash"), payer.bearer)
        usage = answer.json()["usage"]
        cost = 300 * usage["prompt_tokens"] + 1200 * usage["completion_tokens"]
        assert nano(answer.headers["x-credits-used"]) == cost
        assert gateway.stop() == 0, gateway.stderr
    finally:
        gateway.kill()
