"""Responses passed through: what is put right in them, and that nothing else changes."""

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from edge.dialects.conversation import Origin, Signature
from edge.dialects.openai_responses.passthrough import (
    DIALECT,
    ResponsesRelay,
    finish_body,
    prepare,
)
from edge.dialects.passthrough import UpstreamError
from edge.dialects.signatures import pack
from middlewares import sse
from middlewares.exchange import Usage
from middlewares.sse import Splitter
from tests.schemas import check, check_stream
from tests.schemas.faults import stream_of
from tests.schemas.samples import failed_events, response, responses_events

ECHO = {"previous_response_id": "resp_0", "store": True}
USAGE = Usage(input=5, output=5, cache_read=4, reasoning=2, tiers=("default", "", ""))
MESSAGE = "The model could not be reached. Please retry."
CONTENT = {
    "error": {
        "message": MESSAGE,
        "type": "server_error",
        "param": None,
        "code": "upstream_error",
    }
}


def fields(**body: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}


def prepared(model: str = "theirs", **body: Any) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(prepare(fields(model="ours", **body), model, True))
    return sent


# Requests


def test_the_request_passes_and_nothing_is_kept_there() -> None:
    raw = b'[ {"role":"user","content":"h\\u00e9","new":1.0} ]'
    body = {**fields(model="ours", store=True, x={"b": 1, "a": 2}), "input": msgspec.Raw(raw)}
    sent = prepare(body, "theirs", False)
    assert raw in sent
    assert json.loads(sent) == {
        "model": "theirs",
        "store": False,
        "x": {"b": 1, "a": 2},
        "input": [{"role": "user", "content": "hé", "new": 1.0}],
    }
    assert bytes(body["store"]) == b"true"


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (None, ["reasoning.encrypted_content"]),
        (["reasoning.encrypted_content"], ["reasoning.encrypted_content"]),
        (["x"], ["x", "reasoning.encrypted_content"]),
        ("x", "x"),
    ],
)
def test_models_that_think_give_their_reasoning_back(include: Any, expected: Any) -> None:
    if include == "x":  # the upstream tells what is wrong
        assert prepared("gpt-5.1", include=include)["include"] == "x"
        return
    assert prepared("gpt-5.1", include=include)["include"] == expected
    assert prepared("gpt-4.1", include=include)["include"] == include


def test_reasoning_that_the_upstream_cannot_read_stays_behind() -> None:
    """Of another vendor's model, or by an id of something the vendor keeps nothing of."""
    foreign = pack(Signature(origin=Origin("anthropic", "f" * 12), data="sig"))
    kept: list[Any] = [
        "hi",
        {"role": "user", "content": 'my "reasoning" is'},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "x"}]},
        {"type": "reasoning", "summary": 5, "encrypted_content": 5},
        {"type": "function_call", "call_id": "c", "name": "reasoning", "arguments": "{}"},
    ]
    lost = [
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": foreign},
        {"type": "reasoning", "id": "rs_3", "summary": [{"type": "summary_text", "text": "x"}]},
        {"type": "reasoning", "id": "rs_4", "summary": [], "encrypted_content": None},
    ]
    mixed = [item for pair in itertools.zip_longest(kept, lost) for item in pair if item]
    assert prepared(input=mixed)["input"] == kept
    assert prepared(input='"reasoning"')["input"] == '"reasoning"'


# Streams


class Result(NamedTuple):
    out: bytes
    relay: ResponsesRelay
    broke: str


def run(chunks: list[bytes]) -> Result:
    """One stream through the relay as the forwarder drives it."""
    relay = ResponsesRelay(fields(), "ours", ECHO)
    splitter = Splitter()
    out: list[bytes] = []
    try:
        for block in filter(None, map(splitter.split, chunks)):
            out.append(relay.relay(block))  # noqa: PERF401 - what came before a break counts
        if rest := splitter.rest():
            out.append(relay.relay(rest + b"\n\n"))
        out.append(relay.relay_end())
    except UpstreamError as broke:
        out.append(broke.passed)
        out.append(relay.encode_failure(CONTENT))
        return Result(b"".join(out), relay, broke.kind)
    return Result(b"".join(out), relay, "")


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    yield [stream]
    yield list(sse.split(stream))
    yield [stream[i : i + 1] for i in range(len(stream))]
    seeded = random.Random(len(stream))
    for pieces in (2, 5, 17, 40):
        edges = [0, *sorted(seeded.randrange(len(stream)) for _ in range(pieces)), len(stream)]
        yield [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]


def parsed(stream: bytes) -> list[Any]:
    return [json.loads(e.data) for e in map(sse.parse, sse.split(stream)) if e is not None]


