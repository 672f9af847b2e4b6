"""Messages passed through: what is put right in them, and that nothing else changes."""

import json
from typing import Any, NamedTuple

import pytest

from edge.dialects.anthropic_messages.passthrough import DIALECT, MessagesRelay, finish_body
from edge.dialects.passthrough import UpstreamError
from middlewares import sse
from middlewares.exchange import Usage
from middlewares.sse import Splitter

Json = dict[str, Any]
STOP = '{"type":"message_stop"}'
PING = '{"type":"ping"}'


def event(data: str, name: str | None = None) -> bytes:
    return f"event: {json.loads(data)['type'] if name is None else name}\ndata: {data}\n\n".encode()


def start(**more: Any) -> bytes:
    message: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "theirs",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
        **more,
    }
    return event(json.dumps({"type": "message_start", "message": message}))


def opened(index: int = 0, **block: Any) -> bytes:
    block = block or {"type": "text", "text": ""}
    decoded = {"type": "content_block_start", "index": index, "content_block": block}
    return event(json.dumps(decoded))


def text(said: str, **more: Any) -> bytes:
    decoded = {"type": "content_block_delta", "index": 0, **more}
    return event(json.dumps({**decoded, "delta": {"type": "text_delta", "text": said}}))


ODD_DELTA = (
    '{"type":"content_block_delta","index":"0","delta":{"type":"text_delta","text":"b"},'
    '"logprob":NaN}'
)
CLOSED = event('{"type":"content_block_stop","index":0}')


def ended(reason: str | None = "end_turn", **more: Any) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    decoded = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}, **more}
    return event(json.dumps(decoded))


BEGUN = start() + opened()
HELLO = BEGUN + text("Hello ") + text("there.") + CLOSED
ANSWER = HELLO + ended() + event(STOP)


class Result(NamedTuple):
    out: bytes
    relay: MessagesRelay
    broke: str


def fed(pieces: list[bytes], *, disclose: bool = False) -> Result:
    """What the client gets, as the forwarder drives the relay."""
    relay = MessagesRelay({}, "ours", disclose=disclose)
    splitter = Splitter()
    out: list[bytes] = []
    try:
        out += (relay.relay(block) for block in map(splitter.split, pieces) if block)
        if rest := splitter.rest():
            out.append(relay.relay(rest + b"\n\n"))
        out.append(relay.relay_end())
    except UpstreamError as broke:
        return Result(b"".join(out) + broke.passed, relay, broke.kind)
    return Result(b"".join(out), relay, "")


def run(stream: bytes, *, disclose: bool = False) -> Result:
    """The same, whole, by event and by byte: the client gets the same each time."""
    result = fed([stream], disclose=disclose)
    for pieces in (list(sse.split(stream)), [stream[at : at + 1] for at in range(len(stream))]):
        other = fed(pieces, disclose=disclose)
        assert (other.out, other.broke) == (result.out, result.broke)
        assert other.relay.usage == result.relay.usage
    return result


def decoded(stream: bytes) -> list[tuple[str, Json]]:
    """Name and data of each event."""
    found = [sse.parse(each) for each in sse.split(stream)]
    return [(each.name, json.loads(each.data)) for each in found if each is not None]


