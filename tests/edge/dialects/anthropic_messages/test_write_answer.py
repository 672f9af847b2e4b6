"""Answers for callers of Messages: streams and whole bodies, held against the SDK's types."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects import signatures
from edge.dialects.anthropic_messages.read_answer import MessagesReader, read
from edge.dialects.anthropic_messages.write_answer import MessagesWriter
from edge.dialects.codec import Caller
from edge.dialects.conversation import (
    Citation,
    Origin,
    Refusal,
    Signature,
    Text,
    Thinking,
    ToolCall,
)
from edge.dialects.events import (
    Cited,
    Closed,
    Counted,
    Event,
    RefusalDelta,
    Reply,
    Signed,
    Started,
    Stop,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
    fold,
    unfold,
)
from middlewares.exchange import Usage
from tests.schemas import check_stream, summary

ID = "0123456789abcdef0123456789abcdef"
USAGE = Usage(input=36, output=30, cache_read=64, reasoning=7)
NATIVE = Signature(origin=Origin("anthropic", "abc"), data="c2ln")
FOREIGN = Signature(origin=Origin("responses", "f00"), data="gAAAA", id="rs_1")


def writer() -> MessagesWriter:
    return MessagesWriter(Caller(model="acme/best", id=ID, created=1700000000, estimate=123))


def stream_of(events: Sequence[Event]) -> bytes:
    made = writer()
    return b"".join(made.encode([event]) for event in events)


def parsed(stream: bytes) -> list[dict[str, Any]]:
    found = []
    for event in stream.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        value: dict[str, Any] = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        found.append(value)
    return found


def deltas_of(stream: bytes) -> list[dict[str, Any]]:
    return [e["delta"] for e in parsed(stream) if e["type"] == "content_block_delta"]


EVENTS: list[Event] = [
    Started(),
    ThinkingDelta("h"),
    ThinkingDelta("m"),
    Signed(FOREIGN),
    Closed(),
    TextDelta("Ok"),
    TextDelta(". “é”\n"),
    Cited(Citation(url="https://x.test/a", title="A", quoted="q")),
    Closed(),
    ToolOpened("call_x", "w"),
    ToolDelta('{"a"'),
    ToolDelta(":1}"),
    Closed(),
    ToolOpened("call_y", "now"),
    Closed(),
    Counted(USAGE),
    Stopped("tool_use", usage=USAGE),
]


def test_a_stream_of_everything() -> None:
    """BerriAI/litellm#32357: one message_start, and thinking only in a thinking block."""
    stream = stream_of(EVENTS)
    found = check_stream("messages", stream)
    assert found.text == "Ok. “é”\n"
    assert found.thinking == "hm"
    assert [call[1:] for call in found.calls] == [("w", '{"a":1}'), ("now", "{}")]
    kinds = [event["type"] for event in parsed(stream)]
    assert kinds.count("message_start") == 1
    assert kinds[:2] == ["message_start", "ping"]
    assert kinds[-2:] == ["message_delta", "message_stop"]


def test_a_stream_and_its_unstreamed_twin_say_the_same() -> None:
    whole = summary("messages", writer().encode_body(fold(EVENTS)))
    assert check_stream("messages", stream_of(EVENTS)) == whole


def test_an_estimate_stands_at_the_beginning_and_the_truth_at_the_end() -> None:
    """experientiallabs/experiential#914, raine/claude-code-proxy#86: some read only the beginning.

    router-for-me/CLIProxyAPI#1700, ai-dynamo/dynamo#7206, ollama/ollama#13934: the real figures
    belong into the last message_delta. ogx-ai/ogx#6415, askui/python-sdk#303,
    Helicone/helicone#5652: without the cached tokens.
    """
    events = parsed(stream_of(EVENTS))
    begun, done = events[0]["message"]["usage"], events[-2]["usage"]
    assert (begun["input_tokens"], begun["output_tokens"]) == (123, 0)
    assert (begun["cache_read_input_tokens"], begun["cache_creation_input_tokens"]) == (0, 0)
    assert done == {
        "input_tokens": 36,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 64,
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 7},
    }


def test_nothing_is_written_for_nothing() -> None:
    assert writer().encode([]) == b""


def test_foreign_thinking_comes_back_to_its_maker_as_it_was() -> None:
    signature = next(d for d in deltas_of(stream_of(EVENTS)) if d["type"] == "signature_delta")
    assert signatures.unpack(signature["signature"]) == FOREIGN


