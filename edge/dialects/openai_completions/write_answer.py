"""Encode answers for callers of the older Completions: text and a finish reason.

Thinking is not shown, and there are no tool calls, since the request has no tools. With `echo` the
text begins with the prompt.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from edge.dialects.codec import Caller
from edge.dialects.conversation import Refusal, Text
from edge.dialects.events import (
    Event,
    RefusalDelta,
    Reply,
    Started,
    Stopped,
)
from edge.dialects.events import TextDelta as Delta
from edge.dialects.openai_chat.write_answer import DONE, usage_of, wants_usage
from edge.dialects.passthrough import encode
from edge.untyped_json import decode_any

_FINISH = {"length": "length", "refusal": "content_filter"}
_NULL = msgspec.Raw(b"null")


class CompletionWriter:
    """Encodes one answer. See `codec.Writer`."""

    __slots__ = ("_base", "_echo", "_head", "_tail", "_text", "_usage", "answer")

    def __init__(self, caller: Caller) -> None:
        self.answer = b""
        self._base = {
            "id": f"cmpl-{caller.id}",
            "object": "text_completion",
            "created": caller.created,
            "model": caller.model,
        }
        self._usage = wants_usage(caller.fields)
        self._echo = ""
        if decode_any(caller.fields.get("echo", _NULL)):
            prompt = decode_any(caller.fields.get("prompt", _NULL))
            self._echo = prompt[0] if isinstance(prompt, list) else prompt
        self._head = b"data: " + encode(self._base)[:-1] + b',"choices":'
        self._text = self._head + b'[{"text":'
        self._tail = b',"index":0,"logprobs":null,"finish_reason":null}]' + self._end()

    def _end(self) -> bytes:
        return b',"usage":null}\n\n' if self._usage else b"}\n\n"

    def encode(self, events: Sequence[Event]) -> bytes:
        """The chunks for the next events."""
        if len(events) == 1:
            return self._event(events[0])
        return b"".join(map(self._event, events))

    def encode_text(self, text: str) -> bytes:
        """The chunk of one TextDelta."""
        return self._text + encode(text) + self._tail

    def _event(self, event: Event) -> bytes:
        if isinstance(event, Delta | RefusalDelta):
            return self._text + encode(event.text) + self._tail
        if isinstance(event, Started) and self._echo:
            return self._text + encode(self._echo) + self._tail
        if isinstance(event, Stopped):
            return self._stopped(event)
        return b""

    def _stopped(self, event: Stopped) -> bytes:
        out = self._head + encode([_choice("", event.reason)]) + self._end()
        if self._usage:
            out += self._head + b'[],"usage":' + encode(usage_of(event.usage)) + b"}\n\n"
        return out + DONE

    def encode_body(self, reply: Reply) -> bytes:
        """The whole unstreamed answer."""
        text = "".join(b.text for b in reply.blocks if isinstance(b, Text | Refusal))
        choices = [_choice(self._echo + text, reply.stop)]
        return encode({**self._base, "choices": choices, "usage": usage_of(reply.usage)})

    def encode_failure(self, content: dict[str, Any]) -> bytes:
        """The last bytes of a broken stream."""
        return b"data: " + encode(content) + b"\n\n"


def _choice(text: str, reason: str) -> dict[str, Any]:
    finish = _FINISH.get(reason, "stop")
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