def said(stream: bytes) -> str:
    deltas = [data["delta"] for name, data in decoded(stream) if name == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


def renamed(stream: bytes) -> bytes:
    return stream.replace(b'"model": "theirs"', b'"model":"ours"')


def test_relay_an_ordinary_stream_passes_as_it_came() -> None:
    result = run(ANSWER)
    assert result.out == renamed(ANSWER)
    assert result.relay.usage == Usage(input=10, output=5)
    assert (result.relay.complete, result.broke) == (True, "")


# Heartbeats and ends


@pytest.mark.parametrize(
    "beat",
    [
        b"event: ping\ndata: {}\n\n",
        b"event: ping\ndata:\n\n",
        b"data:\n\n",
        b"data: {}\n\n",
        b"data: ping\n\n",
        b'data: {"type":"ping"}\n\n',
        b'event: ping\ndata: {"type":"ping","provider":"theirs"}\n\n',
    ],
)
def test_relay_heartbeats_leave_as_pings(beat: bytes) -> None:
    result = run(beat + BEGUN + text("a") + beat + text("b") + CLOSED + ended() + event(STOP))
    assert result.broke == ""
    assert result.out.count(event(PING)) == 2
    assert said(result.out) == "ab"
    assert b"theirs" not in result.out


def test_relay_events_without_their_lines_get_them() -> None:
    bare = b"".join(b"data: " + each.partition(b"\ndata: ")[2] for each in sse.split(ANSWER))
    result = run(bare)
    assert [name for name, data in decoded(result.out)] == [
        data["type"] for _, data in decoded(ANSWER)
    ]
    assert decoded(result.out)[1:] == decoded(ANSWER)[1:]
    assert said(result.out) == "Hello there."
    assert result.relay.usage == Usage(input=10, output=5)


def test_relay_events_without_a_type_get_it_from_their_line() -> None:
    bare = b"".join(
        each.replace(b'"type": "%b", ' % name.encode(), b"", 1)
        for each in sse.split(HELLO + ended())
        for name in [decoded(each)[0][0]]
    )
    result = run(bare)
    assert decoded(result.out) == decoded(renamed(ANSWER))


@pytest.mark.parametrize("close", [b"", b"data: [DONE]\n\n", b'data:  "[DONE]" \n\n'])
def test_relay_an_end_without_message_stop_is_one_after_a_reason(close: bytes) -> None:
    result = run(HELLO + ended() + close)
    assert result.out == renamed(ANSWER)
    assert result.relay.complete


@pytest.mark.parametrize("close", [b"", b"data: [DONE]\n\n"])
@pytest.mark.parametrize("reason", [None, ""])
def test_relay_an_end_without_a_reason_is_a_cut(close: bytes, reason: str | None) -> None:
    assert run(HELLO + close).broke == "upstream_error"
    result = run(HELLO + ended(reason) + close)
    assert result.broke == "upstream_error"
    assert b"DONE" not in result.out
    assert b"message_stop" not in result.out


def test_relay_done_in_the_middle_is_left_out() -> None:
    result = run(BEGUN + b"data: [DONE]\n\n" + text("a") + ended() + event(STOP))
    assert (said(result.out), result.broke) == ("a", "")
    assert b"DONE" not in result.out


def test_relay_a_message_delta_without_a_reason_is_no_content() -> None:
    relay = MessagesRelay({}, "ours")
    relay.relay(start() + ended(None))
    assert not relay.content
    relay.relay(ended())
    assert relay.content


# Errors


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'data: {"detail":"secret-host failed"}\n\n', "upstream_error"),
        (b'data: {"code":429,"msg":"secret-host","success":false}\n\n', "rate_limited"),
        (b'event: error\ndata: {"detail":"secret-host"}\n\n', "upstream_error"),
        (b"event: error\ndata: {}\n\n", "upstream_error"),
        (b'data: {"type":"overloaded_error","message":"secret-host"}\n\n', "upstream_unavailable"),
        (
            b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error"}}\n\n',
            "rate_limited",
        ),
        (
            b'event: message_delta\ndata: {"type":"message_delta","error":{"message":"x"}}\n\n',
            "upstream_error",
        ),
        (b"data: <html>secret-host</html>\n\n", "upstream_error"),
    ],
)
def test_relay_an_error_in_any_words_breaks_the_stream(frame: bytes, kind: str) -> None:
    result = run(HELLO + frame + ended() + event(STOP))
    assert result.broke == kind
    assert said(result.out) == "Hello there."
    assert b"secret-host" not in result.out
    first = run(frame)
    assert (first.out, first.broke, first.relay.content) == (b"", kind, False)


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_relay_an_empty_error_is_none(error: Any) -> None:
    stream = HELLO + ended(error=error) + event(STOP)
    assert (said(run(stream).out), run(stream).broke) == ("Hello there.", "")


def test_relay_an_error_in_the_message_breaks_the_stream() -> None:
    assert run(start(error={"type": "api_error"}) + ANSWER).broke == "upstream_error"


# Reasons to stop


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("end_turn", "end_turn"),
        ("pause_turn", "pause_turn"),
        ("model_context_window_exceeded", "model_context_window_exceeded"),
        ("a word of next year", "a word of next year"),
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("MAX_TOKENS", "max_tokens"),
        ("sensitive", "refusal"),
        ("content_filter", "refusal"),
    ],
)
def test_a_reason_to_stop_is_one_of_the_dialect(word: str, ours: str) -> None:
    result = run(HELLO + ended(word) + event(STOP))
    assert decoded(result.out)[-2][1]["delta"]["stop_reason"] == ours
    assert plain(stop_reason=word)["stop_reason"] == ours


@pytest.mark.parametrize("word", ["abort", "network_error", "MALFORMED_FUNCTION_CALL"])
def test_an_interrupted_answer_breaks(word: str) -> None:
    result = run(HELLO + ended(word) + event(STOP))
    assert (said(result.out), result.broke) == ("Hello there.", "upstream_error")
    assert b"message_delta" not in result.out
    assert not run(start() + ended(word)).relay.content
    with pytest.raises(UpstreamError):
        plain(stop_reason=word)


