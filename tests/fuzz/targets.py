"""What is fed to each decoder and encoder, and what must hold whatever it is.

read-DIALECT       bytes of an upstream -> events: no exception, one grammar, no matter the cuts
carry-ENDPOINT     the same bytes, through everything: what the caller gets is valid, and closed
pass-DIALECT       the same bytes where both sides speak alike: they pass, or the stream breaks
turn-DIALECT       the same bytes in the form that was not asked for: turned into the other one
ask-ENDPOINT       a caller's body -> each upstream's: taken, or refused by a Problem
tell-ENDPOINT      a caller's body -> its conversation, and what of it another maker gets
media-KIND         broken media -> the sandbox: a result, or the one error; no process is left
write-ENDPOINT     valid events -> bytes: valid in their dialect, and nothing lost on the way back
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Literal

from msgspec.structs import replace

from edge.dialects.codec import Caller, TargetModel
from edge.dialects.conversation import (
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from edge.dialects.events import Event, Reply, fold
from edge.dialects.foreign_signatures import without_foreign_signatures
from edge.dialects.passthrough import UpstreamError, decode_fields
from edge.endpoints import ENDPOINTS
from edge.proxy.form_conversion import body_of_stream, stream_of_body
from edge.proxy.translate import CLIENTS, UPSTREAMS
from edge.routing import conversation_key
from middlewares import sse
from middlewares.exchange import Dialect
from middlewares.problem import Problem
from tests.edge.dialects.grammar import check_events
from tests.golden.play import cross_of, fed
from tests.schemas import BrokenArguments, check_stream, summary

from . import media, seeds
from .events import events_of
from .mutate import Change, mutated

Surface = Literal["chat", "completions", "messages", "responses"]

_SURFACES: Mapping[str, Surface] = {
    "chat.completions": "chat",
    "completions": "completions",
    "messages": "messages",
    "responses": "responses",
}
CALLERS = {row.name: CLIENTS[row.codec] for row in ENDPOINTS if row.codec and row.codec in CLIENTS}
"""By endpoint, how its callers speak."""
_NATIVE: Mapping[str, Dialect] = {
    "chat.completions": "openai",
    "messages": "anthropic",
    "responses": "responses",
}
_BODIES: Mapping[str, dict[str, Any]] = {
    "chat.completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "completions": {"prompt": "Hi"},
    "messages": {"max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"input": "Hi"},
}
_MODELS: Mapping[Dialect, tuple[str, ...]] = {
    "openai": ("gpt-4.1", "gpt-5.2", "mistral-large", "deepseek-reasoner"),
    "anthropic": ("claude-opus-4-8", "claude-sonnet-4-5", "claude-3-5-haiku-20241022"),
    "responses": ("gpt-5.2", "gpt-4.1"),
}


@dataclass(frozen=True)
class Target:
    """`run` raises for an input that breaks something. seeds: what to begin with. change: how an
    input is changed. runs: inputs of one run of the tests."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    change: Change = mutated
    runs: int = 120


def _pieces(data: bytes) -> list[bytes]:
    """`data` cut in a way that is its own."""
    random, pieces, at = Random(len(data)), [], 0
    while at < len(data):
        size = random.choice((1, 3, 20, 300))
        pieces.append(data[at : at + size])
        at += size
    return pieces


# Upstreams' answers ------------------------------------------------------------------------------


def _events(dialect: Dialect, pieces: list[bytes]) -> list[Event]:
    reader, splitter = UPSTREAMS[dialect].reader(), sse.Splitter()
    out: list[Event] = []
    for piece in pieces:
        if block := splitter.split(piece):
            out += reader.decode(block)
    if rest := splitter.rest():
        out += reader.decode(rest + b"\n\n")
    out += reader.decode_end()
    assert reader.decode(b"data: {}\n\n") == []
    assert reader.decode_end() == []
    return out


def read(dialect: Dialect, data: bytes) -> None:
    """An upstream's stream, and the same bytes as an unstreamed answer."""
    events = _events(dialect, [data])
    check_events(events)
    assert _events(dialect, _pieces(data)) == events, "another cut gives other events"
    check_events(UPSTREAMS[dialect].read(data))


def carry(endpoint: str, data: bytes) -> None:
    """An upstream's stream, of each foreign dialect, to a caller of `endpoint`."""
    native = _NATIVE.get(endpoint)
    for dialect in UPSTREAMS:
        if dialect != native:
            _carry(endpoint, dialect, data)


def _carry(endpoint: str, dialect: Dialect, data: bytes) -> None:
    body = {"model": "m", "stream": True, **_BODIES[endpoint]}
    exchange, way = cross_of(endpoint, body, dialect, _MODELS[dialect][0])
    out, relay, problem = fed(exchange, way.relay(), _pieces(data))
    if problem is None or relay.content:
        usage = False if "completions" in endpoint else None
        with suppress(BrokenArguments):  # what a model makes of them passes as it is
            check_stream(_SURFACES[endpoint], out, error=problem is not None, include_usage=usage)


def pass_on(dialect: Dialect, data: bytes) -> None:
    """An upstream's stream to a caller who speaks the same."""
    endpoint = next(name for name, native in _NATIVE.items() if native == dialect)
    body = {"model": "m", "stream": True, **_BODIES[endpoint]}
    for pieces in ([data], _pieces(data)):
        exchange, way = cross_of(endpoint, body, dialect, "upstream-model")
        fed(exchange, way.relay(), pieces)
    _, way = cross_of(endpoint, {"model": "m", **_BODIES[endpoint]}, dialect, "upstream-model")
    with suppress(UpstreamError):
        way.finish_body(data)


