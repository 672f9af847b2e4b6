"""Streams of both dialects on their way through, cut in every way, byte for byte.

A case is a list of events: what the upstream sends, and what the client gets where it differs. It
is run whole, per event, per byte and at seeded random cuts; the bytes out must be the same.
"""

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pytest

from edge.dialects.passthrough import UpstreamError, rename
from edge.proxy.translate import PASSTHROUGH
from middlewares import sse
from middlewares.exchange import Usage
from middlewares.problem import Problem
from middlewares.sse import Splitter

SAME = "same"


OURS = ": keep-alive\n"
"""What stands for a comment of the upstream: some write in it who they are."""


class E(NamedTuple):
    """One event. `asked`, `unasked`: what the client gets when it asked for usage and when not."""

    sent: str
    asked: str = SAME
    unasked: str = SAME

    def got(self, usage: bool) -> str:
        got = self.asked if usage else self.unasked
        return self.sent if got == SAME else got


class Result(NamedTuple):
    out: bytes
    usage: Usage | None
    broke: str


def fields_of(body: dict[str, Any]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}


ASKED = fields_of({"stream_options": {"include_usage": True}})
UNASKED = fields_of({})


def run(dialect: str, chunks: list[bytes], fields: dict[str, msgspec.Raw]) -> Result:
    """One stream through the relay as the forwarder drives it."""
    relay = PASSTHROUGH[dialect].relay(fields, "ours", {})
    splitter = Splitter()
    out: list[bytes] = []
    try:
        for chunk in chunks:
            block = splitter.split(chunk)
            out.append(relay.relay(block) if block else b"")
        if rest := splitter.rest():
            out.append(relay.relay(rest + b"\n\n"))
        out.append(relay.relay_end())
    except UpstreamError as broke:
        out.append(broke.passed)
        return Result(b"".join(out), relay.usage, broke.kind)
    assert relay.complete
    return Result(b"".join(out), relay.usage, "")


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    yield [stream]
    yield list(sse.split(stream))
    yield [stream[i : i + 1] for i in range(len(stream))]
    seeded = random.Random(len(stream))
    for pieces in (2, 3, 5, 9, 17, 40):
        for _ in range(6):
            edges = [0, *sorted(seeded.randrange(len(stream)) for _ in range(pieces)), len(stream)]
            yield [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]


def check(dialect: str, events: list[E], usage: Usage | None, *, broke: str = "") -> None:
    stream = "".join(event.sent for event in events).encode()
    for asks, fields in ((True, ASKED), (False, UNASKED)):
        expected = "".join(event.got(asks) for event in events).encode()
        for chunks in cuts(stream):
            assert run(dialect, chunks, fields) == Result(expected, usage, broke)


# OpenAI Chat

HEAD = '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"'
DONE = E("data: [DONE]\n\n")


def chunk(
    choices: str,
    tail: str = "",
    *,
    model: str = "up-2026-01-01",
    asked: str = SAME,
    unasked: str = SAME,
) -> E:
    """A chat chunk. `tail`, `asked` and `unasked` are what stands after the choices."""

    def line(name: str, tail: str) -> str:
        return f'data: {HEAD}{name}","choices":{choices}{tail}}}\n\n' if tail != "-" else ""

    return E(
        line(model, tail),
        line("ours", tail if asked == SAME else asked),
        line("ours", tail if unasked == SAME else unasked),
    )


def delta(content: str, finish: str = "null") -> str:
    return f'[{{"index":0,"delta":{content},"finish_reason":{finish}}}]'


ROLE = delta('{"role":"assistant","content":""}')
STOP = delta("{}", '"stop"')
USAGE = (
    ',"usage":{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27,'
    '"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":3}}'
)
COUNTED = Usage(input=12, output=7, cache_read=8, reasoning=3)

CALLS = [
    '{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}',
    '{"tool_calls":[{"index":0,"function":{"arguments":"{\\"model\\":"}}]}',
    '{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":""}}]}',
    '{"tool_calls":[{"index":0,"function":{"arguments":"\\"up-2026-01-01\\"}"}}]}',
    '{"tool_calls":[{"index":1,"function":{"arguments":"{\\"x\\":1}"}}]}',
]

