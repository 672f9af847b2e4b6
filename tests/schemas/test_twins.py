"""What is right passes, and a stream says what its unstreamed twin says."""

import json
from typing import Any

import pytest

from edge.upstreams import Request
from tests.edge.upstreams.simulated import MESSAGES, ask, messages, whole
from tests.schemas import check, check_stream

from . import summary
from .faults import blocks, stream_of
from .samples import CASES, chat_bytes, messages_bytes, responses_events, with_usage


@pytest.mark.parametrize("words", CASES)
def test_a_stream_of_each_dialect_says_what_its_twin_says(words: str) -> None:
    text = f"Hello [[sim {words}]]"
    unstreamed = summary("chat", chat_bytes(text))
    streamed = check_stream("chat", with_usage(text), include_usage=True)
    assert streamed.without_ids() == unstreamed.without_ids()
    assert unstreamed.usage is not None
    assert unstreamed.usage["output"] > 0
    twin = summary("messages", messages_bytes(text))
    streamed = check_stream("messages", messages_bytes(text, stream=True))
    assert streamed.without_ids() == twin.without_ids()
    assert (twin.text, twin.thinking, twin.stop) == (
        unstreamed.text,
        unstreamed.thinking,
        unstreamed.stop,
    )


def test_a_summary_says_what_the_answer_says() -> None:
    found = check_stream("messages", messages_bytes(stream=True))
    assert found.stop == "tools"
    assert found.thinking.startswith("I read the question")
    assert found.text == "You said: Tell"[: len(found.text)]
    assert [name for _, name, _ in found.calls] == ["weather", "forecast"]
    assert all(json.loads(arguments).keys() == {"city", "days"} for _, _, arguments in found.calls)
    assert found.usage is not None
    assert found.usage["cache_read"] == 4
    assert found.usage["reasoning"] > 0


def test_a_tool_input_may_be_cut_by_the_length_limit() -> None:
    text = "x [[sim tools=1]]"
    found = check_stream("messages", messages_bytes(text, stream=True, max_tokens=1))
    assert found.stop == "length"
    cut = found.calls[0][2]
    assert cut
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(cut)
    found = check_stream("chat", chat_bytes(text, stream=True, max_tokens=1))
    assert (found.stop, found.calls[0][2]) == ("length", cut)


def test_usage_is_in_a_chat_stream_when_asked_for_only() -> None:
    bare = chat_bytes(stream=True)
    assert check_stream("chat", bare, include_usage=False).usage is None
    with pytest.raises(AssertionError, match="usage asked: True"):
        check_stream("chat", bare, include_usage=True)
    with pytest.raises(AssertionError, match="usage asked: False"):
        check_stream("chat", with_usage(), include_usage=False)


@pytest.mark.parametrize("after", [1, 3])
def test_a_stream_that_fails_passes_as_one_that_fails_only(after: int) -> None:
    text = f"x [[sim tokens=9 fault=error-event:{after}]]"
    for dialect, stream in (
        ("chat", chat_bytes(text, stream=True)),
        ("messages", messages_bytes(text, stream=True)),
    ):
        assert check_stream(dialect, stream, error=True).stop == "error"  # type: ignore[arg-type]
        with pytest.raises(AssertionError):
            check_stream(dialect, stream)  # type: ignore[arg-type]
    for dialect, stream in (
        ("chat", with_usage()),
        ("messages", messages_bytes(stream=True)),
        ("responses", stream_of(responses_events(), named=True)),
    ):
        with pytest.raises(AssertionError):
            check_stream(dialect, stream, error=True)  # type: ignore[arg-type]


def test_other_answers_of_the_simulator_pass() -> None:
    def got(method: bytes, target: bytes, body: Any = b"", claude: bool = False) -> bytes:
        headers = ((b"anthropic-version", b"2023-06-01"),) if claude else ()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return whole(ask(Request(method, target, headers, data)))

    check("message.count", got(b"POST", MESSAGES + b"/count_tokens", messages()))
    check("openai.models", got(b"GET", b"/v1/models"))
    check("openai.model", got(b"GET", b"/v1/models/sim-1"))
    check("anthropic.models", got(b"GET", b"/v1/models", claude=True))
    check("anthropic.model", got(b"GET", b"/v1/models/sim-1", claude=True))
    embed = {"model": "sim-embed", "input": ["a", "b"]}
    check("embeddings", got(b"POST", b"/v1/embeddings", embed))
    check("embeddings", got(b"POST", b"/v1/embeddings", {**embed, "encoding_format": "base64"}))
    check("openai.error", chat_bytes("x [[sim fault=status:429]]"))
    check("anthropic.error", messages_bytes("x [[sim fault=status:529]]"))


@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_nothing_may_stand_before_or_behind_an_error_that_says_success(dialect: str) -> None:
    named = dialect == "messages"
    text = "x [[sim tokens=9 fault=error-event:4]]"
    make = messages_bytes if named else chat_bytes
    failed = blocks(make(text, stream=True))
    good = blocks(make("x [[sim tokens=3]]", stream=True))
    for bad in ([*failed, good[-1]], [*good, failed[-1]], [*good[:-1], failed[-1]], failed[:-1]):
        with pytest.raises(AssertionError):
            check_stream(dialect, stream_of(bad, named=named), error=True)  # type: ignore[arg-type]