def turn(dialect: Dialect, data: bytes) -> None:
    """A stream in answer to an unstreamed request, and the same bytes as the reverse."""
    body: bytes | None = None
    with suppress(UpstreamError):
        body = body_of_stream(data, dialect)
    if body is not None:
        again = fold(UPSTREAMS[dialect].read(body))
        assert again.failed is None, "what was put together cannot be read"
    with suppress(UpstreamError):
        stream_of_body(data, dialect)


# Callers' requests -------------------------------------------------------------------------------


def ask(endpoint: str, data: bytes) -> None:
    """A caller's body, for each upstream."""
    try:
        fields = decode_fields(data)
    except (ValueError, RecursionError):
        return  # what is no JSON object is refused before
    for dialect, models in _MODELS.items():
        for model in models:
            try:
                conversation = CALLERS[endpoint].read(fields)
                aim = TargetModel(model=model, max_output=64_000, context=200_000, origin="0" * 12)
                body = UPSTREAMS[dialect].write(conversation, aim).body
            except Problem as problem:
                assert problem.kind in ("invalid_request", "audio_not_supported_by_model")
                continue
            assert isinstance(json.loads(body), dict)


def tell(endpoint: str, data: bytes) -> None:
    """A caller's body, as one turn of a conversation that another maker has answered before."""
    try:
        fields = decode_fields(data)
    except (ValueError, RecursionError):
        return
    for member in ("messages", "input"):
        known = conversation_key.read(fields, member)
        assert known is None or known.messages
    if endpoint in _NATIVE:
        dialect = _NATIVE[endpoint]
        left, dropped = without_foreign_signatures(fields, dialect, 3)
        assert bool(dropped) is (left is not fields)
        if dialect == "openai":  # in the others messages may go, and other ones be the first
            assert without_foreign_signatures(left, dialect, 3)[0] is left


# Callers' answers --------------------------------------------------------------------------------


def write(endpoint: str, data: bytes) -> None:
    """A valid sequence of events to a caller of `endpoint`, and back where there is a reader."""
    events = events_of(data)
    reply = fold(events)
    usage = {"stream_options": b'{"include_usage":true}'} if "completions" in endpoint else {}
    caller = Caller(
        model="m",
        id="0123456789abcdef0123456789abcdef",
        created=1_790_000_000,
        fields=usage,  # type: ignore[arg-type]
    )
    one, many = CALLERS[endpoint].writer(caller), CALLERS[endpoint].writer(caller)
    stream = b"".join(one.encode([event]) for event in events)
    half = len(events) // 2
    assert many.encode(events[:half]) + many.encode(events[half:]) == stream
    body = CALLERS[endpoint].writer(caller).encode_body(reply)
    surface = _SURFACES[endpoint]
    seen = check_stream(surface, stream, include_usage=True if usage else None)
    assert seen == summary(surface, body), "the stream and the body differ"
    if endpoint == "completions":
        assert seen.text == _visible(reply)
        return
    dialect = _NATIVE[endpoint]
    again = _events(dialect, _pieces(stream))
    check_events(again)
    for answer in (again, UPSTREAMS[dialect].read(body)):
        _same(dialect, fold(answer), reply)


def _same(dialect: Dialect, found: Reply, said: Reply) -> None:
    """What was said is what was read."""
    if said.stop != "refusal":  # else there may be a sentence more
        assert _visible(found, dialect) == _visible(said, dialect)
    assert _of(found, Thinking) == _of(said, Thinking)
    assert _calls(found) == _calls(said)
    usage = found.usage and replace(found.usage, tiers=())
    assert usage == said.usage


def _visible(reply: Reply, dialect: Dialect | None = None) -> str:
    """Text and refusals; OpenAI keeps the two apart."""
    if dialect == "openai":
        return _of(reply, Text) + _of(reply, Refusal)
    return "".join(b.text for b in reply.blocks if isinstance(b, Text | Refusal))


def _of(reply: Reply, kind: type[Text] | type[Refusal] | type[Thinking]) -> str:
    return "".join(block.text for block in reply.blocks if isinstance(block, kind))


def _calls(reply: Reply) -> list[tuple[str, str, str]]:
    calls = [block for block in reply.blocks if isinstance(block, ToolCall)]
    return [(call.id, call.name, call.arguments or "{}") for call in calls]


# All together ------------------------------------------------------------------------------------


def _texts() -> list[bytes]:
    return [bytes(range(start, start + 60)) for start in range(0, 180, 20)]


def _foreign(endpoint: str) -> list[bytes]:
    native = _NATIVE.get(endpoint)
    return [
        answer for dialect in UPSTREAMS if dialect != native for answer in seeds.answers(dialect)
    ]


TARGETS: Mapping[str, Target] = {
    **{
        f"read-{name}": Target(partial(read, name), partial(seeds.answers, name))
        for name in UPSTREAMS
    },
    **{f"carry-{name}": Target(partial(carry, name), partial(_foreign, name)) for name in CALLERS},
    **{
        f"pass-{name}": Target(partial(pass_on, name), partial(seeds.answers, name))
        for name in UPSTREAMS
    },
    **{
        f"turn-{name}": Target(partial(turn, name), partial(seeds.answers, name))
        for name in UPSTREAMS
    },
    **{
        f"ask-{name}": Target(partial(ask, name), partial(seeds.requests, name)) for name in CALLERS
    },
    **{
        f"tell-{name}": Target(partial(tell, name), partial(seeds.requests, name))
        for name in _NATIVE
    },
    **{f"write-{name}": Target(partial(write, name), _texts) for name in CALLERS},
    **{
        f"media-{kind}": Target(
            partial(media.run, kind), partial(media.seeds, kind), media.broken, runs=10
        )
        for kind in media.TASKS
    },
}