CHAT: dict[str, tuple[list[E], Usage | None]] = {
    "text": (
        [
            chunk(ROLE),
            chunk(delta('{"content":"Hel"}')),
            chunk(delta('{"content":"lo"}')),
            chunk(STOP),
            DONE,
        ],
        None,
    ),
    "text without [DONE]": (
        [
            chunk(ROLE),
            chunk(delta('{"content":"Hi"}')),
            chunk(STOP),
            E("", "data: [DONE]\n\n", "data: [DONE]\n\n"),
        ],
        None,
    ),
    "without [DONE] and with chunks after the finish": (
        [
            chunk(delta('{"content":"Hi"}')),
            chunk(STOP),
            chunk('[{"index":0,"delta":{}}]'),
            E("", "data: [DONE]\n\n", "data: [DONE]\n\n"),
        ],
        None,
    ),
    "[DONE] written loosely": (
        [
            chunk(delta('{"content":"Hi"}')),
            chunk(STOP),
            E("data:[DONE] \n\n", "data: [DONE]\n\n", "data: [DONE]\n\n"),
        ],
        None,
    ),
    "no blank line after [DONE]": (
        [
            chunk(delta('{"content":"Hi"}')),
            chunk(STOP),
            E("data: [DONE]", "data: [DONE]\n\n", "data: [DONE]\n\n"),
        ],
        None,
    ),
    "nothing after [DONE]": (
        [
            chunk(delta('{"content":"Hi"}')),
            chunk(STOP),
            DONE,
            chunk(delta('{"content":"late"}'), asked="-", unasked="-"),
            E(": late\n\n", "", ""),
        ],
        None,
    ),
    "an empty answer": ([chunk(ROLE), chunk(STOP), DONE], None),
    "usage in a closing chunk": (
        [
            chunk(ROLE, ',"usage":null', unasked=""),
            chunk(delta('{"content":"Hi"}'), ',"usage":null', unasked=""),
            chunk(delta('{"content":"!"}'), ',"usage":null', unasked=""),
            chunk(STOP, ',"usage":null', unasked=""),
            chunk("[]", USAGE, unasked="-"),
            DONE,
        ],
        COUNTED,
    ),
    "usage in the finish chunk": (
        [chunk(ROLE), chunk(delta('{"content":"Hi"}')), chunk(STOP, USAGE, unasked=""), DONE],
        COUNTED,
    ),
    "usage in every chunk, growing": (
        [
            chunk(
                delta('{"content":"Hi"}'),
                ',"usage":{"prompt_tokens":12,"completion_tokens":1}',
                unasked="",
            ),
            chunk(
                STOP,
                ',"usage":{"prompt_tokens":12,"completion_tokens":4.0}',
                unasked="",
            ),
            DONE,
        ],
        Usage(input=12, output=4),
    ),
    "tool calls in parallel, whose arguments name the model": (
        [chunk(ROLE), *(chunk(delta(call)) for call in CALLS), chunk(STOP), DONE],
        None,
    ),
    "text that quotes the protocol": (
        [
            chunk(delta('{"content":"\\"model\\":\\"up-2026-01-01\\" "}')),
            chunk(
                delta(
                    '{"content":"{\\"error\\":1,\\"usage\\":null,\\"finish_reason\\":\\"stop\\"}"}'
                )
            ),
            chunk(delta('{"content":"data: [DONE]\\n\\ndata: x"}')),
            chunk(STOP),
            DONE,
        ],
        None,
    ),
    "unicode": (
        [
            chunk(ROLE),
            chunk(delta('{"content":"\u00e9\u2028\U0001f600"}')),
            chunk(delta('{"content":"\\ud83d\\ude00"}')),
            chunk(STOP),
            DONE,
        ],
        None,
    ),
    "reasoning and unknown members": (
        [
            chunk(ROLE, ',"service_tier":"x","nested":{"a":[1.0,1e5]}'),
            chunk(delta('{"reasoning_content":"hm"}'), ',"obfuscation":"zz"'),
            chunk(STOP),
            DONE,
        ],
        None,
    ),
    "comments": (
        [
            E(": hello\n\n", OURS, OURS),
            chunk(delta('{"content":"Hi"}')),
            E(": keep-alive\n\n", OURS, OURS),
            chunk(STOP),
            DONE,
        ],
        None,
    ),
    "fields that are not for the client": (
        [
            E("retry: 3000\n\n", "", ""),
            chunk(delta('{"content":"Hi"}')),
            E("id: 7\n\n", "", ""),
            chunk(STOP),
            DONE,
        ],
        None,
    ),
    "a model name that changes": (
        [
            chunk("[]", model=""),
            chunk(delta('{"content":"Hi"}'), model="up"),
            chunk(delta('{"content":"Hi"}'), model="up-long"),
            chunk(delta('{"content":"Hi"}'), model="up"),
            chunk(STOP, model="up"),
            DONE,
        ],
        None,
    ),
    "spaces in the JSON": (
        [
            E(
                'data: {"model" : "up", "choices": [{"delta": {"content": "a"}, '
                '"finish_reason": null}], "usage": null}\n\n',
                'data: {"model":"ours", "choices": [{"delta": {"content": "a"}, '
                '"finish_reason": null}], "usage": null}\n\n',
                'data: {"model":"ours", "choices": [{"delta": {"content": "a"}, '
                '"finish_reason": null}]}\n\n',
            ),
            E(
                'data: {"model" : "up", "choices": [{"delta": {}, "finish_reason" : "stop"}]}\n\n',
                *2
                * (
                    'data: {"model":"ours", "choices": [{"delta": {}, '
                    '"finish_reason" : "stop"}]}\n\n',
                ),
            ),
            E("", "data: [DONE]\n\n", "data: [DONE]\n\n"),
        ],
        None,
    ),
    "spaces in a finish chunk with usage": (
        [
            E(
                'data: {"model": "up", "choices": [{"delta": {}, "finish_reason": "stop"}], '
                '"usage": {"prompt_tokens": 12, "completion_tokens": 1}}\n\n',
                'data: {"model":"ours", "choices": [{"delta": {}, "finish_reason": "stop"}], '
                '"usage": {"prompt_tokens": 12, "completion_tokens": 1}}\n\n',
                'data: {"model":"ours","choices":[{"delta": {}, "finish_reason": "stop"}]}\n\n',
            ),
            DONE,
        ],
        Usage(input=12, output=1),
    ),
    "the model is named deeper down too": (
        [
            E(
                'data: {"x":{"model":"up"},"model":"up","choices":[{"delta":{"content":"a"}}]}\n\n',
                *2
                * (
                    'data: {"x":{"model":"ours"},"model":"ours",'
                    '"choices":[{"delta":{"content":"a"}}]}\n\n',
                ),
            ),
            chunk(STOP, model="up"),
            DONE,
        ],
        None,
    ),
    "no model at all": (
        [
            E('data: {"choices":[{"delta":{"content":"a"}}]}\n\n'),
            E('data: {"choices":[{"delta":{"content":"b"}}]}\n\n'),
            E('data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'),
            DONE,
        ],
        None,
    ),
    "CRLF": (
        [
            E(*(text.replace("\n", "\r\n") for text in event))
            for event in [chunk(ROLE), chunk(delta('{"content":"Hi"}')), chunk(STOP), DONE]
        ],
        None,
    ),
}