STREAM = stream_of(responses_events(), named=True)


def test_only_the_response_objects_change() -> None:
    expected = responses_events()
    for event in expected:
        if "response" in event:
            event["response"] |= {"model": "ours", **ECHO}
    for chunks in cuts(STREAM):
        result = run(chunks)
        assert parsed(result.out) == expected
        assert result.relay.complete
        assert result.relay.usage == USAGE
        assert json.loads(result.relay.answer) == expected[-1]["response"]
    check_stream("responses", result.out)


def test_everything_between_passes_as_the_bytes_it_came_in() -> None:
    odd = STREAM.replace(b'"delta":', b'"obfuscation":"xx", "delta" : ')
    odd = odd.replace(
        b"\n\nevent: response.output_text.done", b"\n\n: ping\n\nevent: response.output_text.done"
    )
    middle = odd[
        odd.index(b"event: response.output_item") : odd.index(b"event: response.completed")
    ].replace(b": ping\n\n", b": keep-alive\n")
    for chunks in cuts(odd):
        assert middle in run(chunks).out


def test_lines_may_end_as_they_like() -> None:
    expected = parsed(run([STREAM]).out)
    assert parsed(run([STREAM.replace(b"\n", b"\r\n")]).out) == expected


@pytest.mark.parametrize(
    ("events", "content"), [(1, False), (2, False), (3, False), (4, False), (5, True)]
)
def test_what_counts_as_content(events: int, content: bool) -> None:
    """Created, in progress, a thought announced and its part begun; then a word."""
    relay = ResponsesRelay(fields(), "ours")
    relay.relay(b"".join(list(sse.split(STREAM))[:events]))
    assert relay.content is content


def test_a_call_announced_is_content() -> None:
    relay = ResponsesRelay(fields(), "ours")
    relay.relay(
        b'event: response.output_item.added\ndata: {"type":"response.output_item.added",'
        b'"item":{"type":"function_call"}}\n\n'
    )
    assert relay.content


def test_nothing_follows_the_end() -> None:
    result = run([STREAM + b"data: [DONE]\n\n" + STREAM])
    assert parsed(result.out) == parsed(run([STREAM]).out)
    assert (
        run(
            [STREAM.replace(b"event: response.created", b"data: [DONE]\n\nevent: response.created")]
        ).broke
        == ""
    )


@pytest.mark.parametrize("actual", range(2, 24))
def test_a_cut_stream_ends_with_its_failure(actual: int) -> None:
    """Numbers go on (Soju06/codex-lb#1479, Wei-Shaw/sub2api#7129, BerriAI/litellm#28899), and the
    end is a failure (router-for-me/CLIProxyAPI#3055, openai/codex#41340).
    """
    events = list(sse.split(STREAM))
    assert actual < len(events)
    for chunks in ([b"".join(events[:actual])], events[:actual]):
        result = run(chunks)
        assert result.broke == "upstream_error"
        check_stream("responses", result.out, error=True)
        failed = parsed(result.out)[-1]["response"]
        assert failed["error"] == {name: CONTENT["error"][name] for name in ("code", "message")}
        assert failed["model"] == "ours"
        assert failed["previous_response_id"] == "resp_0"


def test_a_stream_may_fail_before_its_first_event() -> None:
    """Some clients hear of a failure only by an object that failed."""
    relay = ResponsesRelay(fields(), "ours", ECHO)
    error, failed = parsed(relay.encode_failure(CONTENT))
    assert (error["type"], error["sequence_number"]) == ("error", 0)
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", 1)
    actual = check("response", failed["response"])
    assert (actual["status"], actual["model"], actual["store"]) == ("failed", "ours", True)
    assert actual["error"]["code"] == "upstream_error"


def test_the_upstreams_own_failure_is_reported_in_our_words() -> None:
    """openai/codex#43337; nested and flat together: stdapi-ai/stdapi.ai#294."""
    stream = stream_of(failed_events(), named=True)
    for chunks in cuts(stream):
        result = run(chunks)
        assert result.broke == "upstream_unavailable"
        check_stream("responses", result.out, error=True)
        assert b"Overloaded." not in result.out
        assert MESSAGE.encode() in result.out
        assert result.relay.answer == b""


def test_what_a_failure_cost_is_counted() -> None:
    """QuantumNous/new-api#6549."""
    events = failed_events()
    del events[-2]
    usage = response("completed", [])["usage"]
    events[-1]["response"]["usage"] = usage
    result = run([stream_of(events, named=True)])
    assert result.relay.usage == USAGE
    assert result.broke == "upstream_unavailable"


