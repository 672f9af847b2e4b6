"""Histories that began on a model of another dialect, passed through to a chat upstream."""

import json

import msgspec
import pytest

from edge.dialects.conversation import Origin, Signature
from edge.dialects.openai_chat.passthrough import prepare
from edge.dialects.openai_chat.signatures import without_packed_thinking
from edge.dialects.signatures import pack

PACKED = pack(Signature(origin=Origin("anthropic", "x"), data="c2ln"))


def cleaned(text: str) -> str:
    return bytes(without_packed_thinking(msgspec.Raw(text.encode()))).decode()


@pytest.mark.parametrize(
    "messages",
    [
        '[ {"role": "user", "content": "h\\u0069"} ]',
        '[{"role":"user","content":"pk1- is no seal"}]',
        '[{"role":"assistant","content":"x","reasoning_details":[{"text":"pk1-"}]}]',
        '[{"role":"assistant","reasoning_details":[{"signature":"own, with pk1- inside"}]}]',
        '[{"role":"assistant","reasoning_details":["pk1-"]}]',
        '{"pk1-":1}',
    ],
)
def test_what_is_no_seal_passes(messages: str) -> None:
    assert cleaned(messages) == messages


def test_seals_go_and_nothing_else_changes() -> None:
    own = '{"type": "reasoning.text", "signature": "own"}'
    history = (
        '[{"role": "user", "content":  "h\\u0069"},'
        '{"role":"assistant","content": "a",'
        f'"reasoning_details":[{own},{{"signature":"{PACKED}"}}],'
        f'"thinking_blocks":[{{"type":"redacted_thinking","data":"{PACKED}"}}],"x" : 1.0}}]'
    )
    assert cleaned(history) == (
        '[{"role": "user", "content":  "h\\u0069"},'
        f'{{"role":"assistant","content":"a","reasoning_details":[{own}],"x":1.0}}]'
    )


def test_a_request_is_cleaned_on_its_way() -> None:
    message = {"role": "assistant", "reasoning_details": [{"data": PACKED}], "content": "x"}
    fields = {"messages": msgspec.Raw(json.dumps([message]).encode())}
    body = json.loads(prepare(fields, "m", False))
    assert body["messages"] == [{"role": "assistant", "content": "x"}]


@pytest.mark.parametrize("model", ["gpt-5.2", "mistral-large-latest"])
def test_who_refuses_thinking_in_plain_words_gets_none(model: str) -> None:
    """BerriAI/litellm#30835: a history of another model's turns is refused for it."""
    thought = {"role": "assistant", "content": "x", "reasoning_content": "hm"}
    said = {"role": "user", "content": "what is reasoning_content?"}
    fields = {"messages": msgspec.Raw(json.dumps([said, thought]).encode())}
    actual = json.loads(prepare(fields, model, False))["messages"]
    assert actual == [said, {"role": "assistant", "content": "x"}]
    assert json.loads(prepare(fields, "kimi-k2.5", False))["messages"] == [said, thought]
    for raw in (b'{"reasoning_content":1}', b'["reasoning_content"]'):
        assert b"reasoning_content" in prepare({"messages": msgspec.Raw(raw)}, model, False)


@pytest.mark.parametrize("model", ["gpt-5.2", "mistral-large-latest"])
def test_prepare_leaves_seals_of_calls_to_models_that_know_them(model: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "w", "arguments": "{}"}}
    sealed = {**call, "extra_content": {"google": {"thought_signature": "eA=="}}}
    asked = {"role": "user", "content": "what is extra_content?"}
    history = [asked, {"role": "assistant", "content": None, "tool_calls": [call, sealed]}]
    fields = {"messages": msgspec.Raw(json.dumps(history).encode())}
    actual = json.loads(prepare(fields, model, False))["messages"]
    assert actual == [asked, {"role": "assistant", "content": None, "tool_calls": [call, call]}]
    assert json.loads(prepare(fields, "gemini-3-pro", False))["messages"] == history
