"""A reply as Anthropic Messages sends it: one body, or events."""

from collections.abc import Iterator
from typing import Any

import msgspec

from edge.untyped_json import decode_any

from .chat import Frame
from .reply import Call, SimulatedReply

_STOP = {
    "end": "end_turn",
    "length": "max_tokens",
    "tools": "tool_use",
    "stop_string": "stop_sequence",
    "refusal": "refusal",
}
_encode = msgspec.json.Encoder().encode


def event(data: dict[str, Any]) -> bytes:
    """One event, named as its `type`."""
    return b"event: " + str(data["type"]).encode() + b"\ndata: " + _encode(data) + b"\n\n"


PING = event({"type": "ping"})
GARBAGE = b'event: content_block_delta\ndata: {"type":"content_block_delta","index\n\n'


def body(reply: SimulatedReply) -> bytes:
    """The whole answer as one JSON document."""
    content: list[dict[str, Any]] = []
    if reply.signature:
        content.append(
            {
                "type": "thinking",
                "thinking": "".join(reply.thinking),
                "signature": reply.signature,
            }
        )
    if reply.text:
        content.append({"type": "text", "text": "".join(reply.text)})
    content.extend({**_opened(call), "input": _input(call)} for call in reply.calls)
    message = _message(reply, content, _usage(reply))
    message.update(_ending(reply))
    return _encode(message)


def frames(reply: SimulatedReply) -> Iterator[Frame]:
    """The answer as the events of a stream, from message_start to message_stop."""
    started = {**_usage(reply), "output_tokens": 1}
    del started["output_tokens_details"]
    yield event({"type": "message_start", "message": _message(reply, [], started)}), False
    index = 0
    if reply.signature:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        yield _start(index, block), False
        for piece in reply.thinking:
            yield _delta(index, {"type": "thinking_delta", "thinking": piece}), True
        yield _delta(index, {"type": "signature_delta", "signature": reply.signature}), False
        yield _stop(index), False
        index += 1
    if reply.text:
        yield _start(index, {"type": "text", "text": ""}), False
        yield PING, False
        for piece in reply.text:
            yield _delta(index, {"type": "text_delta", "text": piece}), True
        yield _stop(index), False
        index += 1
    for call in reply.calls:
        yield _start(index, {**_opened(call), "input": {}}), False
        yield _delta(index, {"type": "input_json_delta", "partial_json": ""}), False
        for part in call.fragments:
            yield _delta(index, {"type": "input_json_delta", "partial_json": part}), True
        yield _stop(index), False
        index += 1
    usage = _usage(reply)
    del usage["service_tier"], usage["cache_creation"]
    yield event({"type": "message_delta", "delta": _ending(reply), "usage": usage}), False
    yield event({"type": "message_stop"}), False


def _start(index: int, block: dict[str, Any]) -> bytes:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def _delta(index: int, delta: dict[str, str]) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": delta})


def _stop(index: int) -> bytes:
    return event({"type": "content_block_stop", "index": index})


def _opened(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name}


def _input(call: Call) -> Any:
    try:
        return decode_any(call.arguments)
    except msgspec.DecodeError:  # cut by max_tokens
        return {}


def _ending(reply: SimulatedReply) -> dict[str, Any]:
    ending: dict[str, Any] = {
        "stop_reason": _STOP[reply.stop],
        "stop_sequence": reply.stop_string,
    }
    if reply.stop == "refusal":
        ending["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
    return ending


def _message(
    reply: SimulatedReply, content: list[dict[str, Any]], usage: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.id[:24]}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _usage(reply: SimulatedReply) -> dict[str, Any]:
    return {
        "input_tokens": reply.prompt_tokens - reply.cached - reply.written,
        "cache_creation_input_tokens": reply.written,
        "cache_read_input_tokens": reply.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": reply.written,
            "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"thinking_tokens": reply.thought},
        "service_tier": "standard",
    }
