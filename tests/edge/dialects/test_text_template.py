"""Ordinary events, read and passed by their shape, amount to what each amounts to by itself."""

import json
from typing import Any

import pytest

from edge.dialects.anthropic_messages.passthrough import MessagesRelay
from edge.dialects.anthropic_messages.read_answer import MessagesReader
from edge.dialects.events import Closed, Event, TextDelta
from edge.dialects.openai_chat.read_answer import ChatReader
from edge.dialects.openai_responses.passthrough import ResponsesRelay
from edge.dialects.text_template import TextTemplate
from middlewares import sse

HEAD, TAIL = b'data: {"n":1,"delta":{"content" : "', b'"},"m":null}\n\n'


def taught() -> TextTemplate:
    ordinary = TextTemplate(b'"content"')
    ordinary.learn(HEAD + b"one" + TAIL, "one")
    return ordinary


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        (b"two", "two"),
        ("zwölf 😀".encode(), "zwölf 😀"),
        (rb"a \"quote\" and \u00e9", 'a "quote" and é'),
        (b"", ""),
        (b'a","content":"b', ""),
        (b"ends in a backslash\\", ""),
        (b"not \xff UTF-8", ""),
        (b"a line\nmore", ""),
        (b"half \\ud83d", ""),
    ],
)
def test_ordinary_text_is_one_json_string_between_the_same_bytes(inside: bytes, text: str) -> None:
    assert taught().text(HEAD + inside + TAIL) == text


def test_ordinary_text_of_another_event_is_none() -> None:
    ordinary = taught()
    assert ordinary.text(b'data: {"n":2,"delta":{"content" : "two' + TAIL) == ""
    assert ordinary.text(HEAD + b'two"},"m":1}\n\n') == ""
    assert ordinary.text(HEAD[:-1] + TAIL) == ""
    assert TextTemplate(b'"content"').text(HEAD + b"two" + TAIL) == ""


@pytest.mark.parametrize(
    ("behind", "text"),
    [
        (b'"},"usage":null,"obfuscation" : "Zy9"}\n\n', "two"),
        (b'"},"usage":null,"obfuscation" : "aB3dE5"}\n\n', "two"),
        (b'"},"usage":null,"obfuscation" : ""}\n\n', ""),
        (b'"},"usage":null,"obfuscation" : "a\\n"}\n\n', ""),
        (b'"},"usage":null,"obfuscation" : "a","error":"b"}\n\n', ""),
        (b'"},"usage":{},"obfuscation" : "a"}\n\n', ""),
        (b'"},"obfuscation" : "a"}\n\n', ""),
    ],
)
def test_ordinary_text_before_a_padding_is_read_whatever_the_padding(
    behind: bytes, text: str
) -> None:
    ordinary = TextTemplate(b'"content"')
    ordinary.learn(HEAD + b'one"},"usage":null,"obfuscation" : "a1"}\n\n', "one")
    assert ordinary.text(HEAD + b"two" + behind) == text


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"content":"one","delta":{"content":"one"}}\n\n',  # in which of them?
        b'data: {"delta":{"content":"on\\u0065"}}\n\n',
        b'data: {"delta":{"content":null,"text":"one"}}\n\n',
    ],
)
def test_learn_a_text_that_is_not_surely_found_teaches_nothing(event: bytes) -> None:
    ordinary = TextTemplate(b'"content"')
    ordinary.learn(event, "one")
    assert ordinary.text(event) == ""


def chunk(delta: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("reason", None)}
    return sse.encode(json.dumps({"id": "c", "choices": [choice], **more}).encode())


CALL = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{}"}}
CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    *(chunk({"content": word}) for word in ("a", "b", "c\n", "", "é", 'q"')),
    chunk({"content": "d"}, usage={"prompt_tokens": 1, "completion_tokens": 2}),
    chunk({"content": "e"}),
    chunk({"content": "f", "annotations": [{"url_citation": {"url": "https://a"}}]}),
    chunk({"tool_calls": [CALL]}),
    *(chunk({"content": word}) for word in ("g", "h")),
    *(chunk({"content": pad}, obfuscation=pad) for pad in ("p1", "q12", "r", 'q"', "s")),
    chunk({"content": "i"}, error={"message": ""}),
    chunk({"content": "j"}, reason="stop"),
    b"data: [DONE]\n\n",
]


def delta(text: str, index: int = 0) -> bytes:
    inner = {"type": "text_delta", "text": text}
    data = {"type": "content_block_delta", "index": index, "delta": inner}
    return sse.encode(json.dumps(data).encode(), "content_block_delta")


def named(**data: Any) -> bytes:
    return sse.encode(json.dumps(data).encode(), data["type"])


DELTAS = [
    named(type="message_start", message={"content": [], "usage": {"input_tokens": 3}}),
    named(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
    *map(delta, ("a", "b", "c\n", "é", 'q"', "", "d")),
    named(type="content_block_stop", index=0),
    delta("without a start", 1),
    delta("more of it", 1),
    named(type="content_block_start", index=2, content_block={"type": "server_tool_use"}),
    delta("not passed on", 1),
    named(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}),
    named(type="message_stop"),
]


@pytest.mark.parametrize(("make", "events"), [(ChatReader, CHUNKS), (MessagesReader, DELTAS)])
def test_readers_read_an_ordinary_event_as_any_other(make: Any, events: list[bytes]) -> None:
    quick, slow = make(), make()
    quickly: list[Event] = []
    slowly: list[Event] = []
    for event in events:
        slow._ordinary = TextTemplate(b'"nothing"')
        quickly += quick.decode(event)
        slowly += slow.decode(event)
    assert quickly == slowly
    assert TextDelta("b") in quickly
    assert Closed() in quickly


def test_messages_relay_an_ordinary_delta_passes_and_counts_as_any_other() -> None:
    relay = MessagesRelay({}, "m")
    passed = b"".join(map(relay.relay, DELTAS))
    texts = ("a", "b", "c\n", "é", 'q"', "d", "without a start", "more of it", "not passed on")
    assert relay.output_size == len("".join(texts).encode())
    assert passed.count(b"event: content_block_delta") == len(texts) + 1  # one of them is empty
    assert relay.complete


def test_messages_relay_a_strange_event_between_ordinary_ones_is_looked_at() -> None:
    relay = MessagesRelay({}, "m")
    for event in DELTAS[:5]:
        relay.relay(event)
    broken = delta("x").replace(b'"}}', b'"}},')
    with pytest.raises(Exception, match="Messages event"):
        relay.relay(broken)


def test_responses_relay_counts_deltas_of_any_kind_and_number() -> None:
    relay = ResponsesRelay({}, "m")
    about: dict[str, Any] = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    relay.relay(named(type="response.created", response={"id": "resp_1", "output": []}))
    texts = ("a", "bc", "é", "d\n", "", "e")
    for number, text in enumerate(texts):
        event = named(
            type="response.output_text.delta", sequence_number=number, **about, delta=text
        )
        assert json.loads(relay.relay(event).split(b"data: ")[1])["delta"] == text
    assert relay.output_size == len("".join(texts).encode())