@pytest.mark.parametrize(
    "event",
    [
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.del\n\n',
        b"data: <html>\n\n",
        b'data: {"error":{"message":"x"}}\n\n',
        b'data: {"type":"response.completed","response":[]}\n\n',
        b'data: {"type":"response.completed","response":{"status":"failed"}}\n\n',
        b'event: error\ndata: {"message":"x"}\n\n',
    ],
)
def test_what_is_no_response_breaks_the_stream(event: bytes) -> None:
    begin = b"".join(list(sse.split(STREAM))[:12])
    for relay_in in ([begin, event], [begin + event]):
        result = run(relay_in)
        assert result.broke == "upstream_error"
        assert b"<html>" not in result.out
        check_stream("responses", result.out, error=True)


# Whole answers


def test_a_whole_answer() -> None:
    given = {**response("completed", []), "new": {"b": 1.0, "a": 2}}
    body, usage = finish_body(json.dumps(given).encode(), "ours", ECHO)
    assert check("response", body) == {**given, "model": "ours", **ECHO}
    assert usage == USAGE
    plain, usage = DIALECT.finish_body(b'{"object":"response","output":[]}', "ours", {})
    assert plain == b'{"object":"response","output":[]}'
    assert usage is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "upstream_error"),
        (b"[]", "upstream_error"),
        (b'{"object":"list"}', "upstream_error"),
        (b'{"error":{"code":"rate_limit_exceeded"}}', "rate_limited"),
        (
            b'{"object":"response","status":"failed","error":{"code":"server_is_overloaded"}}',
            "upstream_unavailable",
        ),
        (b'{"object":"response","status":"cancelled","error":null}', "upstream_error"),
    ],
)
def test_whole_answers_that_are_none(body: bytes, kind: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        finish_body(body, "ours", ECHO)
    assert caught.value.kind == kind


# As servers are


def response_event(kind: str, **members: Any) -> bytes:
    actual = {"type": f"response.{kind}", "response": {**response(kind, []), **members}}
    return stream_of([actual], named=True)


BEGUN, ENDED = (
    STREAM[: STREAM.index(b"event: response.output_item.added")],
    list(sse.split(STREAM))[-1],
)


@pytest.mark.parametrize(
    "beat",
    [
        b"data:\n\n",
        b"data: {}\n\n",
        b"data: ping\n\n",
        b"event: ping\ndata: {}\n\n",
        b"event: heartbeat\ndata: {}\n\n",
        b'data: {"type":"ping"}\n\n',
        b'data: "[DONE]" \n\n',
    ],
)
def test_relay_heartbeats_and_done_are_left_out(beat: bytes) -> None:
    events = list(sse.split(STREAM))
    odd = beat + beat.join(events) + beat
    for chunks in cuts(odd):
        assert run(chunks).out == run([STREAM]).out


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'data: {"detail":"secret-host failed"}\n\n', "upstream_error"),
        (b'data: {"code":429,"msg":"secret-host","success":false}\n\n', "rate_limited"),
        (b'data: {"base_resp":{"status_code":1002,"status_msg":"secret-host"}}\n\n',
         "rate_limited"),
        (b"event: error\ndata: {}\n\n", "upstream_error"),
        (b'data: {"type":"server_error","message":"secret-host"}\n\n', "upstream_error"),
        (b'data: {"type":"response.completed","response":null}\n\n', "upstream_error"),
    ],
)  # fmt: skip
def test_relay_an_error_in_other_words_breaks_the_stream(frame: bytes, kind: str) -> None:
    for stream in (frame, BEGUN + frame, STREAM[: -len(ENDED)] + frame + ENDED):
        for chunks in cuts(stream):
            result = run(chunks)
            assert result.broke == kind
            assert b"secret-host" not in result.out


@pytest.mark.parametrize("error", [{}, "", False])
def test_an_empty_error_is_none(error: Any) -> None:
    assert run([BEGUN + response_event("completed", error=error)]).broke == ""
    finish_body(json.dumps({**response("completed", []), "error": error}).encode(), "ours")


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("max_output_tokens", "max_output_tokens"),
        ("content_filter", "content_filter"),
        ("a word of next year", "a word of next year"),
        ("length", "max_output_tokens"),
        ("MAX_TOKENS", "max_output_tokens"),
        ("sensitive", "content_filter"),
    ],
)
def test_a_reason_is_one_of_the_dialect(word: str, ours: str) -> None:
    cut = {**response("completed", []), "status": "incomplete"}
    cut["incomplete_details"] = {"reason": word}
    result = run([BEGUN + response_event("incomplete", **cut)])
    assert parsed(result.out)[-1]["response"]["incomplete_details"] == {"reason": ours}
    body, _ = finish_body(json.dumps(cut).encode(), "ours")
    assert json.loads(body)["incomplete_details"] == {"reason": ours}


