"""The older completions."""

import json
from typing import Any

import msgspec
import pytest

from edge.dialects.codec import Caller
from edge.dialects.conversation import (
    Refusal,
    Text,
    Thinking,
    Turn,
)
from edge.dialects.events import (
    Reply,
    Started,
    TextDelta,
    unfold,
)
from edge.dialects.openai_completions import CLIENT
from middlewares.exchange import Usage
from middlewares.problem import Problem
from tests.schemas import check, check_stream

ID = "0123456789abcdef0123456789abcdef"


def raw(**fields: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}


def caller(**fields: Any) -> Caller:
    return Caller(model="acme/best", id=ID, created=1700000000, fields=raw(**fields))


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_a_prompt_is_a_message(prompt: Any) -> None:
    read = CLIENT.read(
        raw(
            model="m",
            prompt=prompt,
            max_tokens=16,
            temperature=0.5,
            stop="\n",
            n=1,
            best_of=1,
            echo=True,
            suffix="",
            logprobs=3,
            user="u",
            stream=True,
            stream_options={"include_usage": True},
            seed=7,
        )
    )
    assert read.turns == [Turn("user", [Text(text="Once")])]
    assert (read.max_tokens, read.temperature, read.stop) == (16, 0.5, ("\n",))
    assert (read.user, read.stream) == ("u", True)
    assert read.dropped == ["`seed`"]


def test_what_is_not_said_is_not_known() -> None:
    read = CLIENT.read(raw(prompt="Once", max_tokens=None, stop=None))
    assert read.max_tokens is None
    assert read.stop == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": " "}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt[0]"),
        ({"prompt": "a", "n": 2}, "n"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "echo": 1}, "echo"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "temperature": 3}, "temperature"),
    ],
)
def test_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Problem) as raised:
        CLIENT.read(raw(**fields))
    assert raised.value.param == param


REPLY = Reply(
    blocks=[Thinking(text="hm"), Text(text="upon "), Text(text="a time")],
    stop="length",
    usage=Usage(input=1, output=5),
)


@pytest.mark.parametrize("prompt", ["Once ", ["Once "]])
@pytest.mark.parametrize("echo", [True, False, None])
def test_a_stream_and_a_body_say_the_same(prompt: Any, echo: bool | None) -> None:
    asked = caller(prompt=prompt, echo=echo, stream_options={"include_usage": True})
    body = json.loads(CLIENT.writer(asked).encode_body(REPLY))
    check("text_completion", body)
    writer = CLIENT.writer(asked)
    stream = b"".join(writer.encode([event]) for event in unfold(REPLY))
    streamed = check_stream("completions", stream, include_usage=True)
    expected = ("Once " if echo else "") + "upon a time"
    assert body["choices"] == [
        {"text": expected, "index": 0, "logprobs": None, "finish_reason": "length"}
    ]
    assert body["usage"]["total_tokens"] == 6
    assert streamed.text == expected
    assert CLIENT.writer(asked).encode(list(unfold(REPLY))) == stream


def test_usage_only_when_asked() -> None:
    stream = CLIENT.writer(caller(prompt="a")).encode(list(unfold(REPLY)))
    assert b"usage" not in stream
    check_stream("completions", stream, include_usage=False)


def test_a_refusal_is_text() -> None:
    reply = Reply(blocks=[Refusal(text="No.")], stop="refusal")
    body = json.loads(CLIENT.writer(caller(prompt="a")).encode_body(reply))
    assert body["choices"][0]["text"] == "No."
    assert body["choices"][0]["finish_reason"] == "content_filter"


def test_a_stream_that_broke_ends_with_its_error() -> None:
    writer = CLIENT.writer(caller(prompt="a"))
    error = {"error": {"message": "x", "type": "server_error", "param": None, "code": "y"}}
    stream = writer.encode([Started(), TextDelta("a")]) + writer.encode_failure(error)
    check_stream("completions", stream, error=True)