def test_thinking_without_a_signature_gets_one_that_says_so() -> None:
    stream = stream_of([Started(), ThinkingDelta("hm"), Closed(), Stopped("end", usage=USAGE)])
    check_stream("messages", stream)
    unpacked = signatures.unpack(deltas_of(stream)[-1]["signature"])
    assert unpacked is not None
    assert (unpacked.origin.dialect, unpacked.data) == ("openai", "")


def test_the_signature_of_one_block_is_not_that_of_the_next() -> None:
    """BerriAI/litellm#38809, BerriAI/litellm#41361, openai/openai-agents-python#4155."""
    reply = Reply(
        blocks=[
            Thinking(signature=NATIVE),
            Thinking(text="b"),
            Thinking(
                signature=Signature(origin=Origin("anthropic"), data="c2VjcmV0", redacted=True)
            ),
            Thinking(text="d", signature=FOREIGN),
            Text(text="x"),
        ],
        usage=USAGE,
    )
    stream = stream_of(list(unfold(reply)))
    check_stream("messages", stream)
    back = fold(MessagesReader().decode(stream)).blocks
    assert back == fold(read(writer().encode_body(reply))).blocks
    signs = [b.signature for b in back if isinstance(b, Thinking)]
    assert signs[0] == Signature(origin=Origin("anthropic"), data="c2ln")
    assert signs[2] == Signature(origin=Origin("anthropic"), data="c2VjcmV0", redacted=True)
    for sign, dialect in ((signs[1], "openai"), (signs[3], "responses")):
        assert sign is not None
        unpacked = signatures.unpack(sign.data)
        assert unpacked is not None
        assert unpacked.origin.dialect == dialect


def test_encrypted_reasoning_without_text_is_an_empty_thinking_block() -> None:
    sealed = Signature(origin=Origin("responses"), data="gAAAA", id="rs_2", redacted=True)
    events: list[Event] = [Started(), Signed(sealed), Closed(), Stopped("end", usage=USAGE)]
    stream = stream_of(events)
    check_stream("messages", stream)
    blocks = json.loads(writer().encode_body(fold(events)))["content"]
    assert [block["type"] for block in blocks] == ["thinking"]
    assert signatures.unpack(blocks[0]["signature"]) == sealed
    assert [d["type"] for d in deltas_of(stream)] == ["signature_delta"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("", {}),
        ("  ", {}),
        ('{"a": "é"}', {"a": "é"}),
        ('  {"a":1}', {"a": 1}),
        ("[1, 2]", {"value": [1, 2]}),
        ("null", {"value": None}),
        ('"x"', {"value": "x"}),
        ("oops", {"INVALID_JSON": "oops"}),
    ],
)
def test_the_input_of_a_call_is_always_an_object(arguments: str, shown: Any) -> None:
    """BerriAI/litellm#5091: a call without arguments is {}, never ""."""
    pieces = [ToolDelta(piece) for piece in arguments]
    events: list[Event] = [
        Started(),
        ToolOpened("t", "f"),
        *pieces,
        Closed(),
        Stopped("tool_use", usage=USAGE),
    ]
    actual = "".join(d["partial_json"] for d in deltas_of(stream_of(events)))
    assert json.loads(actual) == shown
    assert json.loads(writer().encode_body(fold(events)))["content"][0]["input"] == shown


def test_a_call_cut_short_ends_with_max_tokens_and_what_there_is_of_it() -> None:
    """BerriAI/litellm#19028."""
    events: list[Event] = [
        Started(),
        ToolOpened("t", "f"),
        ToolDelta('{"a": "unfin'),
        Closed(),
        Stopped("length", usage=USAGE),
    ]
    found = parsed(stream_of(events))
    assert found[-2]["delta"]["stop_reason"] == "max_tokens"
    body = json.loads(writer().encode_body(fold(events)))
    assert body["stop_reason"] == "max_tokens"
    assert body["content"][0]["input"] == {"INVALID_JSON": '{"a": "unfin'}


def test_numbers_of_an_input_are_not_read_and_written_again() -> None:
    arguments = '{"n":12345678901234567890123,"f":1.10}'
    body = writer().encode_body(Reply(blocks=[ToolCall(id="t", name="f", arguments=arguments)]))
    assert arguments.encode() in body


def test_a_free_text_call_has_its_text_in_input() -> None:
    events: list[Event] = [
        Started(),
        ToolOpened("t", "patch", custom=True),
        ToolDelta("*** Begin"),
        ToolDelta("\n{}"),
        Closed(),
        Stopped("tool_use", usage=USAGE),
    ]
    actual = "".join(d["partial_json"] for d in deltas_of(stream_of(events)))
    assert json.loads(actual) == {"input": "*** Begin\n{}"}
    assert check_stream("messages", stream_of(events)) == summary(
        "messages", writer().encode_body(fold(events))
    )