@pytest.mark.parametrize("name", CHAT)
def test_chat_streams(name: str) -> None:
    check("openai", *CHAT[name])


# Anthropic Messages


def event(data: str, name: str = "") -> E:
    return E(f"event: {name or json.loads(data)['type']}\ndata: {data}\n\n")


def message_start(usage: str = '{"input_tokens":10,"output_tokens":1}', model: str = "up-1") -> E:
    def written(name: str) -> str:
        return (
            'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1",'
            f'"type":"message","role":"assistant","model":"{name}","content":[],'
            f'"stop_reason":null,"usage":{usage}}}}}\n\n'
        )

    return E(written(model), written("ours"), written("ours"))


def block_start(index: int, block: str) -> E:
    return event(f'{{"type":"content_block_start","index":{index},"content_block":{block}}}')


def block_delta(index: int, delta: str) -> E:
    return event(f'{{"type":"content_block_delta","index":{index},"delta":{delta}}}')


def block_stop(index: int) -> E:
    return event(f'{{"type":"content_block_stop","index":{index}}}')


def message_delta(usage: str, reason: str = "end_turn") -> E:
    return event(
        f'{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},'
        f'"usage":{usage}}}'
    )


MESSAGE_STOP = event('{"type":"message_stop"}')
PING = event('{"type":"ping"}')
TEXT = '{"type":"text","text":""}'


def text(said: str) -> str:
    return f'{{"type":"text_delta","text":"{said}"}}'


def arguments(part: str) -> str:
    return json.dumps({"type": "input_json_delta", "partial_json": part})


