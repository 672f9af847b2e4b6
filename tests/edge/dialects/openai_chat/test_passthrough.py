"""Chat answers that pass, of upstreams that write them in ways of their own."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from edge.dialects.openai_chat.chat_relay import ChatRelay
from edge.dialects.openai_chat.passthrough import finish_body
from edge.dialects.passthrough import UpstreamError
from middlewares import sse
from middlewares.exchange import Usage

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"
STOP = {"index": 0, "delta": {}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def event(*choices: Json, **members: Any) -> bytes:
    body = {"id": "c1", "object": "chat.completion.chunk", "model": "up", "choices": choices}
    return b"data: " + json.dumps(body | members, separators=(",", ":")).encode() + b"\n\n"


def said(content: Any, **choice: Any) -> Json:
    return {"index": 0, "delta": {"content": content}, "finish_reason": None} | choice


class Relayed:
    """What a caller makes of a stream."""

    def __init__(self, blocks: Sequence[bytes], **fields: Any) -> None:
        disclose = fields.pop("disclose", False)
        raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
        relay = ChatRelay(raw, "ours", disclose=disclose)
        self.usage: Usage | None = None
        self.broke: UpstreamError | None = None
        out = b""
        try:
            for block in blocks:
                out += relay.relay(block)
            out += relay.relay_end()
        except UpstreamError as broke:
            self.broke = broke
            out += broke.passed
        self.content = relay.content
        self.usage = relay.usage
        self.size = relay.output_size
        self.out = out
        datas = [each.data for each in map(sse.parse, sse.split(out)) if each is not None]
        self.done = datas.count(b"[DONE]")
        self.chunks: list[Json] = [json.loads(data) for data in datas if data != b"[DONE]"]

    @property
    def choices(self) -> list[Json]:
        return [choice for chunk in self.chunks for choice in chunk["choices"]]

    @property
    def text(self) -> str:
        return "".join(choice["delta"].get("content") or "" for choice in self.choices)

    @property
    def reasons(self) -> list[str]:
        return [reason for each in self.choices if (reason := each.get("finish_reason"))]


def ways(*blocks: bytes) -> list[list[bytes]]:
    """`blocks` one by one, and in one piece."""
    return [list(blocks), [b"".join(blocks)]]


# No answer, or half of one ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "last",
    [
        b'data: {"detail":"vendor-secret failed"}\n\n' + DONE,
        b'data: {"code":500,"msg":"vendor-secret"}\n\n',
        b'data: {"base_resp":{"status_code":1000,"status_msg":"vendor-secret"}}\n\n' + DONE,
        b'data: {"message":"vendor-secret"}\n\n',
        b'data: {"error":{}}\n\n',
        b"data: vendor-secret is down\n\n",
        event(said("", error={"code": 502, "message": "vendor-secret"})),
        event(said("", error={"message": "vendor-secret"}, finish_reason="error")),
        event(said("", finish_reason="network_error")) + DONE,
        event({"index": 0, "delta": {}, "finish_reason": "MALFORMED_FUNCTION_CALL"}),
        event(base_resp={"status_code": 1002, "status_msg": "vendor-secret"}),
        event(code=500, message="vendor-secret"),
        b'data: {"model":"up","detail":"vendor-secret"}\n\n',
        DONE,
        b"",
        event(said("")) + DONE,
    ],
)
def test_relay_breaks_where_the_answer_does(last: bytes) -> None:
    for blocks in ways(event(said("half ")), event(said("of it")), last):
        relayed = Relayed(blocks)
        assert relayed.broke is not None
        assert (relayed.text, relayed.done) == ("half of it", 0)
        assert b"vendor-secret" not in relayed.out
    first = Relayed([last])
    assert first.broke is not None
    assert not first.content


def test_relay_words_of_the_chunk_that_breaks_are_passed() -> None:
    relayed = Relayed([event(said("half")), event(said(" more", finish_reason="abort"))])
    assert (relayed.text, relayed.reasons, relayed.done) == ("half more", [], 0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"detail": "vendor-secret"},
        {"code": 500, "msg": "vendor-secret", "success": False},
        {"choices": []},
        {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "vendor-secret"}},
        {"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}}]},
        {"choices": [{"message": {"content": ""}, "error": {"message": "vendor-secret"}}]},
        {"choices": [{"message": {"content": "half"}, "finish_reason": "abort"}]},
        {"choices": [{"message": {"content": "Hi"}}], "base_resp": {"status_code": 1027}},
        {"choices": [{"message": {"content": "Hi"}}], "error": {"message": "vendor-secret"}},
        {"choices": "none"},
        {"choices": [{"message": "vendor-secret"}]},
    ],
)
def test_finish_body_refuses_what_is_no_answer(body: Json) -> None:
    with pytest.raises(UpstreamError):
        finish_body(json.dumps({"model": "up", "usage": USAGE, **body}).encode(), "ours")


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"},
        {"message": {"role": "assistant", "content": None}, "finish_reason": "length"},
        {"message": {"content": None, "refusal": "No."}},
        {"message": {"content": None, "tool_calls": [{"id": "c"}]}, "finish_reason": "tool_calls"},
        {"message": {"content": None, "reasoning_content": "hm"}},
    ],
)
def test_finish_body_passes_an_answer_that_says_little(choice: Json) -> None:
    body = json.dumps({"model": "up", "choices": [choice]}).encode()
    out, _ = finish_body(body, "ours")
    assert json.loads(out) == {"model": "ours", "choices": [choice]}


def test_relay_passes_chunks_without_choices_that_belong_to_the_dialect() -> None:
    filtered = event(prompt_filter_results=[{"prompt_index": 0}])
    relayed = Relayed([filtered, event(said("Hi")), event(STOP), event(usage=USAGE), DONE])
    assert "prompt_filter_results" in relayed.chunks[0]
    assert (relayed.text, relayed.done, relayed.broke) == ("Hi", 1, None)
    assert relayed.usage == Usage(input=10, output=5)


# Finish reasons ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("stop", "stop"),
        ("function_call", "function_call"),
        ("eos", "stop"),
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("model_length", "length"),
        ("MAX_TOKENS", "length"),
        ("sensitive", "content_filter"),
        ("SAFETY", "content_filter"),
        ("tool_use", "tool_calls"),
        ("an unknown word", "an unknown word"),
    ],
)
def test_finish_reason_is_written_in_words_of_the_dialect(word: str, written: str) -> None:
    last = {"index": 0, "delta": {}, "finish_reason": word}
    relayed = Relayed([event(said("Hi")), event(last), DONE])
    assert (relayed.reasons, relayed.done) == ([written], 1)
    message = {"role": "assistant", "content": "Hi"}
    body = {"model": "up", "choices": [{"index": 0, "message": message, "finish_reason": word}]}
    out, _ = finish_body(json.dumps(body).encode(), "ours")
    assert json.loads(out)["choices"][0]["finish_reason"] == written


@pytest.mark.parametrize("word", ["", "null"])
def test_finish_reason_that_is_empty_is_none(word: str) -> None:
    chunks = [event(said(text, finish_reason=word)) for text in ("a", "b", "c", "d")]
    cut = Relayed(chunks)
    assert cut.broke is not None
    assert (cut.text, cut.reasons, cut.done) == ("abcd", [], 0)
    whole = Relayed([*chunks, event(STOP), DONE])
    assert (whole.text, whole.reasons, whole.done) == ("abcd", ["stop"], 1)


@pytest.mark.parametrize(
    ("message", "written"),
    [({"content": "Hi"}, "stop"), ({"content": None, "tool_calls": [{"id": "c"}]}, "tool_calls")],
)
def test_finish_body_empty_reason_is_filled(message: Json, written: str) -> None:
    body = {"model": "up", "choices": [{"index": 0, "message": message, "finish_reason": ""}]}
    out, _ = finish_body(json.dumps(body).encode(), "ours")
    assert json.loads(out)["choices"][0]["finish_reason"] == written


# Heartbeats and ends ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beat",
    [
        b"data:\n\n",
        b"data: \n\n",
        b"data: ping\n\n",
        b"data: {}\n\n",
        b"event: ping\ndata: {}\n\n",
        b'data: {"type":"ping"}\n\n',
        b'event: metadata\ndata: {"took":1}\n\n',
        b'event: metadata\ndata: {"message":"working"}\n\n',
        b'data: {"status":"processing"}\n\n',
    ],
)
def test_heartbeats_are_left_out(beat: bytes) -> None:
    stream = [
        beat,
        event(said("Hello ")),
        beat,
        event(said("there.")),
        beat,
        event(STOP),
        beat,
        DONE,
    ]
    for blocks in ways(*stream):
        relayed = Relayed(blocks)
        assert (relayed.text, relayed.done, relayed.broke) == ("Hello there.", 1, None)
        assert len(relayed.chunks) == 3
    assert not Relayed([beat]).content


@pytest.mark.parametrize(
    "end", [b"data:  [DONE] \n\n", b"data:\t[DONE]\n\n", b'data: "[DONE]"\n\n', b"data: [done]\n\n"]
)
def test_done_in_another_spelling_is_an_end(end: bytes) -> None:
    relayed = Relayed([event(said("Hi")), event(STOP), end])
    assert relayed.out.endswith(DONE)
    assert (relayed.done, relayed.broke) == (1, None)


# Odd members ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"error": ""},
        {"error": {}},
        {"error": False},
        {"error": {"message": "", "code": None}},
        {"usage": "n/a"},
        {"usage": {"prompt_tokens": []}},
        {"id": 7},
        {"created": "now"},
    ],
)
def test_odd_members_not_needed_do_no_harm(members: Json) -> None:
    stream = [event(said("Hello "), **members), event(said("there.")), event(STOP, **members), DONE]
    for blocks in ways(*stream):
        relayed = Relayed(blocks)
        assert (relayed.text, relayed.done, relayed.broke) == ("Hello there.", 1, None)
        assert not any("error" in chunk for chunk in relayed.chunks)
    message = {"role": "assistant", "content": "Hello there.", "refusal": False, "annotations": {}}
    choice = {"index": "0", "message": message, "finish_reason": "stop"}
    out, _ = finish_body(json.dumps({"choices": [choice], **members}).encode(), "ours")
    assert json.loads(out)["choices"][0]["message"]["content"] == "Hello there."


def test_nan_is_null_for_the_caller() -> None:
    logprobs = {"content": [{"token": "x", "logprob": float("nan")}]}
    stream = [event(said("Hello")), event(said(" there.", logprobs=logprobs)), event(STOP), DONE]
    for blocks in ways(*stream):
        relayed = Relayed(blocks, logprobs=True)
        assert relayed.text == "Hello there."
        assert b"NaN" not in relayed.out
    choice = {"message": {"content": "Hi"}, "logprobs": logprobs, "finish_reason": "stop"}
    out, _ = finish_body(json.dumps({"choices": [choice], "model": "up"}).encode(), "ours")
    assert json.loads(out)["choices"][0]["logprobs"]["content"][0]["logprob"] is None


def test_a_byte_order_mark_does_no_harm() -> None:
    body = '\ufeff{"model":"up","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}'
    out, _ = finish_body(body.encode(), "ours")
    assert json.loads(out)["model"] == "ours"


def test_halves_of_a_character_are_joined() -> None:
    stream = [
        event(said("first ")),
        event(said("hi \ud83d")),
        event(said("\ude00 there")),
        event(said("!")),
        event(STOP),
        DONE,
    ]
    for blocks in ways(*stream):
        relayed = Relayed(blocks)
        assert (relayed.text, relayed.done) == ("first hi \U0001f600 there!", 1)


def test_a_half_that_stays_alone_is_replaced() -> None:
    relayed = Relayed([event(said("first ")), event(said("hi \ud83d"))])
    assert relayed.broke is not None
    assert relayed.text == "first hi \ufffd"


# Several choices --------------------------------------------------------------------------------

TEXT: Json = {"role": "assistant", "content": "Looking."}


def call(id_: str, **more: Any) -> Json:
    return {"id": id_, "type": "function", "function": {"name": "w", "arguments": "{}"}} | more


@pytest.mark.parametrize("numbered", [False, True])
def test_finish_body_text_and_calls_in_several_choices_are_one(numbered: bool) -> None:
    messages = [TEXT, {"tool_calls": [call("a")]}, {"content": "", "tool_calls": [call("b")]}]
    choices = [
        {"message": message, "finish_reason": "stop"} | ({"index": at} if numbered else {})
        for at, message in enumerate(messages)
    ]
    choices[1]["finish_reason"] = "tool_calls"
    body = json.dumps({"model": "up", "choices": choices}).encode()
    out, _ = finish_body(body, "ours")
    (choice,) = json.loads(out)["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "tool_calls")
    assert choice["message"] == TEXT | {"tool_calls": [call("a"), call("b")]}


def test_finish_body_a_sole_choice_is_number_0() -> None:
    choice = {"index": 1, "message": TEXT, "finish_reason": "stop"}
    out, _ = finish_body(json.dumps({"choices": [choice]}).encode(), "ours")
    assert json.loads(out)["choices"] == [choice | {"index": 0}]


@pytest.mark.parametrize("index", ["one", [1], {"a": 1}, 1.5, True])
def test_numbers_that_are_none_are_those_of_the_place(index: Any) -> None:
    choices = [{"index": index, "message": TEXT, "finish_reason": "stop"} for _ in range(2)]
    out, _ = finish_body(json.dumps({"choices": choices}).encode(), "ours")
    assert json.loads(out)["choices"] == [choices[0] | {"index": 0}]
    relayed = Relayed([event(said("Hi", index=index)), event(STOP | {"index": index}), DONE])
    assert (relayed.text, relayed.done) == ("Hi", 1)


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"tool_calls": ["x"]}, "finish_reason": "stop", "index": 1},
        {"message": {"tool_calls": {"a": 1}}, "finish_reason": "stop", "index": 1},
    ],
)
def test_finish_body_calls_that_cannot_be_read_break(choice: Json) -> None:
    with pytest.raises(UpstreamError):
        finish_body(json.dumps({"choices": [choice]}).encode(), "ours")


def test_finish_body_several_that_were_asked_for_stay() -> None:
    choices = [{"index": at, "message": TEXT, "finish_reason": "stop"} for at in range(2)]
    body = json.dumps({"model": "up", "choices": choices}).encode()
    out, _ = finish_body(body, "ours", fields={"n": msgspec.Raw(b"2")})
    assert json.loads(out)["choices"] == choices


def test_relay_text_and_calls_in_several_choices_are_one() -> None:
    def part(number: int, **function: Any) -> Json:
        delta = {"tool_calls": [{"index": 0, "function": function}]}
        return {"index": number, "delta": delta, "finish_reason": None}

    stream = [
        event(said("Look")),
        event(said("ing.")),
        event(part(1, name="f", arguments="")),
        event(part(1, arguments="{}")),
        event(part(2, name="g", arguments="{}")),
        event({"index": 1, "delta": {}, "finish_reason": "tool_calls"}),
        DONE,
    ]
    for blocks in ways(*stream):
        relayed = Relayed(blocks)
        assert (relayed.text, relayed.reasons, relayed.done) == ("Looking.", ["tool_calls"], 1)
        assert {choice["index"] for choice in relayed.choices} == {0}
        calls = [each for c in relayed.choices for each in c["delta"].get("tool_calls", ())]
        assert [each["index"] for each in calls] == [0, 0, 1]


def test_relay_several_that_were_asked_for_stay() -> None:
    stream = [event(said("a")), event(said("b", index=1)), event(STOP), DONE]
    relayed = Relayed(stream, n=2)
    assert [choice["index"] for choice in relayed.choices] == [0, 1, 0]


# Names of the upstream --------------------------------------------------------------------------

TELLING: Json = {"system_fingerprint": "vendor-secret", "provider": "vendor-secret"}


@pytest.mark.parametrize("asks", [{}, {"stream_options": {"include_usage": True}}])
@pytest.mark.parametrize(
    "members",
    [
        TELLING,
        {"x_groq": {"id": "vendor-secret"}},
        {"route": {"model": "vendor-secret"}},
        {"model_name": "vendor-secret"},
    ],
)
def test_relay_does_not_name_the_upstream(members: Json, asks: Json) -> None:
    costs = USAGE | {"cost": 0.1, "is_byok": False, "cost_details": {"vendor-secret": 1}}
    words = ["Hel", "lo", " \u00e9", " there", "."]
    stream = [event(said("", native_finish_reason=None), novel=1, **members)]
    stream += [event(said(word), novel=1, **members) for word in words]
    stream += [event({"index": 0, "delta": {"reasoning": "x"}}, **members), event(STOP, **members)]
    stream += [event(usage=costs, **members), DONE]
    for blocks in ways(*stream):
        relayed = Relayed(blocks, **asks)
        assert b"vendor-secret" not in relayed.out
        assert (relayed.text, relayed.done) == ("Hello \u00e9 there.", 1)
        assert {chunk["model"] for chunk in relayed.chunks} == {"ours"}
        assert relayed.chunks[1]["novel"] == 1
        if "system_fingerprint" in members:
            assert {chunk["system_fingerprint"] for chunk in relayed.chunks} == {None}
        assert (
            [chunk["usage"] for chunk in relayed.chunks if "usage" in chunk] == [USAGE]
        ) is bool(asks)


@pytest.mark.parametrize("members", [{}, TELLING])
@pytest.mark.parametrize("spaced", [False, True])
def test_relay_null_usage_that_was_not_asked_for_is_in_no_chunk(
    spaced: bool, members: Json
) -> None:
    """Also in the first chunk, and in others that are written again."""
    stream = [event(said(""), usage=None, **members)]
    stream += [event(said(word), usage=None, **members) for word in ("Hel", "lo")]
    stream += [event(STOP, usage=None, **members), event(usage=USAGE, **members), DONE]
    if spaced:
        stream = [each.replace(b',"usage":null', b', "usage" : null') for each in stream]
    for blocks in ways(*stream):
        relayed = Relayed(blocks)
        assert relayed.text == "Hello"
        assert not [chunk for chunk in relayed.chunks if "usage" in chunk]


def test_relay_a_name_that_comes_late_does_not_pass() -> None:
    stream = [event(said("a")), event(said("b")), event(said("c"), provider="vendor-secret")]
    for blocks in ways(*stream, event(STOP), DONE):
        relayed = Relayed(blocks)
        assert (relayed.text, b"vendor-secret" in relayed.out) == ("abc", False)


def test_relay_discloses_where_the_operator_says_so() -> None:
    stream = [
        event(said("a"), **TELLING),
        event(said("b"), **TELLING),
        event(STOP, **TELLING),
        DONE,
    ]
    relayed = Relayed(stream, disclose=True)
    assert relayed.out == b"".join(stream).replace(b'"model":"up"', b'"model":"ours"')


def test_finish_body_does_not_name_the_upstream() -> None:
    choice = {"index": 0, "message": TEXT, "finish_reason": "stop", "native_finish_reason": "x"}
    usage = USAGE | {"cost": 0.1}
    body = json.dumps({"model": "up", "choices": [choice], "usage": usage, "a": 1, **TELLING})
    out, counted = finish_body(body.encode(), "ours")
    del choice["native_finish_reason"]
    expected = {"model": "ours", "choices": [choice], "usage": USAGE, "a": 1}
    assert json.loads(out) == expected | {"system_fingerprint": None}
    assert counted == Usage(input=10, output=5)
    disclosed, _ = finish_body(body.encode(), "ours", disclose=True)
    assert json.loads(disclosed) == {**json.loads(body), "model": "ours"}
    empty, _ = finish_body(body[:-1].encode() + b',"error":""}', "ours", disclose=True)
    assert json.loads(empty) == json.loads(disclosed)


@pytest.mark.parametrize("model", [{"name": "vendor-secret"}, ["vendor-secret"], 5])
def test_model_of_another_type_names_no_model_and_does_no_harm(model: Any) -> None:
    stream = [event(said("a"), model=model), event(said("b"), model=model), event(STOP), DONE]
    for blocks in ways(*stream):
        relayed = Relayed(blocks)
        assert (relayed.text, relayed.done, b"vendor-secret" in relayed.out) == ("ab", 1, False)
    choice = {"index": 0, "message": TEXT, "finish_reason": "stop"}
    out, _ = finish_body(json.dumps({"model": model, "choices": [choice]}).encode(), "ours")
    assert json.loads(out)["choices"] == [choice]
    assert b"vendor-secret" not in out


def test_relay_a_member_in_other_letters_is_read_as_every_client_reads_it() -> None:
    odd = event(said("b")).replace(b'"model":"up"', b'"mod\\u0065l":"vendor-secret"')
    for blocks in ways(event(said("a")), odd, event(STOP), DONE):
        relayed = Relayed(blocks)
        assert (relayed.text, relayed.done, b"vendor-secret" in relayed.out) == ("ab", 1, False)


def test_text_of_choices_that_were_not_asked_for_is_not_said() -> None:
    both = event(said("Hello"), said("unasked", index=1))
    stream = [both, event(said("not asked for", index=1)), event(said(" you")), event(STOP), DONE]
    for blocks in ways(*stream):
        relayed = Relayed(blocks)
        assert (relayed.text, relayed.size) == ("Hello you", len("Hello you"))
    assert Relayed(stream, n=2).size == len("Hello youunaskednot asked for")