def test_an_odd_reason_beside_a_call_is_a_call() -> None:
    block: Json = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    result = run(start() + opened(**block) + CLOSED + ended("stop") + event(STOP))
    assert decoded(result.out)[-2][1]["delta"]["stop_reason"] == "tool_use"
    assert plain(content=[block], stop_reason="")["stop_reason"] == "tool_use"


# Members


@pytest.mark.parametrize(
    ("block", "ours"),
    [
        ({"type": "text", "text": None}, {"type": "text", "text": ""}),
        ({"type": "text"}, {"type": "text", "text": ""}),
        ({"type": "text", "text": "", "citations": None}, None),
        (
            {"type": "thinking", "thinking": None, "signature": None},
            {"type": "thinking", "thinking": "", "signature": ""},
        ),
        ({"type": "thinking", "thinking": ""}, None),
        (
            {"type": "tool_use", "id": "t", "name": "f", "input": None},
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        ),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {"model": "mine"}}, None),
        ({"type": "hologram", "text": {"en": 1}, "thinking": None}, None),
    ],
)
def test_relay_null_members_of_a_block_become_empty(block: Json, ours: Json | None) -> None:
    for before in (b"", opened() + text("a") + CLOSED):
        result = run(start() + before + opened(**block) + CLOSED + ended() + event(STOP))
        starts = [data for name, data in decoded(result.out) if name == "content_block_start"]
        assert starts[-1]["content_block"] == (ours or block)
        assert result.broke == ""


def test_relay_null_members_of_the_message_become_empty() -> None:
    stream = start(content=None, usage=None) + opened() + text("a") + ended(usage=None)
    result = run(stream + event(STOP))
    message = decoded(result.out)[0][1]["message"]
    assert message["content"] == []
    assert message["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert decoded(result.out)[-2][1]["usage"] == {"output_tokens": 1}
    assert result.relay.usage is None


def test_relay_odd_members_not_needed_are_put_right() -> None:
    stream = (
        start(id=5)
        + opened("0")  # type: ignore[arg-type]
        + text("a", index="0")
        + event(ODD_DELTA, "content_block_delta")
        + event('{"type":"content_block_stop","index":"0"}')
        + ended()
        + event(STOP)
    )
    result = run(stream)
    assert result.broke == ""
    assert [data.get("index") for _, data in decoded(result.out)] == [None, 0, 0, 0, 0, None, None]
    assert said(result.out) == "ab"
    assert decoded(result.out)[0][1]["message"]["id"] == 5


def test_relay_halves_of_characters_are_joined() -> None:
    result = run(BEGUN + text("hi \ud83d") + text("\ude00 there \ud83d") + ended() + event(STOP))
    assert said(result.out) == "hi \U0001f600 there \ufffd"


def test_relay_a_half_at_the_very_end_is_not_lost() -> None:
    result = run(BEGUN + text("hi \ud83d"))
    assert (said(result.out), result.broke) == ("hi \ufffd", "upstream_error")


# Who made it


def test_relay_what_names_the_vendor_does_not_leave() -> None:
    fallback: Json = {"type": "fallback", "from": {"model": "theirs"}, "to": {"model": "theirs-2"}}
    usage = {
        "output_tokens": 5,
        "cost": 0.1,
        "service_tier": "standard",
        "iterations": [{"type": "message", "model": "theirs-2", "output_tokens": 5}],
    }
    stream = (
        start(id="msg_bdrk_1", provider="theirs", novel=1)
        + opened(**fallback)
        + opened(1, type="tool_use", id="toolu_vrtx_2", name="theirs_tool", input={"provider": "x"})
        + ended(usage=usage)
        + event('{"type":"novelty","model":"theirs"}')
        + event('{"type":"message_stop","provider":"theirs"}')
    )
    result = run(stream)
    assert b"theirs" not in result.out.replace(b"theirs_tool", b"")
    assert b"bdrk" not in result.out
    assert b"vrtx" not in result.out
    (_, begun), (_, block), (_, call), (_, end), (_, novelty), _ = decoded(result.out)
    assert (begun["message"]["id"], begun["message"]["novel"]) == ("msg_1", 1)
    assert block["content_block"]["to"] == {"model": "ours"}
    assert call["content_block"]["input"] == {"provider": "x"}
    assert end["usage"]["service_tier"] == "standard"
    assert end["usage"]["iterations"][0]["model"] == "ours"
    assert "cost" not in end["usage"]
    assert novelty["model"] == "ours"


def test_relay_deltas_that_name_the_vendor_are_looked_at_one_by_one() -> None:
    stream = BEGUN + text("a", provider="theirs") + text("b", provider="theirs", x=1)
    result = run(stream + ended() + event(STOP))
    assert (said(result.out), result.broke) == ("ab", "")
    assert b"theirs" not in result.out
    assert b'"x":1' in result.out


def test_relay_with_disclose_only_the_model_is_renamed() -> None:
    stream = (
        start(id="msg_bdrk_1", provider="theirs")
        + opened()
        + text("a")
        + ended(usage={"output_tokens": 5, "cost": 0.1})
        + event(STOP)
    )
    assert run(stream, disclose=True).out == renamed(stream)


# Unstreamed


def body(**more: Any) -> bytes:
    message: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "theirs",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 5},
        **more,
    }
    return json.dumps(message).encode()


