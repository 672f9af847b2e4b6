"""Numbers in texts of strangers and operators: ASCII digits, no more than can be read."""

import json
from typing import Any

import msgspec
import pytest

from edge.api.responses.items import KeptItem, as_listed
from edge.config.units import Credits, Duration, RateSetting, Size
from edge.dialects.openai_responses.passthrough import SEQUENCE_NUMBER
from edge.vendors.errors.body import read_error
from edge.vendors.errors.overflow import overflow_message
from edge.vendors.errors.retry_after import duration, retry_after, wait_in
from middlewares.exchange import Dialect
from tests.asgi import request

from .scripted import JSON, Answer, Scripted, ScriptedGateway

MANY = "9" * 5000
ARABIC, WIDE = "\u0663", "\uff15"


@pytest.mark.parametrize("unit", [Credits, Duration, RateSetting, Size])
@pytest.mark.parametrize(
    "text",
    ["{}", "{}.00", "{}s", "{}m", "{}/min", "1/{}min", "{}MiB", "1.{}", "{}k/min", "-{}", "{}e1"],
)
@pytest.mark.parametrize("digits", [ARABIC, WIDE, "1_000", MANY, "1" + ARABIC])
def test_unit_of_other_digits_is_refused(unit: Any, text: str, digits: str) -> None:
    with pytest.raises(ValueError, match=r"^expected "):
        unit.parse(text.format(digits))


@pytest.mark.parametrize("unit", [Credits, Duration, Size])
def test_unit_of_huge_number_is_refused(unit: Any) -> None:
    for number in (10**4400, -(10**4400), 10**400, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"^expected "):
            unit.parse(number)


def test_unit_of_ordinary_text_is_read() -> None:
    assert int(Credits.parse("3.00")) == 3 * 10**9
    assert float(Duration.parse("1h30m")) == 5400
    assert int(Size.parse("1.5KiB")) == 1536
    assert RateSetting.parse("200k/10min") == RateSetting(200_000, 600)


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
@pytest.mark.parametrize(
    "text",
    [
        f"prompt is too long: {MANY} tokens > {MANY} maximum",
        f"input is too long: {MANY} + {MANY} > {MANY}",
        f"maximum context length is {MANY} tokens, requested {MANY} tokens",
        f"too many tokens: {MANY}, {MANY}",
        f"too many tokens: {ARABIC * 4} > {ARABIC * 3}",
    ],
)
def test_overflow_message_leaves_out_numbers_that_are_none(dialect: Dialect, text: str) -> None:
    said = overflow_message(text, dialect)
    assert len(said) < 200
    assert "99999" not in said
    assert said.isascii()


def test_overflow_message_keeps_ordinary_numbers() -> None:
    received = "This model's maximum context length is {} tokens. However, your messages resulted "
    for text in (
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input is too long: 9 + 209991 > 200000",
        "maximum context length is 200000 tokens. However, you requested 210000 tokens",
        "the input of 210,000 tokens exceeds the limit of 200,000",
    ):
        said = overflow_message(text, "openai")
        assert said.startswith(received.format(200000)), text
        assert "210000" in said


@pytest.mark.parametrize("value", [MANY, f"{MANY}s", f"retry in {MANY} seconds", ARABIC, "1_0"])
def test_wait_of_odd_number_is_bounded(value: str) -> None:
    for wait in (
        retry_after([(b"retry-after", value.encode("utf-8"))], 0.0),
        retry_after([(b"retry-after-ms", value.encode("utf-8"))], 0.0),
        wait_in(duration(value), ""),
        wait_in(None, f"Please try again in {value}s"),
        wait_in(read_error(json.dumps({"error": {"retryDelay": value}}).encode()).wait, ""),
    ):
        assert wait is None or 1 <= wait <= 3600


@pytest.mark.parametrize("text", ["{}s", "{}.{}s", "retry {}s", "{}x", "{} ", "1.{}e", "1s{}"])
def test_wait_of_a_long_number_is_read_in_linear_time(text: str) -> None:
    """Steps that grow with the square of a million digits would take hours."""
    value = text.replace("{}", "9" * 1_000_000)
    assert duration(value) in (None, float("inf"), 1.0)
    assert wait_in(None, f"Please try again in {value}") in (None, 1)
    assert retry_after([(b"retry-after-ms", value.encode())], 0.0) in (None, 1)


def test_sequence_number_of_too_many_digits_is_none() -> None:
    assert SEQUENCE_NUMBER.findall(
        b'"sequence_number":12,"sequence_number": %b' % MANY.encode()
    ) == [b"12"]


def test_listed_item_with_numbers_that_cannot_be_written_is_shown() -> None:
    raw = msgspec.Raw(b'{"type":"x","a":%b,"b":1e999999,"c":1.5,"d":-7}' % MANY.encode())
    shown = as_listed(KeptItem("id", raw))
    assert json.loads(json.dumps(shown, allow_nan=False))["d"] == -7
    assert (shown["a"], shown["b"], shown["c"]) == (MANY, "1e999999", 1.5)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
async def test_overflow_with_5000_digits_is_an_ordinary_refusal(path: str, stream: bool) -> None:
    text = f"prompt is too long: {MANY} + {MANY} > {MANY} tokens, context length {MANY}"
    body = json.dumps({"error": {"message": text, "type": "invalid_request_error"}}).encode()
    gateway = ScriptedGateway(Scripted(Answer([body], status=400, headers=[JSON])))
    turns = {"input": "Hi"} if path == "/v1/responses" else {"messages": [{"role": "user"}]}
    asked = {"model": "m1", "max_tokens": 9, "stream": stream, **turns}
    if path != "/v1/messages":
        del asked["max_tokens"]
    answer = await request(gateway.app, "POST", path, json=asked)
    assert answer.status == 400, answer.text
    (line,) = gateway.log
    assert line["problem"] == "context_length_exceeded"
    assert len(json.dumps(line)) < 4000


async def test_tool_schema_that_refers_to_place_of_5000_digits_is_refused() -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    schema = {"type": "object", "anyOf": [{}], "properties": {"a": {"$ref": f"#/anyOf/{MANY}"}}}
    tool = {"type": "function", "function": {"name": "n", "strict": True, "parameters": schema}}
    asked = {"model": "only-ant", "messages": [{"role": "user", "content": "x"}], "tools": [tool]}
    answer = await request(gateway.app, "POST", "/v1/chat/completions", json=asked)
    assert answer.status != 500