def test_an_interrupted_answer_breaks() -> None:
    cut = {**response("completed", []), "status": "incomplete"}
    cut["incomplete_details"] = {"reason": "network_error"}
    assert run([BEGUN + response_event("incomplete", **cut)]).broke == "upstream_error"
    with pytest.raises(UpstreamError):
        finish_body(json.dumps(cut).encode(), "ours")


def test_a_response_without_output_is_no_answer() -> None:
    for output in ({"output": None}, {}):
        actual = {**response("completed", [])}
        del actual["output"]
        actual |= output
        with pytest.raises(UpstreamError):
            finish_body(json.dumps(actual).encode(), "ours")
        end = stream_of([{"type": "response.completed", "response": actual}], named=True)
        assert run([BEGUN + end]).broke == "upstream_error"


def test_relay_halves_of_characters_are_joined() -> None:
    text = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    text += b'"item_id":"m","output_index":0,"content_index":0,"delta":"%b"}\n\n'
    stream = BEGUN + text % rb"hi \ud83d" + text % rb"\ude00 there \ud83d" + ENDED
    for chunks in cuts(stream):
        deltas = [event["delta"] for event in parsed(run(chunks).out) if "delta" in event]
        assert "".join(deltas) == "hi \U0001f600 there \ufffd"


def test_relay_odd_members_not_needed_are_put_right() -> None:
    odd = STREAM.replace(b'"sequence_number":4', b'"sequence_number":"4"')
    odd = odd.replace(b'"sequence_number":7', b'"sequence_number":7,"logprob":NaN')
    result = run(list(sse.split(odd)))
    assert [event["sequence_number"] for event in parsed(result.out)] == [
        event["sequence_number"] for event in parsed(run([STREAM]).out)
    ]
    actual = {**response("completed", []), "usage": "free", "service_tier": 5}
    assert json.loads(finish_body(json.dumps(actual).encode(), "ours")[0])["usage"] == "free"


NAMING = {
    "provider": "theirs",
    "system_fingerprint": "fp_theirs",
    "service_tier": "flex",
    "usage": {"input_tokens": 5, "output_tokens": 5, "cost": 0.1, "cost_details": {}},
    "moderation": {"input": {"model": "theirs-moderation"}},
    "tools": [{"type": "image_generation", "model": "the-callers"}],
    "metadata": {"model": "the-callers", "provider": "the-callers"},
    "novel": 1,
}


def named(actual: dict[str, Any]) -> None:
    assert (actual["model"], actual["service_tier"], actual["novel"]) == ("ours", "flex", 1)
    assert "theirs" not in json.dumps(actual).replace(actual["id"], "")
    assert "cost" not in actual["usage"]
    assert actual["system_fingerprint"] is None
    assert (actual["tools"], actual["metadata"]) == (NAMING["tools"], NAMING["metadata"])


def test_what_names_the_vendor_does_not_leave() -> None:
    item = {"id": "i", "type": "image_generation_call", "provider": "theirs", "model": "theirs"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**response("in_progress", []), **NAMING}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.novelty", "model": "theirs", "item_id": "i", "output_index": 0},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "provider": "theirs",
            "response": {**response("completed", []), **NAMING, "output": [item]},
        },
    ]
    for chunks in cuts(stream_of(events, named=True)):
        result = run(chunks)
        actual = parsed(result.out)
        named(actual[0]["response"])
        named(actual[-1]["response"])
        named(json.loads(result.relay.answer))
        ours = {"id": "i", "type": "image_generation_call", "model": "ours"}
        assert actual[1]["item"] == actual[3]["item"] == actual[-1]["response"]["output"][0] == ours
        assert actual[2]["model"] == "ours"
        assert "provider" not in actual[-1]
    body, _ = finish_body(json.dumps({**response("completed", []), **NAMING}).encode(), "ours")
    named(json.loads(body))


def test_deltas_that_name_the_vendor_are_looked_at_one_by_one() -> None:
    odd = STREAM.replace(b'"delta":', b'"provider":"theirs","delta":')
    for chunks in cuts(odd):
        assert parsed(run(chunks).out) == parsed(run([STREAM]).out)


def test_with_disclose_only_the_model_is_renamed() -> None:
    given = {**response("completed", []), **NAMING}
    body, _ = finish_body(json.dumps(given).encode(), "ours", disclose=True)
    assert json.loads(body) == {**given, "model": "ours"}
    relay = ResponsesRelay(fields(), "ours", disclose=True)
    end = stream_of([{"type": "response.completed", "response": given}], named=True)
    assert parsed(relay.relay(end))[0]["response"] == {**given, "model": "ours"}
