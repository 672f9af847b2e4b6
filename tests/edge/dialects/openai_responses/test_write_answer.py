"""What a caller of Responses gets: the whole lifecycle, and the object at its end."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.codec import Caller
from edge.dialects.conversation import Citation, Origin, Signature
from edge.dialects.events import (
    Cited,
    Closed,
    Event,
    RefusalDelta,
    Signed,
    Started,
    Stop,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
    fold,
)
from edge.dialects.openai_responses import CLIENT
from edge.dialects.openai_responses.write_answer import DECLINED, ResponsesWriter
from edge.dialects.signatures import unpack
from middlewares import sse
from middlewares.exchange import Usage
from tests.schemas import check, check_stream, summary

ID = "0123456789abcdef" * 2
USAGE = Usage(input=36, output=30, cache_read=64, cache_write=2, reasoning=5)
SEALED = Signature(origin=Origin("anthropic", "f" * 12), data="sig+/=")


def caller(body: dict[str, Any] | None = None, **echo: Any) -> Caller:
    fields = {name: msgspec.Raw(json.dumps(v).encode()) for name, v in (body or {}).items()}
    return Caller(model="asked", id=ID, created=1_767_225_600, fields=fields, echo=echo)


def writer(body: dict[str, Any] | None = None, **echo: Any) -> ResponsesWriter:
    return ResponsesWriter(caller(body, **echo), clock=lambda: 1_767_225_700.9)


def parsed(stream: bytes) -> list[Any]:
    found = [sse.parse(event) for event in sse.split(stream)]
    return [json.loads(event.data) for event in found if event is not None]


def kinds(stream: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in parsed(stream)]


EVENTS: list[Event] = [
    Started(),
    ThinkingDelta("Hm"),
    ThinkingDelta("."),
    Signed(SEALED),
    Closed(),
    TextDelta("Ok"),
    TextDelta(" ä"),
    Closed(),
    ToolOpened("call_x", "w"),
    ToolDelta('{"a"'),
    ToolDelta(":1}"),
    Closed(),
    ToolOpened("call_y", "patch", True),
    ToolDelta("*** Begin\n"),
    Closed(),
    ToolOpened("call_z", "now", False, "mcp"),
    Closed(),
    Stopped("tool_use", usage=USAGE),
]


def test_the_whole_lifecycle() -> None:
    """onyx-dot-app/onyx#13624; each event numbered: Soju06/codex-lb#1479, Wei-Shaw/sub2api#7129,
    BerriAI/litellm#28899.
    """
    stream = b"".join(writer_.encode([event]) for writer_ in [writer()] for event in EVENTS)
    actual = check_stream("responses", stream)
    assert actual.thinking == "Hm."
    assert actual.text == "Ok ä"
    assert kinds(stream) == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]


def test_the_items_of_the_answer() -> None:
    """Custom tools return as raw input (antirez/ds4#745, router-for-me/CLIProxyAPI#5753,
    github/gh-aw-firewall#8350), namespaces are restored (diegosouzapw/OmniRoute#5483), a call
    without arguments ends as {} (BerriAI/litellm#5091).
    """
    written = writer()
    written.encode(EVENTS)
    thought, message, function, custom, spaced = check("response", written.answer)["output"]
    assert thought["id"] == f"rs_{ID}00"
    assert thought["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert unpack(thought["encrypted_content"]) == SEALED
    assert message == {
        "id": f"msg_{ID}01",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Ok ä", "annotations": [], "logprobs": []}],
    }
    assert function == {
        "id": f"fc_{ID}02",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_x",
        "name": "w",
        "arguments": '{"a":1}',
    }
    assert custom == {
        "id": f"ctc_{ID}03",
        "type": "custom_tool_call",
        "status": "completed",
        "call_id": "call_y",
        "name": "patch",
        "input": "*** Begin\n",
    }
    assert (spaced["namespace"], spaced["name"], spaced["arguments"]) == ("mcp", "now", "{}")


def test_the_whole_answer_is_the_end_of_its_stream() -> None:
    streamed, whole = writer(), writer()
    streamed.encode(EVENTS)
    assert whole.encode_body(fold(EVENTS)) == streamed.answer == whole.answer
    actual = summary("responses", streamed.answer)
    assert actual.stop == "tools"
    assert actual.usage == {
        "input": 36,
        "cache_read": 64,
        "cache_write": 2,
        "output": 30,
        "reasoning": 5,
    }


def test_what_the_caller_set_is_shown_again() -> None:
    body = {
        "instructions": "Be brief.",
        "temperature": 0.5,
        "top_p": None,
        "max_output_tokens": 100,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "name": "w"},
        "truncation": "auto",
        "service_tier": "auto",
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {}}},
        "tools": [
            {"type": "function", "name": "w", "parameters": {"b": 1, "a": 2}},
            {"type": "custom", "name": "patch"},
        ],
        "prompt_cache_key": "k",
        "safety_identifier": "u",
        "store": True,
        "input": "hi",
    }
    written = writer(body, previous_response_id="resp_0", store=True)
    written.encode([Started(), Stopped("end", usage=USAGE)])
    answer = check("response", written.answer)
    assert answer["id"] == f"resp_{ID}"
    assert answer["model"] == "asked"
    assert answer["completed_at"] == 1_767_225_700
    assert answer["output"] == []
    same = "instructions temperature max_output_tokens metadata parallel_tool_calls tool_choice"
    for name in [*same.split(), "prompt_cache_key", "safety_identifier"]:
        assert answer[name] == body[name]
    assert answer["top_p"] == 1.0
    assert answer["truncation"] == "disabled"
    assert answer["service_tier"] == "default"
    assert answer["reasoning"] == {"effort": "low", "summary": None}
    assert answer["text"] == {
        "verbosity": "low",
        "format": {
            "type": "json_schema",
            "name": "n",
            "schema": {},
            "strict": False,
            "description": None,
        },
    }
    assert answer["tools"] == [
        {
            "type": "function",
            "name": "w",
            "parameters": {"b": 1, "a": 2},
            "description": None,
            "strict": None,
        },
        {"type": "custom", "name": "patch"},
    ]
    assert list(answer["tools"][0]["parameters"]) == ["b", "a"]
    assert (answer["store"], answer["previous_response_id"]) == (True, "resp_0")
    assert "input" not in answer


def test_a_request_that_sets_nothing_is_shown_what_counts() -> None:
    written = writer()
    stream = written.encode([Started(), TextDelta("x"), Closed(), Stopped("end")])
    first = parsed(stream)[0]["response"]
    assert first["usage"] is None
    assert (first["store"], first["reasoning"], first["tools"]) == (False, None, [])
    assert check("response", written.answer)["usage"]["total_tokens"] == 0


@pytest.mark.parametrize(
    ("stop", "status", "reason"),
    [
        ("end", "completed", None),
        ("stop_sequence", "completed", None),
        ("tool_use", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("pause", "incomplete", "max_output_tokens"),
        ("refusal", "incomplete", "content_filter"),
    ],
)
def test_how_it_stopped(stop: Stop, status: str, reason: str | None) -> None:
    written = writer()
    stream = written.encode([Started(), TextDelta("x"), Closed(), Stopped(stop, usage=USAGE)])
    check_stream("responses", stream)
    answer = json.loads(written.answer)
    assert answer["status"] == status
    assert answer["incomplete_details"] == (reason and {"reason": reason})
    assert answer["output"][-1]["status"] == status
    assert (answer["completed_at"] is None) == (status != "completed")


@pytest.mark.parametrize(
    "events",
    [
        [ToolOpened("c", "w"), ToolDelta('{"a":'), Closed()],
        [TextDelta("x"), Closed(), ToolOpened("c", "w", True), ToolDelta("*"), Closed()],
    ],
)
def test_a_call_cut_by_the_limit_is_not_complete(events: list[Event]) -> None:
    """BerriAI/litellm#19028."""
    written = writer()
    check_stream("responses", written.encode([Started(), *events, Stopped("length", usage=USAGE)]))
    answer = json.loads(written.answer)
    assert [item["status"] for item in answer["output"]] == ["completed", "incomplete"][
        2 - len(answer["output"]) :
    ]


def test_refusals() -> None:
    written = writer()
    stream = written.encode(
        [
            Started(),
            TextDelta("Well"),
            Closed(),
            RefusalDelta("I "),
            RefusalDelta("won't."),
            Closed(),
            Stopped("refusal", usage=USAGE),
        ]
    )
    check_stream("responses", stream)
    [message] = json.loads(written.answer)["output"]
    assert [part.get("text", part.get("refusal")) for part in message["content"]] == [
        "Well",
        "I won't.",
    ]
    for explanation, said in ((None, DECLINED), ("Not that.", "Not that.")):
        written = writer()
        check_stream(
            "responses", written.encode([Started(), Stopped("refusal", None, explanation, USAGE)])
        )
        [message] = json.loads(written.answer)["output"]
        assert message["content"] == [{"type": "refusal", "refusal": said}]


def test_citations() -> None:
    """Blocks of text are one message, however a source cuts them; offsets are the message's."""
    written = writer()
    stream = written.encode(
        [
            Started(),
            TextDelta("Before."),
            Closed(),
            ToolOpened("c", "w"),
            Closed(),
            TextDelta("See "),
            Closed(),
            TextDelta("Rome"),
            Cited(Citation("https://a.example", "A")),
            Cited(Citation(quoted="nowhere")),
            Closed(),
            TextDelta("."),
            Cited(Citation("https://b.example", "B", start=11, end=15)),
            Closed(),
            Stopped("end", usage=USAGE),
        ]
    )
    check_stream("responses", stream)
    message = json.loads(written.answer)["output"][2]
    [part] = message["content"]
    assert part["text"] == "See Rome."
    places = [(a["url"], a["start_index"], a["end_index"]) for a in part["annotations"]]
    assert places == [("https://a.example", 4, 8), ("https://b.example", 4, 8)]


def test_thinking_its_own_maker_gave_is_given_as_it_was() -> None:
    native = Signature(origin=Origin("responses"), data="gAAAA+/=", id="rs_9")
    written = writer()
    stream = written.encode([Started(), Signed(native), Closed(), Stopped("end", usage=USAGE)])
    check_stream("responses", stream)
    [item] = json.loads(written.answer)["output"]
    assert item["encrypted_content"] == "gAAAA+/="
    assert item["summary"] == []


def test_each_thought_keeps_its_own_seal() -> None:
    """BerriAI/litellm#38809, #41361, openai/openai-agents-python#4155."""
    other = Signature(origin=SEALED.origin, data="other", redacted=True)
    written = writer()
    written.encode(
        [
            Started(),
            ThinkingDelta("a"),
            Signed(SEALED),
            Closed(),
            Signed(other),
            Closed(),
            ThinkingDelta("b"),
            Closed(),
            Stopped("end", usage=USAGE),
        ]
    )
    items = check("response", written.answer)["output"]
    assert [unpack(item.get("encrypted_content", "")) for item in items] == [SEALED, other, None]


CONTENT = {
    "error": {
        "message": "Overloaded: X is currently overloaded. Please try again later.",
        "type": "server_error",
        "param": None,
        "code": "upstream_unavailable",
        "details": {"field": None, "issue": "busy"},
    }
}


@pytest.mark.parametrize(
    ("events", "items"),
    [
        ([], 0),
        (EVENTS[:1], 0),
        (EVENTS[:4], 0),
        (EVENTS[:7], 1),
        (EVENTS[:8], 2),
        (EVENTS[:10], 2),
        (EVENTS[:12], 3),
    ],
)
def test_a_stream_that_breaks_ends_with_its_failure(events: list[Event], items: int) -> None:
    """router-for-me/CLIProxyAPI#3055, openai/codex#41340; nested and flat together:
    stdapi-ai/stdapi.ai#294, openai/openai-dotnet#881, can1357/oh-my-pi#2570.
    """
    written = writer({"tools": [{"type": "function", "name": "w"}]})
    stream = written.encode(events) + written.encode_failure(CONTENT)
    check_stream("responses", stream, error=True)
    error, failed = parsed(stream)[-2:]
    assert error["code"] == error["error"]["code"] == "server_is_overloaded"
    assert error["message"] == error["error"]["message"] == CONTENT["error"]["message"]
    assert failed["response"]["error"] == {"code": error["code"], "message": error["message"]}
    assert len(failed["response"]["output"]) == items
    assert written.answer == b""


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("rate_limit_exceeded", "rate_limit_exceeded"),
        ("upstream_unavailable", "server_is_overloaded"),
        ("budget_exceeded", "insufficient_quota"),
        ("insufficient_credits", "insufficient_quota"),
        ("context_length_exceeded", "context_length_exceeded"),
        ("upstream_error", "upstream_error"),
        (None, "server_error"),
    ],
)
def test_codes_by_which_clients_act(ours: str | None, theirs: str) -> None:
    """openai/codex#43337."""
    content = {"error": {**CONTENT["error"], "code": ours}}
    error, failed = parsed(writer().encode_failure(content))[-2:]
    assert error["code"] == failed["response"]["error"]["code"] == theirs


