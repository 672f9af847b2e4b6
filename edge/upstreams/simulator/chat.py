"""A reply as OpenAI Chat Completions sends it: one body, or chunks."""

from collections.abc import Iterator
from typing import Any

import msgspec

from .prompt import Prompt
from .reply import SimulatedReply

CREATED = 1_767_225_600
"""Unix time of every answer: the same request gives the same bytes."""

FINGERPRINT = "fp_sim0secret7"

Frame = tuple[bytes, bool]
"""One event as bytes, and whether it is a token, which takes time."""

_FINISH = {
    "end": "stop",
    "length": "length",
    "tools": "tool_calls",
    "stop_string": "stop",
    "refusal": "content_filter",
}
_encode = msgspec.json.Encoder().encode
PING = b": ping\n\n"
GARBAGE = b'data: {"id":"chatcmpl-broken","choices":[{"delta":{"con\n\n'


def body(reply: SimulatedReply) -> bytes:
    """The whole answer as one JSON document."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(reply.text) if reply.text or not reply.calls else None,
        "refusal": None,
        "annotations": [],
    }
    if reply.thinking:
        message["reasoning_content"] = "".join(reply.thinking)
    if reply.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in reply.calls
        ]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _FINISH[reply.stop],
    }
    return _encode(
        {
            "id": f"chatcmpl-{reply.id[:29]}",
            "object": "chat.completion",
            "created": CREATED,
            "model": reply.model,
            "choices": [choice],
            "usage": _usage(reply),
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        }
    )


def frames(prompt: Prompt, reply: SimulatedReply) -> Iterator[Frame]:
    """The answer as the chunks of a stream, from the role to `[DONE]`."""
    chunk = _Chunks(prompt, reply)
    yield chunk.role(), False
    for piece in reply.thinking:
        yield chunk({"reasoning_content": piece}), True
    for piece in reply.text:
        yield chunk({"content": piece}), True
    for index, call in enumerate(reply.calls):
        function = {"name": call.name, "arguments": ""}
        opened = {"index": index, "id": call.id, "type": "function", "function": function}
        yield chunk({"tool_calls": [opened]}), False
        for part in call.fragments:
            fragment = {"index": index, "function": {"arguments": part}}
            yield chunk({"tool_calls": [fragment]}), True
    yield chunk({}, _FINISH[reply.stop]), False
    if prompt.include_usage:
        yield chunk.usage(_usage(reply)), False
    yield b"data: [DONE]\n\n", False


def waiting(prompt: Prompt, reply: SimulatedReply, pings: int) -> list[bytes]:
    """Signs of life without content: role-only chunks and comments in turn."""
    role = _Chunks(prompt, reply).role()
    return [role if number % 2 else PING for number in range(pings)]


class _Chunks:
    """Writes chunks of one stream. Only the delta differs, so the rest is encoded once."""

    def __init__(self, prompt: Prompt, reply: SimulatedReply) -> None:
        self._envelope: dict[str, Any] = {
            "id": f"chatcmpl-{reply.id[:29]}",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": reply.model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        }
        start = _encode(self._envelope)[:-1]
        self._before = b"data: " + start + b',"choices":[{"index":0,"delta":'
        self._after = b"}]" + (b',"usage":null' if prompt.include_usage else b"") + b"}\n\n"

    def role(self) -> bytes:
        return self({"role": "assistant", "content": "", "refusal": None})

    def __call__(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        reason = _encode(finish)
        end = b',"logprobs":null,"finish_reason":' + reason + self._after
        return self._before + _encode(delta) + end

    def usage(self, usage: dict[str, Any]) -> bytes:
        return b"data: " + _encode({**self._envelope, "choices": [], "usage": usage}) + b"\n\n"


def _usage(reply: SimulatedReply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.prompt_tokens + reply.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": reply.cached,
            "cache_write_tokens": reply.written,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": reply.thought,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
