"""The profile of Claudexia: Claude models for clients of OpenAI's Chat Completions.

`provider` records what Anthropic would receive; the simulator behind it answers as a strict
Messages API.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from edge.upstreams.simulator import SECRETS
from tests.clients.programs import node
from tests.e2e.program import DEADLINE, Gateway, Program

from . import snippets
from .recorder import Recorder, recorder
from .system import CANARY

PROFILE = "claudexia"
MODEL = "claude-sonnet-4.5"
DATED = "claude-sonnet-4-20250514"
HOST = "https://api.claudexia.tech"
KEY = "sk_cdx_YOUR_KEY"
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def simulator(simulator: Program) -> Iterator[Recorder]:
    """What the gateways of this module ask in place of the simulator."""
    with recorder(simulator.url, {}) as running:
        yield running


@pytest.fixture(scope="module")
def provider(simulator: Recorder) -> Recorder:
    return simulator


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"{text} [[sim strict=1]]"}]


def ask(gateway: Gateway, **body: Any) -> dict[str, Any]:
    """The answer to a body, unstreamed. Asserts that it is one."""
    answer = gateway.post(PATH, {"model": MODEL, "messages": user("Hello"), **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(gateway: Gateway, **body: Any) -> dict[str, Any]:
    """The error that answers a body, which must be 400. A value of None is left out."""
    whole = {"model": MODEL, "messages": user("Hello"), **body}
    answer = gateway.post(PATH, {name: value for name, value in whole.items() if value is not None})
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


CURL = """\
curl https://api.claudexia.tech/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer sk_cdx_YOUR_KEY" \\
  -d '{
    "model": "claude-sonnet-4.5",
    "max_tokens": 1024,
    "messages": [
      {"role": "system", "content": "You are a helpful assistant."},
      {"role": "user", "content": "Hello!"}
    ]
  }'
"""

PYTHON = """\
from openai import OpenAI

client = OpenAI(
    api_key="sk_cdx_YOUR_KEY",
    base_url="https://api.claudexia.tech/v1",
)

response = client.chat.completions.create(
    model="claude-sonnet-4.5",
    max_tokens=1024,
    messages=[
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Explain quantum computing in one paragraph."},
    ],
)