def plain(*, disclose: bool = False, **more: Any) -> Json:
    out, _usage = finish_body(body(**more), "ours", disclose=disclose)
    read: Json = json.loads(out)
    return read


def test_finish_body_an_ordinary_answer_passes_as_it_came() -> None:
    assert finish_body(body(x=[1.50]), "ours") == (
        body(x=[1.50]).replace(b'"theirs"', b'"ours"'),
        Usage(input=10, output=5),
    )


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"{}", "upstream_error"),
        (b"[]", "upstream_error"),
        (b'{"detail":"secret"}', "upstream_error"),
        (b'{"code":500,"msg":"404 NOT_FOUND","success":false}', "upstream_error"),
        (b'{"code":"429","msg":"slow"}', "rate_limited"),
        (b'{"type":"error","error":{"type":"overloaded_error"}}', "upstream_unavailable"),
        (b'{"type":"message","content":null}', "upstream_error"),
        (b'{"type":"message","content":"text"}', "upstream_error"),
        (b'{"type":"message","content":[],"stop_reason":null}', "upstream_error"),
        (b'{"type":"message","content":[]}', "upstream_error"),
        (body(error={"message": "secret"}), "upstream_error"),
        (b"<html>", "upstream_error"),
    ],
)
def test_finish_body_what_is_no_answer_breaks(answer: bytes, kind: str) -> None:
    with pytest.raises(UpstreamError) as broke:
        finish_body(answer, "ours")
    assert broke.value.kind == kind


def test_finish_body_no_content_with_a_reason_is_an_answer() -> None:
    assert plain(content=[])["content"] == []


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_finish_body_an_empty_error_is_none(error: Any) -> None:
    assert plain(error=error)["content"] == [{"type": "text", "text": "Hello"}]


def test_finish_body_odd_members_are_put_right() -> None:
    content = [None, {"type": "text", "text": None}, {"type": "hologram", "text": {"a": 1}}]
    assert plain(content=content)["content"] == [{"type": "text", "text": ""}, content[2]]
    assert plain(stop_sequence=5, usage="free")["usage"] == "free"
    out, _usage = finish_body(b"\xef\xbb\xbf" + body(x=float("nan")), "ours")
    assert json.loads(out)["x"] is None


def test_finish_body_what_names_the_vendor_does_not_leave() -> None:
    decoded = plain(
        id="msg_vrtx_1",
        provider="theirs",
        content=[
            {"type": "fallback", "to": {"model": "theirs"}},
            {"type": "server_tool_use", "id": "srvtoolu_bdrk_1", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_bdrk_1", "content": []},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"model": "mine"}},
        ],
        usage={"output_tokens": 1, "cost_details": {}, "iterations": [{"model": "theirs"}]},
        container={"id": "container_1"},
    )
    assert "theirs" not in json.dumps(decoded)
    assert (decoded["id"], decoded["model"]) == ("msg_1", "ours")
    fallback, server, result, call = decoded["content"]
    assert fallback["to"] == {"model": "ours"}
    assert server["id"] == result["tool_use_id"] == "srvtoolu_1"
    assert call["input"] == {"model": "mine"}
    assert decoded["usage"] == {"output_tokens": 1, "iterations": [{"model": "ours"}]}
    assert decoded["container"] == {"id": "container_1"}


def test_finish_body_with_disclose_only_the_model_is_renamed() -> None:
    decoded = plain(disclose=True, id="msg_vrtx_1", provider="theirs")
    assert (decoded["id"], decoded["provider"], decoded["model"]) == (
        "msg_vrtx_1",
        "theirs",
        "ours",
    )


def test_said_counts_the_text_of_an_answer() -> None:
    assert DIALECT.output_size(body()) == len("Hello")
