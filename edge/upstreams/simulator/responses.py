"""A reply as OpenAI Responses sends it: one body, or numbered events; a compaction."""

from collections.abc import Iterator
from typing import Any

import msgspec

from .chat import CREATED, Frame
from .conversation import encrypt_content
from .prompt import Prompt
from .read_responses import INCLUDE_ENCRYPTED
from .refusals import failure
from .reply import SimulatedReply
from .response_items import INCOMPLETE, Item, items_of

_DEFAULTS: dict[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_encode = msgspec.json.Encoder().encode
GARBAGE = b'event: response.output_text.delta\ndata: {"type":"response.output_text.del\n\n'


def body(prompt: Prompt, reply: SimulatedReply) -> bytes:
    """The whole answer as one JSON document."""
    return _encode(_finished(prompt, reply, [item.whole for item in _items(prompt, reply)]))


def compacted(prompt: Prompt, reply: SimulatedReply) -> bytes:
    """The conversation as one item, which is accepted as input."""
    item = {
        "id": f"cmp_{reply.id[:46]}",
        "type": "compaction",
        "encrypted_content": encrypt_content(f"The conversation so far was about: {prompt.text}"),
    }
    return _encode(
        {
            "id": f"resp_{reply.id}",
            "object": "response.compaction",
            "created_at": CREATED,
            "output": [item],
            "usage": _usage(reply),
        }
    )


def count(prompt: Prompt) -> bytes:
    """The answer to POST /v1/responses/input_tokens."""
    return _encode({"object": "response.input_tokens", "input_tokens": prompt.tokens})


class Events:
    """The numbered events of one stream, or its failure.

    pings: number of `keepalive` events after `response.created`.
    """

    def __init__(self, prompt: Prompt, reply: SimulatedReply, pings: int) -> None:
        self._prompt = prompt
        self._reply = reply
        self._number = 0
        self._done: list[tuple[int, dict[str, Any]]] = []
        created = self._event("response.created", response=self._running())
        self.waiting = [self._event("keepalive") for _ in range(pings)]
        self.frames: list[Frame] = [(created, False), *self._rest()]

    def failing(self, after: int) -> bytes:
        """The error event and `response.failed`, as the last events after `after` others."""
        self._number = min(after, self._number)
        error = failure(503)
        output = [item for number, item in self._done if number < self._number]
        code, message = error["code"], error["message"]
        response = _response(self._prompt, self._reply, "failed", output)
        response["error"] = {"code": "server_error", "message": message}
        return self._event(
            "error", code=code, message=message, param=None, error=error
        ) + self._event("response.failed", response=response)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + _encode(data) + b"\n\n"

    def _running(self) -> dict[str, Any]:
        return _response(self._prompt, self._reply, "in_progress", [])

    def _rest(self) -> Iterator[Frame]:
        yield self._event("response.in_progress", response=self._running()), False
        items = _items(self._prompt, self._reply)
        for place, item in enumerate(items):
            yield self._added(place, item.opened), False
            for kind, fields, is_token in item.events():
                known = {"item_id": item.whole["id"], "output_index": place, **fields}
                yield self._event(kind, **known), is_token
            self._done.append((self._number, item.whole))
            last = self._event("response.output_item.done", output_index=place, item=item.whole)
            yield last, False
        final = _finished(self._prompt, self._reply, [item.whole for item in items])
        yield self._event(f"response.{final['status']}", response=final), False

    def _added(self, place: int, item: dict[str, Any]) -> bytes:
        return self._event("response.output_item.added", output_index=place, item=item)


def _items(prompt: Prompt, reply: SimulatedReply) -> list[Item]:
    return items_of(reply, sealed=INCLUDE_ENCRYPTED in (prompt.asked.get("include") or ()))


def _finished(
    prompt: Prompt, reply: SimulatedReply, output: list[dict[str, Any]]
) -> dict[str, Any]:
    reason = INCOMPLETE.get(reply.stop)
    response = _response(prompt, reply, "incomplete" if reason else "completed", output)
    response["incomplete_details"] = {"reason": reason} if reason else None
    response["completed_at"] = None if reason else CREATED
    response["usage"] = _usage(reply)
    return response


def _response(
    prompt: Prompt, reply: SimulatedReply, status: str, output: list[dict[str, Any]]
) -> dict[str, Any]:
    """The response object with the request's fields, in the given state."""
    asked = prompt.asked
    given = {name: asked.get(name) for name in _DEFAULTS}
    echoed = {name: _DEFAULTS[name] if value is None else value for name, value in given.items()}
    text = asked.get("text") or {}
    reasoning = asked.get("reasoning") or {}
    return {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": reply.model,
        "output": output,
        **echoed,
        "reasoning": {"effort": None, "summary": None, **reasoning},
        "service_tier": "default",
        "text": {"verbosity": "medium", **text, "format": _format(text.get("format"))},
        "tools": [_tool(tool) for tool in asked.get("tools") or ()],
        "usage": None,
    }


def _format(given: dict[str, Any] | None) -> dict[str, Any]:
    if given is None:
        return {"type": "text"}
    if given.get("type") != "json_schema":
        return given
    return {"description": None, "strict": False, **given}


def _tool(given: dict[str, Any]) -> dict[str, Any]:
    if given.get("type") == "function":
        return {"description": None, "parameters": None, "strict": True, **given}
    if given.get("type") == "custom":
        return {"description": "", "format": {"type": "text"}, **given}
    return given


def _usage(reply: SimulatedReply) -> dict[str, Any]:
    return {
        "input_tokens": reply.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": reply.cached,
            "cache_write_tokens": reply.written,
        },
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.thought},
        "total_tokens": reply.prompt_tokens + reply.output_tokens,
    }
