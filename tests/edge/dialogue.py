"""What callers ask and upstreams answer in each dialect, for scripts: the same things said.

ASK["messages"]("Hi", "only-oai", stream=True)      a request of that endpoint's
SAY["openai"].text("Hello")                          events of an upstream's stream
"""

import json
from collections.abc import Callable
from typing import Any

from edge.upstreams import Header

from .scripted import JSON

PATHS = {
    "chat.completions": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
}
MODELS = {"openai": "only-oai", "anthropic": "only-ant", "responses": "only-res"}
UPSTREAMS = {"openai": "oai/o1", "anthropic": "ant/a1", "responses": "res/r1"}
DOCUMENT: dict[str, Any] = {
    "upstreams": [
        {"name": "both", "dialect": "simulator"},
        {"name": "oai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
        {"name": "ant", "dialect": "anthropic", "base_url": "http://127.0.0.1:9/v1"},
        {"name": "res", "dialect": "responses", "base_url": "http://127.0.0.1:9/v1"},
    ],
    "models": [{"id": MODELS[name], "targets": [UPSTREAMS[name]]} for name in MODELS],
}
NATIVE = {"chat.completions": "openai", "messages": "anthropic", "responses": "responses"}
PAIRS = [(caller, upstream) for caller in PATHS for upstream in MODELS]
CROSSED = [(caller, upstream) for caller, upstream in PAIRS if NATIVE[caller] != upstream]


def ask(caller: str, upstream: str, /, **members: Any) -> dict[str, Any]:
    """A request with what the dialect requires."""
    body: dict[str, Any] = {"model": MODELS[upstream], **members}
    if caller == "responses":
        return {"input": "Hi", **body}
    messages = [{"role": "user", "content": "Hi"}]
    body = {"messages": messages, **body}
    return {"max_tokens": 500, **body} if caller == "messages" else body


def tools(caller: str, *names: str) -> list[dict[str, Any]]:
    """Definitions of functions that take any object."""
    schema = {"type": "object", "properties": {}}
    match caller:
        case "messages":
            return [{"name": name, "input_schema": schema} for name in names]
        case "responses":
            return [{"type": "function", "name": name, "parameters": schema} for name in names]
    return [{"type": "function", "function": {"name": n, "parameters": schema}} for n in names]


def _named(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


class Chat:
    """An upstream that speaks chat completions."""

    ping = b": wait\n\n"

    def start(self) -> bytes:
        """What comes before any content."""
        return self.chunk({"role": "assistant", "content": ""})

    def chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        """One chunk."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = {"object": "chat.completion.chunk", "model": "o1", "choices": [choice]}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    def text(self, text: str) -> bytes:
        """A piece of text."""
        return self.chunk({"content": text})

    def stop(self, usage: tuple[int, int] | None = (30, 20)) -> bytes:
        """The end. usage: tokens in and out."""
        out = self.chunk({}, "stop")
        if usage is not None:
            counted = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
            out += b"data: " + json.dumps({"choices": [], "usage": counted}).encode() + b"\n\n"
        return out + b"data: [DONE]\n\n"

    def error(self, kind: str, message: str) -> bytes:
        """An error inside the stream."""
        error = {"message": message, "type": kind, "param": None, "code": kind}
        return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"

    def whole(self, text: str, usage: tuple[int, int] | None = (30, 20)) -> bytes:
        """The same unstreamed."""
        message = {"role": "assistant", "content": text}
        body: dict[str, Any] = {
            "object": "chat.completion",
            "model": "o1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        if usage is not None:
            body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        return json.dumps(body).encode()


class Messages:
    """An upstream that speaks Messages."""

    ping = _named("ping")

    def start(self) -> bytes:
        """What comes before any content."""
        usage = {"input_tokens": 30, "output_tokens": 1}
        message = {"id": "msg_a1", "type": "message", "role": "assistant", "model": "a1"}
        begun = _named("message_start", message={**message, "content": [], "usage": usage})
        block = {"type": "text", "text": ""}
        return begun + _named("content_block_start", index=0, content_block=block)

    def text(self, text: str) -> bytes:
        """A piece of text."""
        delta = {"type": "text_delta", "text": text}
        return _named("content_block_delta", index=0, delta=delta)

    def stop(self, usage: tuple[int, int] | None = (30, 20)) -> bytes:
        """The end. usage: tokens in and out."""
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        counted = {} if usage is None else {"usage": {"output_tokens": usage[1]}}
        return (
            _named("content_block_stop", index=0)
            + _named("message_delta", delta=delta, **counted)
            + _named("message_stop")
        )

    def error(self, kind: str, message: str) -> bytes:
        """An error inside the stream."""
        return _named("error", error={"type": kind, "message": message})

    def whole(self, text: str, usage: tuple[int, int] | None = (30, 20)) -> bytes:
        """The same unstreamed."""
        body: dict[str, Any] = {
            "id": "msg_a1",
            "type": "message",
            "role": "assistant",
            "model": "a1",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
        }
        if usage is not None:
            body["usage"] = {"input_tokens": usage[0], "output_tokens": usage[1]}
        return json.dumps(body).encode()


class Responses:
    """An upstream that speaks Responses; one answer an instance, since its events are numbered."""

    ping = b": wait\n\n"

    def __init__(self) -> None:
        self._number = 0
        self._said = ""

    def event(self, kind: str, **members: Any) -> bytes:
        """One event."""
        self._number += 1
        return _named(kind, sequence_number=self._number - 1, **members)

    def _response(self, status: str, **members: Any) -> dict[str, Any]:
        return {
            "id": "resp_r1",
            "object": "response",
            "created_at": 1,
            "model": "r1",
            "status": status,
            "error": None,
            "output": [],
            "usage": None,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            **members,
        }

    def _item(self, status: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": self._said, "annotations": [], "logprobs": []}
        content = [part] if status == "completed" else []
        item = {"id": "msg_r1", "type": "message", "role": "assistant", "status": status}
        return {**item, "content": content}

    def start(self) -> bytes:
        """What comes before any content."""
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        place = {"output_index": 0, "content_index": 0, "item_id": "msg_r1"}
        return (
            self.event("response.created", response=self._response("in_progress"))
            + self.event("response.in_progress", response=self._response("in_progress"))
            + self.event(
                "response.output_item.added", output_index=0, item=self._item("in_progress")
            )
            + self.event("response.content_part.added", **place, part=part)
        )

    def text(self, text: str) -> bytes:
        """A piece of text."""
        self._said += text
        place = {"output_index": 0, "content_index": 0, "item_id": "msg_r1"}
        return self.event("response.output_text.delta", **place, delta=text, logprobs=[])

    def _usage(self, usage: tuple[int, int] | None) -> dict[str, int] | None:
        if usage is None:
            return None
        return {"input_tokens": usage[0], "output_tokens": usage[1], "total_tokens": sum(usage)}

    def stop(self, usage: tuple[int, int] | None = (30, 20)) -> bytes:
        """The end. usage: tokens in and out."""
        item = self._item("completed")
        ended = self._response("completed", output=[item], usage=self._usage(usage))
        return self.event("response.output_item.done", output_index=0, item=item) + self.event(
            "response.completed", response=ended
        )

    def error(self, kind: str, message: str) -> bytes:
        """An error inside the stream."""
        failed = self._response("failed", error={"code": kind, "message": message})
        return self.event("response.failed", response=failed)

    def whole(self, text: str, usage: tuple[int, int] | None = (30, 20)) -> bytes:
        """The same unstreamed."""
        self._said = text
        item = self._item("completed")
        made = self._response("completed", output=[item], usage=self._usage(usage))
        return json.dumps(made).encode()


SAY: dict[str, Callable[[], Chat | Messages | Responses]] = {
    "openai": Chat,
    "anthropic": Messages,
    "responses": Responses,
}
"""By dialect: an upstream's way of saying things."""
PLAIN: tuple[Header, ...] = (JSON,)


class Read:
    """A stream as its caller reads it: data events, comments apart. No event is empty."""

    def __init__(self, body: bytes) -> None:
        self.names: list[str] = []
        self.data: list[Any] = []
        self.comments = 0
        self.done = False
        *events, rest = body.decode().split("\n\n")
        for event in events:
            lines = event.split("\n")
            while lines[0].startswith(":"):
                del lines[0]
                self.comments += 1
            assert lines[-1].startswith("data: ") and len(lines) <= 2, event
            name = lines[0].removeprefix("event: ") if len(lines) == 2 else ""
            text = lines[-1].removeprefix("data: ")
            if text == "[DONE]":
                self.done = True
                continue
            self.names.append(name)
            self.data.append(json.loads(text))
        for line in rest.split("\n")[:-1]:
            assert line.startswith(":"), rest
            self.comments += 1

    @property
    def pings(self) -> int:
        """Signs of life, whatever the dialect."""
        return self.comments + self.names.count("ping")

    @property
    def text(self) -> str:
        """All text of the model."""
        out = []
        for event in self.data:
            if event.get("type") == "content_block_delta":
                out.append(event["delta"].get("text", ""))
            elif event.get("type") == "response.output_text.delta":
                out.append(event["delta"])
            out += [choice["delta"].get("content") or "" for choice in event.get("choices", ())]
        return "".join(out)

    @property
    def ended(self) -> bool:
        """Whether it says that it ended well."""
        last = self.names[-1] if self.names else ""
        return self.done or last in ("message_stop", "response.completed", "response.incomplete")

    def check_numbers(self) -> None:
        """Events of Responses are numbered from 0 without a gap."""
        numbers = [event["sequence_number"] for event in self.data]
        assert numbers == list(range(len(numbers)))