START_WITHOUT_USAGE = (
    '{"type":"message_start","message":{"content":[]}}',
    *(
        '{"type":"message_start","message":'
        '{"content":[],"usage":{"input_tokens":0,"output_tokens":0}}}',
    )
    * 2,
)
END_WITHOUT_USAGE = (
    '{"type":"message_delta","delta":{"stop_reason":"end_turn"}}',
    *('{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}',)
    * 2,
)
"""Sent, and what callers get: the vendor's clients cannot do without."""
NAMES = ("up-1", "ours", "ours")
MESSAGES: dict[str, tuple[list[E], Usage | None]] = {
    "text": (
        [
            message_start(),
            block_start(0, TEXT),
            PING,
            block_delta(0, text("Hel")),
            block_delta(0, text("lo")),
            block_stop(0),
            message_delta('{"output_tokens":15}'),
            MESSAGE_STOP,
        ],
        Usage(input=10, output=15),
    ),
    "thinking with its signature": (
        [
            message_start(),
            block_start(0, '{"type":"thinking","thinking":"","signature":""}'),
            block_delta(0, '{"type":"thinking_delta","thinking":"let  me\\u0020see"}'),
            block_delta(0, '{"type":"signature_delta","signature":"Eq+/=\\/abc=="}'),
            block_stop(0),
            block_start(1, TEXT),
            block_delta(1, text("42")),
            block_stop(1),
            message_delta('{"output_tokens":5}'),
            MESSAGE_STOP,
        ],
        Usage(input=10, output=5),
    ),
    "two tool calls whose arguments name the model": (
        [
            message_start(),
            block_start(0, '{"type":"tool_use","id":"t1","name":"f","input":{}}'),
            block_delta(0, arguments("")),
            block_delta(0, arguments('{"model": "up-')),
            block_delta(0, arguments('1"}')),
            block_stop(0),
            block_start(1, '{"type":"tool_use","id":"t2","name":"g","input":{}}'),
            block_delta(1, arguments('{"a":[1]}')),
            block_stop(1),
            message_delta('{"output_tokens":30}', "tool_use"),
            MESSAGE_STOP,
        ],
        Usage(input=10, output=30),
    ),
    "usage: present figures replace, absent ones stay": (
        [
            message_start(
                '{"input_tokens":10,"cache_read_input_tokens":100,'
                '"cache_creation_input_tokens":5,"output_tokens":1}'
            ),
            block_start(0, TEXT),
            block_delta(0, text("a")),
            block_stop(0),
            message_delta('{"output_tokens":7}'),
            message_delta('{"input_tokens":11,"output_tokens":9,"cache_read_input_tokens":null}'),
            MESSAGE_STOP,
        ],
        Usage(input=11, output=9, cache_read=100, cache_write=5),
    ),
    "text that quotes the protocol": (
        [
            message_start(),
            block_start(0, TEXT),
            block_delta(0, text('\\"model\\":\\"up-1\\"')),
            block_delta(0, text("\\n\\nevent: message_stop\\ndata: {}\\n\\n")),
            block_delta(0, text('{\\"type\\":\\"error\\"}')),
            block_stop(0),
            message_delta('{"output_tokens":7}'),
            MESSAGE_STOP,
        ],
        Usage(input=10, output=7),
    ),
    "unknown events": (
        [
            message_start(),
            E(*(event(f'{{"type":"novelty","model":"{name}"}}').sent for name in NAMES)),
            block_start(0, '{"type":"novel_block"}'),
            block_delta(0, '{"type":"novel_delta","x":1}'),
            event('{"type":"novelty"}'),
            block_stop(0),
            message_delta('{"output_tokens":2}'),
            MESSAGE_STOP,
        ],
        Usage(input=10, output=2),
    ),
    "unicode": (
        [
            message_start(model="up-\u00e9"),
            block_start(0, TEXT),
            block_delta(0, text("\u2028\U0001f600 \\ud83d\\ude00")),
            block_stop(0),
            message_delta('{"output_tokens":2}'),
            MESSAGE_STOP,
        ],
        Usage(input=10, output=2),
    ),
    "nothing after message_stop": (
        [
            message_start(),
            block_start(0, TEXT),
            block_delta(0, text("a")),
            block_stop(0),
            message_delta('{"output_tokens":2}'),
            MESSAGE_STOP,
            E(PING.sent, "", ""),
            E(block_delta(0, text("late")).sent, "", ""),
            E(": late\n\n", "", ""),
            E("data: [DONE]\n\n", "", ""),
        ],
        Usage(input=10, output=2),
    ),
    "no blocks at all": (
        [message_start(), message_delta('{"output_tokens":0}'), MESSAGE_STOP],
        Usage(input=10, output=0),
    ),
    "no usage anywhere": (
        [
            E(*(event(written).sent for written in START_WITHOUT_USAGE)),
            block_start(0, TEXT),
            block_delta(0, text("a")),
            E(*(event(written).sent for written in END_WITHOUT_USAGE)),
            MESSAGE_STOP,
        ],
        None,
    ),
    "comments and pings": (
        [
            E(": hello\n\n", OURS, OURS),
            message_start(),
            PING,
            block_start(0, TEXT),
            E(": still here\n\n", OURS, OURS),
            block_delta(0, text("a")),
            PING,
            block_stop(0),
            message_delta('{"output_tokens":2}'),
            MESSAGE_STOP,
        ],
        Usage(input=10, output=2),
    ),
    "lines written as other servers do": (
        [
            E(*(line.replace(": ", ":", 1).replace("data: ", "data:") for line in message_start())),
            E('event:content_block_start\ndata:{"type":"content_block_start","index":0}\n\n'),
            E('data: {"type":"content_block_delta","index":0}\nevent: content_block_delta\n\n'),
            block_stop(0),
            E('event:message_delta\ndata:{"type":"message_delta","usage":{"output_tokens":3}}\n\n'),
            E('data:{"type":"message_stop"}\n\n', MESSAGE_STOP.sent, MESSAGE_STOP.sent),
        ],
        Usage(input=10, output=3),
    ),
    "CRLF": (
        [
            E(*(line.replace("\n", "\r\n") for line in item))
            for item in (
                message_start(),
                block_start(0, TEXT),
                block_delta(0, text("a")),
                block_stop(0),
                message_delta('{"output_tokens":4}'),
                MESSAGE_STOP,
            )
        ],
        Usage(input=10, output=4),
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_streams(name: str) -> None:
    check("anthropic", *MESSAGES[name])


# Streams that break

HI = chunk(delta('{"content":"Hi"}'))
BROKEN_CHAT: dict[str, list[E]] = {
    "cut in text": [chunk(ROLE), HI],
    "cut inside an event": [chunk(ROLE), HI, E('data: {"id":"c1","choi', "", "")],
    "garbage frame": [HI, E("data: <html>502</html>\n\n", "", "")],
    "empty data": [HI, E("data:\n\n", "", "")],
    "a member of the wrong type": [HI, E('data: {"model":1}\n\n', "", "")],
    "error in the stream": [HI, E('data: {"error":{"message":"secret-host down"}}\n\n', "", "")],
    "error in place of a chunk": [HI, E('data: {"object":"error","message":"x"}\n\n', "", "")],
    "error by its name": [HI, E('event: error\ndata: {"message":"x"}\n\n', "", "")],
    "error beside a good event": [
        HI,
        chunk(delta('{"content":"more"}')),
        E('data: {"error":{"message":"x"},"model":"up-2026-01-01","choices":[]}\n\n', "", ""),
        chunk(delta('{"content":"late"}'), asked="-", unasked="-"),
    ],
    "usage but no finish": [HI, chunk("[]", USAGE, unasked="-")],
    "nested too deeply": [HI, E("data: {" + '"a":' + "[" * 3000 + "]" * 3000 + "}\n\n", "", "")],
}


@pytest.mark.parametrize("name", BROKEN_CHAT)
def test_a_broken_chat_stream_says_so_and_loses_nothing_that_was_good(name: str) -> None:
    usage = COUNTED if name == "usage but no finish" else None
    check("openai", BROKEN_CHAT[name], usage, broke="upstream_error")


GOOD = [message_start(), block_start(0, TEXT), block_delta(0, text("Hi"))]
BROKEN_MESSAGES: dict[str, tuple[list[E], str]] = {
    "cut in text": (GOOD, "upstream_error"),
    "cut inside an event": ([*GOOD, E('event: content_block_delta\ndata: {"ty', "", "")], ""),
    "garbage frame": ([*GOOD, E("event: message_stop\ndata: x\n\n", "", "")], "upstream_error"),
    "not an object": ([*GOOD, E("data: [DONE]\n\n", "", "")], "upstream_error"),
    "nested too deeply": ([*GOOD, E("data: " + "[" * 3000 + "]" * 3000 + "\n\n", "", "")], ""),
    "error event": (
        [
            *GOOD,
            E('event: error\ndata: {"type":"error","error":{"type":"api_error"}}\n\n', "", ""),
            E(block_delta(0, text("late")).sent, "", ""),
        ],
        "upstream_error",
    ),
    "error without its event line": (
        [
            *GOOD,
            block_delta(0, text("more")),
            E('data: {"type":"error","error":{"message":"secret-host"}}\n\n', "", ""),
        ],
        "upstream_error",
    ),
    "overloaded": (
        [
            *GOOD,
            E(
                'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
                "",
                "",
            ),
        ],
        "upstream_unavailable",
    ),
}


@pytest.mark.parametrize("name", BROKEN_MESSAGES)
def test_a_broken_messages_stream_says_so_and_loses_nothing_that_was_good(name: str) -> None:
    events, kind = BROKEN_MESSAGES[name]
    received = Usage(input=10, output=1 if name == "cut after message_delta" else 0)
    check("anthropic", events, received, broke=kind or "upstream_error")


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_frame_that_is_not_utf_8_breaks_the_stream(dialect: str) -> None:
    frame = b'data: {"type":"\xff","model":"\xff"}\n\n'
    assert run(dialect, [frame], UNASKED) == Result(b"", None, "upstream_error")


# When content begins


@pytest.mark.parametrize(
    ("dialect", "event", "content"),
    [
        ("openai", ": ping\n\n", False),
        ("openai", chunk(ROLE).sent, False),
        ("openai", chunk(delta('{"role":"assistant","content":null,"x":{}}')).sent, False),
        ("openai", chunk("[]").sent, False),
        ("openai", chunk('[{"index":0,"delta":null,"finish_reason":null}]').sent, False),
        ("openai", chunk(delta('{"content":"a"}')).sent, True),
        ("openai", chunk(delta('{"reasoning_content":"a"}')).sent, True),
        ("openai", chunk(delta(CALLS[0])).sent, True),
        ("openai", chunk('[{"index":0,"text":"a","finish_reason":null}]').sent, True),
        ("openai", chunk(STOP).sent, True),
        ("anthropic", message_start().sent, False),
        ("anthropic", PING.sent, False),
        ("anthropic", event('{"type":"novelty"}').sent, False),
        ("anthropic", block_start(0, TEXT).sent, False),
        ("anthropic", block_start(0, '{"type":"thinking","thinking":""}').sent, False),
        ("anthropic", block_start(0, '{"type":"text","text":"a"}').sent, True),
        ("anthropic", block_start(0, '{"type":"tool_use","name":"n"}').sent, True),
        ("anthropic", message_delta('{"output_tokens":0}').sent, True),
    ],
)
def test_pings_and_role_frames_are_not_content(dialect: str, event: str, content: bool) -> None:
    relay = PASSTHROUGH[dialect].relay({}, "ours", {})
    relay.relay(event.encode())
    assert relay.content is content


# Unstreamed twins

DEEP = b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"


CHOICE = '{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}'


def test_a_chat_answer_and_its_stream_cost_the_same_and_name_the_same_model() -> None:
    body = f'{{"id":"c1","model":"up","choices":[{CHOICE}]{USAGE}}}'.encode()
    out, usage = PASSTHROUGH["openai"].finish_body(body, "ours", {})
    assert out == body.replace(b'"model":"up"', b'"model":"ours"')
    assert usage == COUNTED == run("openai", cuts_of("usage in a closing chunk"), UNASKED).usage


def cuts_of(name: str) -> list[bytes]:
    return [event.sent.encode() for event in CHAT[name][0]]


def test_a_message_and_its_stream_cost_the_same() -> None:
    _events, streamed = MESSAGES["usage: present figures replace, absent ones stay"]
    body = (
        b'{"type":"message", "model": "up-1","content":[{"type":"thinking","signature":"E=="}],'
        b'"usage":{"input_tokens":11,"output_tokens":9,"cache_read_input_tokens":100,'
        b'"cache_creation_input_tokens":5,"novel":1}}'
    )
    out, usage = PASSTHROUGH["anthropic"].finish_body(body, "ours", {})
    assert out == body.replace(b'"up-1"', b'"ours"')
    assert usage == streamed


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"model":3}',
        b'{"model":"\xff"}',
        b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
    ],
)
def test_an_answer_that_is_none_breaks(dialect: str, body: bytes) -> None:
    with pytest.raises(UpstreamError):
        PASSTHROUGH[dialect].finish_body(body, "ours", {})