def test_the_last_message_delta_always_has_a_reason() -> None:
    """anthropics/claude-code#16785, TriDefender/zcode-api#23."""
    endings: tuple[tuple[Stop, str], ...] = (
        ("end", "end_turn"),
        ("length", "max_tokens"),
        ("pause", "pause_turn"),
        ("refusal", "refusal"),
    )
    for reason, said in endings:
        events: list[Event] = [Started(), TextDelta("x"), Closed(), Stopped(reason, usage=USAGE)]
        deltas = [e for e in parsed(stream_of(events)) if e["type"] == "message_delta"]
        assert [e["delta"]["stop_reason"] for e in deltas] == [said]


def test_a_stop_string_is_named_only_when_it_is_known() -> None:
    def ending(event: Stopped) -> Any:
        delta = parsed(stream_of([Started(), event]))[-2]["delta"]
        return delta["stop_reason"], delta["stop_sequence"]

    assert ending(Stopped("stop_sequence", "END")) == ("stop_sequence", "END")
    assert ending(Stopped("stop_sequence")) == ("end_turn", None)
    assert ending(Stopped("length", "END")) == ("max_tokens", None)


def test_a_refusal_is_text_and_a_reason() -> None:
    events: list[Event] = [
        Started(),
        RefusalDelta("I "),
        RefusalDelta("won't."),
        Closed(),
        Stopped("end"),
    ]
    stream = stream_of(events)
    found = check_stream("messages", stream)
    assert (found.text, found.stop) == ("I won't.", "refusal")
    assert parsed(stream)[-2]["delta"]["stop_details"] == {
        "type": "refusal",
        "category": None,
        "explanation": None,
    }
    assert summary("messages", writer().encode_body(fold(events))).stop == "refusal"
    actual = Stopped("refusal", explanation="Not this.")
    assert parsed(stream_of([Started(), actual]))[-2]["delta"]["stop_details"]["explanation"] == (
        "Not this."
    )


def test_an_empty_answer_is_an_answer() -> None:
    events: list[Event] = [Started(), Stopped("end", usage=USAGE)]
    assert check_stream("messages", stream_of(events)).text == ""
    assert json.loads(writer().encode_body(fold(events)))["content"] == []


def test_a_source_without_an_address_is_not_shown() -> None:
    events: list[Event] = [
        Started(),
        TextDelta("x"),
        Cited(Citation(quoted="q")),
        Closed(),
        Stopped("end", usage=USAGE),
    ]
    assert [d["type"] for d in deltas_of(stream_of(events))] == ["text_delta"]
    assert "citations" not in json.loads(writer().encode_body(fold(events)))["content"][0]


def test_a_failure_is_an_error_event_and_nothing_else() -> None:
    content = {
        "type": "error",
        "error": {"type": "api_error", "message": "x"},
        "request_id": "req_1",
    }
    made = writer()
    stream = made.encode([Started(), TextDelta("x")]) + made.encode_failure(content)
    assert check_stream("messages", stream, error=True).stop == "error"


_BLOCKS = st.one_of(
    st.builds(Text, text=st.text(min_size=1)),
    st.builds(Refusal, text=st.text(min_size=1)),
    st.builds(
        Thinking, text=st.text(min_size=1), signature=st.sampled_from([None, NATIVE, FOREIGN])
    ),
    st.builds(
        ToolCall,
        id=st.uuids().map(lambda u: f"toolu_{u.hex}"),
        name=st.text("ab_", min_size=1),
        arguments=st.dictionaries(
            st.text(), st.one_of(st.text(), st.integers(), st.none()), max_size=3
        ).map(json.dumps),
    ),
)


@given(st.lists(_BLOCKS, max_size=5))
def test_whatever_is_said_is_said_alike_streamed_and_whole(blocks: list[Any]) -> None:
    stop: Any = "tool_use" if any(isinstance(b, ToolCall) for b in blocks) else "end"
    reply = Reply(blocks=blocks, stop=stop, usage=USAGE)
    stream = stream_of(list(unfold(reply)))
    assert check_stream("messages", stream) == summary("messages", writer().encode_body(reply))
    reader = MessagesReader()
    back = fold(reader.decode(stream) + reader.decode_end())
    assert [b.text for b in back.blocks if isinstance(b, Text)] == [
        b.text for b in blocks if isinstance(b, Text | Refusal)
    ]
    assert [
        (b.id, b.name, json.loads(b.arguments)) for b in back.blocks if isinstance(b, ToolCall)
    ] == [(b.id, b.name, json.loads(b.arguments)) for b in blocks if isinstance(b, ToolCall)]