print(response.choices[0].message.content)
"""


def test_curl_works_as_pasted(gateway: Gateway, provider: Recorder, tmp_path: Path) -> None:
    answer = snippets.curl(CURL, {HOST: gateway.url, KEY: gateway.key}, tmp_path)
    assert answer.status == 200, answer.text
    found = answer.json()
    assert (found["object"], found["model"]) == ("chat.completion", MODEL)
    assert "Hello!" in found["choices"][0]["message"]["content"]
    asked = provider.asked[-1]
    assert asked.path == "/v1/messages"
    assert asked.body["max_tokens"] == 1024
    assert asked.body["model"] == "claude-sonnet-4-5-20250929"


def test_curl_streams_with_one_member_more(gateway: Gateway, tmp_path: Path) -> None:
    line = CURL.replace('"max_tokens": 1024,', '"max_tokens": 1024, "stream": true,')
    answer = snippets.curl(line, {HOST: gateway.url, KEY: gateway.key}, tmp_path)
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = answer.events()
    assert "Hello!" in "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert {one["model"] for one in chunks} == {MODEL}
    assert [one for one in answer.text.split("\n") if one][-1] == "data: [DONE]"


def test_python_works_as_pasted(gateway: Gateway, tmp_path: Path) -> None:
    said = snippets.python(PYTHON, {HOST: gateway.url, KEY: gateway.key}, tmp_path)
    assert "Explain quantum computing in one paragraph." in said


def test_python_streams_with_one_argument_more(embedded: Gateway, tmp_path: Path) -> None:
    code = PYTHON.replace("    max_tokens=1024,", "    max_tokens=1024,\n    stream=True,")
    code = code.replace(
        "print(response.choices[0].message.content)",
        "for chunk in response:\n    print(chunk.choices[0].delta.content or '', end='')",
    )
    said = snippets.python(code, {HOST: embedded.url, KEY: embedded.key}, tmp_path)
    assert "Explain quantum computing in one paragraph." in said


@pytest.mark.parametrize(("script", "sdk"), [("openai-chat.mjs", ""), ("vercel.mjs", "compatible")])
def test_other_clients_of_openai_use_claude_models(
    script: str, sdk: str, embedded: Gateway, tmp_path: Path
) -> None:
    where = {"GATEWAY": embedded.url, "KEY": embedded.key, "MODEL": DATED, "PROVIDER": sdk}
    seen = node(script, tmp_path, **where)
    assert seen["plain"]["text"].startswith("You said: Hello from Node")
    assert seen["streamed"] == seen["plain"]
    for way in ("tools", "toolsStreamed"):
        assert [name for name, _ in seen[way]["called"]["calls"]] == ["weather", "weather"]
        assert seen[way]["settled"]["text"].startswith("The tool returned: 3 days of sun")


def test_sdk_lists_claude_models_and_each_answers(gateway: Gateway, provider: Recorder) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        listed = {one.id for one in client.models.list()}
        assert {MODEL, DATED} <= listed
        for name in sorted(listed):
            reply = client.chat.completions.create(
                model=name, messages=[{"role": "user", "content": "Which?"}]
            )
            assert (reply.model, reply.choices[0].finish_reason) == (name, "stop")
            assert provider.asked[-1].path == "/v1/messages"
            assert provider.asked[-1].body["model"].startswith("claude-")
    priced = gateway.get("/v1/models", headers=gateway.bearer).json()["data"]
    assert all(one["price"]["output"] for one in priced)


def test_keys_begin_with_sk_cdx(gateway: Gateway) -> None:
    for key in (gateway.key, gateway.make_key("by the command line")):
        assert re.fullmatch(r"sk_cdx_[0-9A-Za-z]{43}", key)


def test_bearer_is_the_key_and_the_provider_gets_its_own(
    gateway: Gateway, provider: Recorder
) -> None:
    body = {"model": DATED, "messages": user("Hello")}
    for headers, status in (
        ({"authorization": f"Bearer {gateway.key}"}, 200),
        ({"authorization": "Bearer sk_cdx_wrong"}, 401),
        ({}, 401),
    ):
        answer = httpx.post(
            gateway.url + PATH, json=body, headers=headers, trust_env=False, timeout=DEADLINE
        )
        assert answer.status_code == status, answer.text
    headers = dict(provider.asked[-1].headers)
    assert headers["x-api-key"].startswith(CANARY)
    assert gateway.key not in json.dumps(headers)


def test_model_is_required_and_a_string(gateway: Gateway) -> None:
    error = refused(gateway, model=None)
    assert error["param"] == "model" and "model" in error["message"]
    error = refused(gateway, model=5)
    assert error["param"] == "model" and "string" in error["message"]
    unknown = gateway.post(PATH, {"model": "claude-none", "messages": user("Hello")})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


def test_messages_are_required_with_role_and_content(gateway: Gateway, provider: Recorder) -> None:
    error = refused(gateway, messages=None)
    assert error["param"] == "messages" and "messages" in error["message"]
    assert refused(gateway, messages=[])["param"] == "messages"
    assert refused(gateway, messages="Hello")["param"] == "messages"
    assert refused(gateway, messages=[{"content": "Hi"}])["param"] == "messages[0].role"
    wrong = refused(gateway, messages=[{"role": "king", "content": "Hi"}])
    assert wrong["param"] == "messages[0].role" and "user" in wrong["message"]
    assert refused(gateway, messages=[{"role": "user"}])["param"] == "messages[0].content"
    turns = [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        *user("Three"),
    ]
    ask(gateway, messages=turns)
    sent = provider.asked[-1].body["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]
    assert [text_of(turn["content"]).split(" [[")[0] for turn in sent] == ["One", "Two", "Three"]


def text_of(content: Any) -> str:
    """The text of content of Messages, a string or blocks."""
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content)


def test_system_messages_are_extracted_to_the_system_parameter(
    gateway: Gateway, provider: Recorder
) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Speak French."},
        *user("Hello"),
    ]
    ask(gateway, messages=turns)
    sent = provider.asked[-1].body
    assert [turn["role"] for turn in sent["messages"]] == ["user"]
    system = text_of(sent["system"])
    assert system.index("Be brief.") < system.index("Speak French.")
    ask(gateway)
    assert "system" not in provider.asked[-1].body


def test_max_tokens_is_passed_as_it_is_and_is_optional(
    gateway: Gateway, provider: Recorder
) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        ask(gateway, **{name: 77})
        assert provider.asked[-1].body["max_tokens"] == 77
    ask(gateway)
    assert provider.asked[-1].body["max_tokens"] == 64_000
    assert refused(gateway, max_tokens="many")["param"] == "max_tokens"
    assert refused(gateway, max_tokens=0)["param"] == "max_tokens"


def test_temperature_is_passed_as_it_is_and_is_optional(
    gateway: Gateway, provider: Recorder
) -> None:
    for value in (0, 0.3, 0.7, 1):
        ask(gateway, temperature=value)
        assert provider.asked[-1].body["temperature"] == value
    ask(gateway)
    assert "temperature" not in provider.asked[-1].body


def test_temperature_of_openai_above_1_is_1_and_above_2_is_400(
    gateway: Gateway, provider: Recorder
) -> None:
    """OpenAI's range ends at 2, Anthropic's at 1: a client that sends 1.5 wants it as free as it
    gets, and gets that. Lower values keep their meaning."""
    for value in (1.2, 2):
        ask(gateway, temperature=value)
        assert provider.asked[-1].body["temperature"] == 1
    assert refused(gateway, temperature=2.1)["param"] == "temperature"
    assert refused(gateway, temperature=-0.1)["param"] == "temperature"
    assert refused(gateway, temperature="warm")["param"] == "temperature"


@pytest.mark.parametrize("stop", ["simulator", ["never", "simulator"]])
def test_stop_is_taken_as_string_and_as_array(
    stop: Any, gateway: Gateway, provider: Recorder
) -> None:
    found = ask(gateway, stop=stop)
    sent = provider.asked[-1].body
    assert sent["stop_sequences"] == ([stop] if isinstance(stop, str) else stop)
    assert "stop" not in sent
    (choice,) = found["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].endswith("made by the ")
    assert refused(gateway, stop=7)["param"] == "stop"


def test_content_is_wrapped_in_a_message_of_openai(gateway: Gateway) -> None:
    found = ask(gateway)
    assert found["object"] == "chat.completion" and found["id"].startswith("chatcmpl-")
    (choice,) = found["choices"]
    assert choice["index"] == 0
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].startswith("You said: Hello")
    usage = found["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert not {"content", "stop_reason", "type", "role"} & found.keys()


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
REASONS: dict[str, tuple[dict[str, Any], str]] = {
    "end_turn": ({}, "stop"),
    "max_tokens": ({"max_tokens": 3}, "length"),
    "tool_use": (
        {
            "tools": [WEATHER],
            "messages": [{"role": "user", "content": "Weather? [[sim tools=1 strict=1]]"}],
        },
        "tool_calls",
    ),
    "stop_sequence": ({"stop": "simulator"}, "stop"),
    "refusal": (
        {"messages": [{"role": "user", "content": "No? [[sim refusal=1]]"}]},
        "content_filter",
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", REASONS)
def test_stop_reason_becomes_the_finish_reason_of_openai(
    reason: str, stream: bool, gateway: Gateway
) -> None:
    body, expected = REASONS[reason]
    whole = {"model": MODEL, "messages": user("Hello"), "stream": stream, **body}
    answer = gateway.post(PATH, whole)
    assert answer.status_code == 200, answer.text
    if stream:
        events = [json.loads(one[6:]) for one in answer.text.split("\n") if one[:7] == "data: {"]
        found = [choice["finish_reason"] for event in events for choice in event["choices"]]
        assert found[-1] == expected and not any(found[:-1])
        assert answer.text.endswith("data: [DONE]\n\n")
    else:
        assert answer.json()["choices"][0]["finish_reason"] == expected
    assert "stop_reason" not in answer.text


def test_tool_calls_are_mapped_both_ways(gateway: Gateway, provider: Recorder) -> None:
    turns: list[Any] = [{"role": "user", "content": "Weather? [[sim tools=1 strict=1]]"}]
    message = ask(gateway, messages=turns, tools=[WEATHER])["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert call["type"] == "function" and call["function"]["name"] == "weather"
    assert isinstance(json.loads(call["function"]["arguments"]), dict)
    (sent,) = provider.asked[-1].body["tools"]
    assert (sent["name"], sent["input_schema"]["type"]) == ("weather", "object")
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sun all day"}
    last = ask(gateway, messages=[*turns, message, result], tools=[WEATHER])
    assert "sun all day" in last["choices"][0]["message"]["content"]
    blocks = [block for turn in provider.asked[-1].body["messages"] for block in turn["content"]]
    kinds = [block["type"] for block in blocks if isinstance(block, dict)]
    assert "tool_use" in kinds and "tool_result" in kinds


def test_errors_have_the_form_of_openai_and_name_no_provider(gateway: Gateway) -> None:
    for status, shown in ((400, 400), (401, 502), (429, 429), (500, 502), (529, 503)):
        turns = [{"role": "user", "content": f"Hi [[sim fault=status:{status}]]"}]
        answer = gateway.post(PATH, {"model": MODEL, "messages": turns})
        assert answer.status_code == shown, answer.text
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
        whole = answer.text + str(answer.headers)
        assert not [word for word in (*SECRETS, CANARY, "anthropic") if word in whole.lower()]