def test_an_error_in_a_200_breaks() -> None:
    with pytest.raises(UpstreamError):
        PASSTHROUGH["openai"].finish_body(b'{"error":{"message":"x"}}', "ours", {})
    with pytest.raises(UpstreamError):
        PASSTHROUGH["openai"].finish_body(b'{"object":"error","message":"x"}', "ours", {})
    with pytest.raises(UpstreamError):
        PASSTHROUGH["anthropic"].finish_body(b'{"type":"error","error":{}}', "ours", {})


def test_an_answer_may_name_neither_model_nor_usage() -> None:
    body = f'{{"choices":[{CHOICE}]}}'.encode()
    assert PASSTHROUGH["openai"].finish_body(body, "ours", {}) == (body, None)
    body = b'{"type":"message","role":"assistant","content":[{"type":"text","text":"Hi"}]}'
    assert PASSTHROUGH["anthropic"].finish_body(body, "ours", {}) == (body, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"up","a":1}', b'{"model":"ours","a":1}'),
        (b'{ "a" : 1.50 , "model" : "up" }', b'{ "a" : 1.50 , "model" : "ours" }'),
        # named twice, or spelt so that no splice can find it: taken apart, values as they came
        (b'{"model": "up","x":{"model":"up"}}', b'{"model":"ours","x":{"model":"up"}}'),
        (b'{"x":1.50,"mod\\u0065l":"up"}', b'{"x":1.50,"model":"ours"}'),
        (b'{"x":{"model":"other"},"mod\\u0065l":"up"}', None),
        (b'{"t":"\\"model","model":"up"}', b'{"t":"\\"model","model":"ours"}'),
        (b'{"a":"model","mod\\u0065l":"up"}', b'{"a":"model","model":"ours"}'),
        (b'{"x":{"model":"\xff"},"mod\\u0065l":"up"}', None),
    ],
)
def test_rename(body: bytes, expected: bytes | None) -> None:
    out = rename(body, "up", "ours")
    if expected is None:
        expected = body.replace(b'"mod\\u0065l":"up"', b'"model":"ours"')
    assert out == expected


