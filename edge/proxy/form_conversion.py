"""Convert a whole answer to a stream of its dialect, and a stream to a whole answer.

For upstreams that answer in the form that was not requested. Both conversions go through neutral
events. The upstream's usage is copied as it is, since it can have priced members that the neutral
form lacks.
"""

from collections.abc import Iterable
from time import time
from typing import Any
from uuid import uuid4

import msgspec

from edge.dialects.codec import Caller, Writer
from edge.dialects.events import Failed, fold
from edge.dialects.openai_responses.wire import hosted_in
from edge.dialects.passthrough import UNREADABLE, Fields, UpstreamError, decode_fields, encode
from edge.dialects.split_characters import CharacterJoiner
from edge.endpoints import CONVERSATIONS
from middlewares import sse
from middlewares.exchange import Dialect

from .translate import CLIENTS, UPSTREAMS

_NULL = msgspec.Raw(b"null")
_NO_COUNT = (b"null", b"0")
_USAGE_REQUESTED = {"stream_options": msgspec.Raw(b'{"include_usage":true}')}
_FINISHED = (b'"completed"', b'"incomplete"')
_DONE = b'"response.output_item.done"'

_decode_list = msgspec.json.Decoder(list[msgspec.Raw] | None).decode


def body_of_stream(stream: bytes, dialect: Dialect) -> bytes:
    """Convert a whole `stream` of `dialect` to a body. Raises UpstreamError."""
    reader = UPSTREAMS[dialect].reader()
    splitter, joiner = sse.Splitter(len(stream)), CharacterJoiner()
    block = joiner.join(splitter.split(stream) + splitter.rest() + b"\n\n") + joiner.rest()
    reply = fold([*reader.decode(block), *reader.decode_end()])
    if reply.failed is not None:
        raise UpstreamError.by(reply.failed)
    made = decode_fields(_writer(dialect, stream=False).encode_body(reply))
    events = map(_fields_of, sse.split(block))  # one at a time: there may be a million
    return encode({**made, **(_response(events) if dialect == "responses" else _counts_of(events))})


def stream_of_body(body: bytes, dialect: Dialect) -> bytes:
    """Convert the whole answer `body` to a stream of `dialect`. Raises UpstreamError."""
    events = UPSTREAMS[dialect].read(body)
    for event in events:
        if isinstance(event, Failed):
            raise UpstreamError.by(event)
    stream = _writer(dialect, stream=True).encode(events)
    answer = _object(body)
    if dialect == "responses":
        answer.setdefault("service_tier", _NULL)
    counts = _counts_of([answer])
    hosted = [item for item in _items(answer.get("output")) if hosted_in(bytes(item))]
    return b"".join(_with_counts(event, counts, hosted) for event in sse.split(stream))


def _writer(dialect: Dialect, *, stream: bool) -> Writer:
    caller = Caller(
        model="whole",
        id=uuid4().hex,
        created=int(time()),
        fields=_USAGE_REQUESTED if stream else {},
        stream=stream,
    )
    codec = CONVERSATIONS[dialect].codec
    assert codec is not None
    return CLIENTS[codec].writer(caller)


def _counts_of(events: Iterable[Fields]) -> Fields:
    """The usage and the service tier that the upstream reported. Later figures replace earlier
    ones, unless they are null or 0.
    """
    usage: Fields = {}
    counts: Fields = {}
    for fields in events:
        fields = {**fields, **_object(fields.get("message"))}
        for name, raw in _object(fields.get("usage")).items():
            if bytes(raw) not in _NO_COUNT or name not in usage:
                usage[name] = raw
        if "service_tier" in fields:
            counts["service_tier"] = fields["service_tier"]
    return {**counts, "usage": msgspec.Raw(encode(usage))} if usage else counts


def _response(events: Iterable[Fields]) -> Fields:
    """The finished response of a stream; its output from the finished items if it has none."""
    response: Fields = {}
    done: list[msgspec.Raw] = []
    for fields in events:
        found = _object(fields.get("response"))
        if bytes(found.get("status", b"")) in _FINISHED:
            response = found
        if bytes(fields.get("type", b"")) == _DONE and "item" in fields:
            done.append(fields["item"])
    if not _items(response.get("output")):
        response.pop("output", None)
        if done:
            response["output"] = msgspec.Raw(encode(done))
    return {"service_tier": _NULL, **response}


def _with_counts(event: bytes, counts: Fields, hosted: list[msgspec.Raw]) -> bytes:
    """`event` with its usage replaced by `counts`, if it has one."""
    parsed = sse.parse(event)
    fields = _fields_of(event)
    response = _object(fields.get("response"))
    if _object(fields.get("usage")):
        fields.update(counts)
    elif _object(response.get("usage")):
        output = [*_items(response.get("output")), *hosted]
        changed: dict[str, Any] = {**response, **counts, "output": output}
        fields["response"] = msgspec.Raw(encode(changed))
    else:
        return event
    return sse.encode(encode(fields), parsed.name if parsed is not None else "")


def _fields_of(event: bytes) -> Fields:
    parsed = sse.parse(event)
    return {} if parsed is None else _object(parsed.data)


def _object(raw: bytes | msgspec.Raw | None) -> Fields:
    """Members of a JSON object; none of anything else."""
    try:
        return {} if raw is None else decode_fields(raw)
    except UNREADABLE:
        return {}


def _items(raw: msgspec.Raw | None) -> list[msgspec.Raw]:
    try:
        return ([] if raw is None else _decode_list(raw)) or []
    except UNREADABLE:
        return []
