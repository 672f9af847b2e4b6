"""A history that other vendors' models took part in, on its way to a Messages upstream."""

from typing import Any

import msgspec
import pytest

from edge.dialects import signatures
from edge.dialects.anthropic_messages.history import without_packed
from edge.dialects.anthropic_messages.passthrough import prepare
from edge.dialects.conversation import Origin, Signature
from edge.dialects.passthrough import Fields

PACKED = signatures.pack(Signature(origin=Origin("responses", "f00"), data="gAAAA", id="rs_1"))
HELLO = {"role": "user", "content": "Hi"}
RESULT = {
    "role": "user",
    "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}],
}
CALL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
FOREIGN = {"type": "thinking", "thinking": "hm", "signature": PACKED}
OWN = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
ENABLED = {"type": "enabled", "budget_tokens": 4096}


def fields_of(*messages: Any, **members: Any) -> Fields:
    body = {"messages": list(messages), **members}
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}


def cleaned(*messages: Any, **members: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(without_packed(fields_of(*messages, **members))))


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def test_what_is_its_own_stays_the_very_same() -> None:
    fields = fields_of(HELLO, assistant(OWN, {"type": "text", "text": "Ok"}), thinking=ENABLED)
    assert without_packed(fields) is fields
    mention = fields_of({"role": "user", "content": [{"type": "text", "text": f"see {PACKED}"}]})
    assert without_packed(mention) is mention


def test_every_other_byte_stays_as_it_came() -> None:
    own = b'{"type" : "thinking",  "thinking":"\\u0068m", "signature":"c2ln"}'
    text = b'{ "type":"text","text":"1.0e2" }'
    foreign = msgspec.json.encode(FOREIGN)
    user = b'{"role":"user", "content":"x"}'
    raw = b'[%s,{"role":"assistant","content":[%s,%s,%s]}]' % (user, foreign, own, text)
    body = prepare({"messages": msgspec.Raw(raw)}, "claude-opus-5", False)
    assert b"[%s,%s]" % (own, text) in body
    assert b'"content":"x"' in body
    assert PACKED.encode() not in body


def test_foreign_thinking_goes_and_a_turn_of_nothing_else_with_it() -> None:
    done = cleaned(
        HELLO,
        assistant(FOREIGN, {"type": "text", "text": "Ok"}),
        HELLO,
        assistant({"type": "redacted_thinking", "data": PACKED}),
        HELLO,
    )
    assert done["messages"] == [HELLO, assistant({"type": "text", "text": "Ok"}), HELLO, HELLO]


def test_a_foreign_source_goes_and_the_text_stays() -> None:
    foreign = {
        "type": "web_search_result_location",
        "url": "https://x.test",
        "encrypted_index": signatures.MARK,
    }
    own = {**foreign, "encrypted_index": "abc"}
    text = {"type": "text", "text": "So."}
    done = cleaned(
        HELLO,
        assistant({**text, "citations": [foreign, own]}, {**text, "citations": [foreign]}),
        HELLO,
    )
    assert done["messages"][1] == assistant({**text, "citations": [own]}, text)


@pytest.mark.parametrize(
    ("last", "thinks"),
    [
        ([FOREIGN, CALL], False),
        ([FOREIGN, {"type": "text", "text": "Ok"}, CALL], False),
        ([FOREIGN, OWN, CALL], True),
        ([FOREIGN, {"type": "text", "text": "Ok"}], True),
    ],
)
def test_thinking_ends_where_what_led_to_a_call_is_gone(last: list[Any], thinks: bool) -> None:
    """anomalyco/opencode#3077, langgenius/dify#41092."""
    tail = RESULT if CALL in last else HELLO
    done = cleaned(HELLO, assistant(*last), tail, thinking=ENABLED)
    assert ("thinking" in done) is thinks
    unsaid = cleaned(HELLO, assistant(*last), tail, thinking=None)
    assert FOREIGN not in unsaid["messages"][1]["content"]
    adaptive = cleaned(HELLO, assistant(*last), tail, thinking={"type": "adaptive"})
    assert adaptive["thinking"] == {"type": "adaptive"}


def test_what_clears_thinking_goes_with_it() -> None:
    clear, other = {"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}
    turns = (HELLO, assistant(FOREIGN, CALL), RESULT)
    both = cleaned(*turns, thinking=ENABLED, context_management={"edits": [clear, other]})
    assert both["context_management"] == {"edits": [other]}
    one = cleaned(*turns, thinking=ENABLED, context_management={"edits": [clear]})
    assert "context_management" not in one


@pytest.mark.parametrize("raw", [b'"pk1-"', b'["pk1-"]', b'[{"content":[{"type":3,"a":"pk1-"}]}]'])
def test_what_cannot_be_read_is_left_to_the_upstream(raw: bytes) -> None:
    fields = {"messages": msgspec.Raw(raw)}
    assert without_packed(fields) is fields