@pytest.mark.parametrize("name", ["ours", 'a"b', "é", "a\\b"])
def test_any_name_is_written_as_json(name: str) -> None:
    renamed = rename(b'{"model":"up\\/x"}', "up/x", name)
    assert json.loads(renamed) == {"model": name}
    relay = PASSTHROUGH["openai"].relay({}, name, {})
    out = relay.relay(chunk(delta('{"content":"a"}')).sent.encode())
    assert json.loads(out.removeprefix(b"data: "))["model"] == name


# What is asked of the upstream


def test_prepare_keeps_every_member_as_it_came() -> None:
    raw = b'{"model":"ours","temperature":1.0,"messages":[ {"role":"user"} ],"x":{"b":1,"a":2}}'
    fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    for dialect in ("openai", "anthropic"):
        body = PASSTHROUGH[dialect].prepare(fields, "up/é", False)
        assert body == raw.replace(b'"ours"', '"up/é"'.encode())
    assert PASSTHROUGH["anthropic"].prepare(fields, "up/é", True) == body
    assert bytes(fields["model"]) == b'"ours"'


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        ({"include_usage": None, "x": 1}, {"include_usage": True, "x": 1}),
    ],
)
def test_usage_is_always_asked_from_a_chat_upstream(options: Any, sent: dict[str, Any]) -> None:
    for fields in (fields_of({"stream_options": options}), fields_of({}) if not options else {}):
        body = json.loads(PASSTHROUGH["openai"].prepare(fields, "up", True))
        assert body["stream_options"] == (sent if fields else {"include_usage": True})
        assert body["model"] == "up"


@pytest.mark.parametrize("options", [3, "x", [], {"include_usage": "yes"}, {"include_usage": 1}])
def test_stream_options_that_make_no_sense_are_the_callers_fault(options: Any) -> None:
    with pytest.raises(Problem) as raised:
        PASSTHROUGH["openai"].prepare(fields_of({"stream_options": options}), "up", True)
    assert (raised.value.kind, raised.value.param) == ("invalid_request", "stream_options")