def test_the_keep_alive_is_a_comment() -> None:
    assert CLIENT.ping == b": keep-alive\n"


blocks = st.one_of(
    st.lists(st.text(min_size=1), min_size=1, max_size=4).map(
        lambda texts: [*map(TextDelta, texts), Closed()]
    ),
    st.lists(st.text(min_size=1), min_size=1, max_size=4).map(
        lambda texts: [*map(ThinkingDelta, texts), Signed(SEALED), Closed()]
    ),
    st.dictionaries(st.text(), st.text(), max_size=2).map(
        lambda value: [ToolDelta(json.dumps(value, ensure_ascii=False)), Closed()]
    ),
)


@given(st.lists(blocks, max_size=6), st.sampled_from(["end", "length", "refusal"]))
def test_no_text_is_lost_or_changed(found: list[list[Event]], stop: Stop) -> None:
    events: list[Event] = [Started()]
    for number, block in enumerate(found):
        if isinstance(block[0], ToolDelta):
            events.append(ToolOpened(f"call_{number}", "w"))
        events += block
    events.append(Stopped(stop, usage=USAGE))
    written = writer()
    actual = check_stream("responses", written.encode(events))
    reply = fold(events)
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert actual.text == said
    assert actual == summary("responses", writer().encode_body(reply))
