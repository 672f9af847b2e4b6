"""Answers of upstreams in each wire dialect, made to be changed, and what callers read of them.

An answer is a body and the events of the same answer as a stream, as objects.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from .scripted_upstream import Wire

HIDDEN = "vendor-secret"
"""Part of every name that belongs to the upstream: no byte for a client may hold it."""
USAGE = (10, 5)
"""Input and output tokens of every answer."""
Json = dict[str, Any]


class Made(msgspec.Struct):
    """One answer. body: unstreamed. events: streamed, without the end mark `[DONE]` of Chat."""

    body: Json
    events: list[Json]

    @property
    def choice(self) -> Json:
        """Of a Chat body, the first choice."""
        found: Json = self.body["choices"][0]
        return found


def answer(wire: Wire, *texts: str, stop: Any = ...) -> Made:
    """An answer that says `texts`, streamed one by one. stop: in place of the usual reason."""
    if wire == "chat":
        return _chat(texts, "stop" if stop is ... else stop)
    if wire == "messages":
        return _messages(texts, "end_turn" if stop is ... else stop)
    if wire == "responses":
        return _responses(texts)
    return _embeddings()


def _chat(texts: tuple[str, ...], stop: Any) -> Made:
    given, made = USAGE
    usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    head = {"id": "chatcmpl-7", "created": 1_700_000_000, "model": f"{HIDDEN}-model"}

    def chunk(delta: Json, finish: Any = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    message = {"role": "assistant", "content": "".join(texts), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": stop, "logprobs": None}
    return Made(
        {**head, "object": "chat.completion", "choices": [choice], "usage": usage},
        [
            chunk({"role": "assistant", "content": ""}),
            *(chunk({"content": text}) for text in texts),
            chunk({}, stop),
            {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage},
        ],
    )


def _messages(texts: tuple[str, ...], stop: Any) -> Made:
    given, made = USAGE
    usage = {
        "input_tokens": given,
        "output_tokens": made,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
    block = {"type": "text", "text": "".join(texts), "citations": None}
    body = {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": f"{HIDDEN}-model",
        "content": [block],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }
    start = {**body, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    return Made(
        body,
        [
            {"type": "message_start", "message": start},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            *(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": text},
                }
                for text in texts
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": stop, "stop_sequence": None},
                "usage": {"output_tokens": made},
            },
            {"type": "message_stop"},
        ],
    )


def _responses(texts: tuple[str, ...]) -> Made:
    given, made = USAGE
    part = {"type": "output_text", "text": "".join(texts), "annotations": []}
    item = {
        "id": "item_7",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    body = {
        "id": "resp_7",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": f"{HIDDEN}-model",
        "output": [item],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given + made,
        },
    }
    start = {**body, "status": "in_progress", "output": [], "usage": None}
    where = {"item_id": "item_7", "output_index": 0, "content_index": 0}
    events: list[Json] = [
        {"type": "response.created", "response": start},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **where, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **where, "delta": text} for text in texts),
        {"type": "response.output_text.done", **where, "text": part["text"]},
        {"type": "response.content_part.done", **where, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": body},
    ]
    for number, event in enumerate(events):
        event["sequence_number"] = number
    return Made(body, events)


def _embeddings() -> Made:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
    usage = {"prompt_tokens": USAGE[0], "total_tokens": USAGE[0]}
    return Made({"object": "list", "data": data, "model": f"{HIDDEN}-model", "usage": usage}, [])


class Read(msgspec.Struct):
    """What a lenient client makes of an answer.

    stop: as the dialect says it; of Responses the reason it is incomplete, else its status.
    whole: whether it has its proper end. error: the error object or event, if there is one.
    """

    text: str = ""
    calls: list[tuple[str, str]] = []
    stop: str | None = None
    whole: bool = False
    error: Json | None = None
    usage: Json | None = None


def read(surface: str, body: bytes, *, stream: bool) -> Read:
    """Read an answer as a caller of that surface. Raises AssertionError for what is no JSON, and
    for an event without data, which some clients cannot read."""
    said = Read(whole=not stream)
    if not stream:
        _READERS[surface](said, _loads(body), stream=False)
        return said
    for event in body.decode().split("\n\n")[:-1]:
        data = [line[5:].strip() for line in event.split("\n") if line.startswith("data:")]
        assert len(data) == 1, f"an event without its line of data: {event!r}"
        if data == ["[DONE]"]:
            assert not said.whole, "two ends"
            said.whole = surface in ("chat", "completions")
        else:
            frame = _loads(data[0].encode())
            name = [line[6:].strip() for line in event.split("\n") if line.startswith("event:")]
            assert surface in ("chat", "completions") or name == [frame["type"]], event
            _READERS[surface](said, frame, stream=True)
    said.text = said.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return said


def _no_number(text: str) -> float:
    raise AssertionError(f"{text} is no JSON")


def _loads(data: bytes) -> Any:
    return json.loads(data, parse_constant=_no_number)


def _of_chat(said: Read, frame: Json, *, stream: bool) -> None:
    said.error = frame.get("error") or said.error
    said.usage = frame.get("usage") or said.usage
    for choice in frame.get("choices") or ():
        message = choice.get("delta" if stream else "message") or choice
        said.text += message.get("content") or message.get("text") or ""
        said.stop = choice.get("finish_reason") or said.stop
        for call in message.get("tool_calls") or ():
            function = (call or {}).get("function") or {}
            if function.get("name"):
                said.calls.append((function["name"], ""))
            if said.calls:
                name, arguments = said.calls[-1]
                said.calls[-1] = (name, arguments + (function.get("arguments") or ""))


def _of_messages(said: Read, frame: Json, *, stream: bool) -> None:
    kind = frame["type"]
    if kind == "error":
        said.error = frame["error"]
    elif kind == "message":
        said.stop, said.usage = frame["stop_reason"], frame["usage"]
        for block in frame["content"]:
            if block["type"] == "tool_use":
                said.calls.append((block["name"], json.dumps(block["input"])))
            said.text += block.get("text") or ""
    elif kind == "content_block_start":
        block = frame["content_block"]
        assert block.get("text", "") is not None
        if block["type"] == "tool_use":
            said.calls.append((block["name"], ""))
    elif kind == "content_block_delta":
        said.text += frame["delta"].get("text", "")
        if "partial_json" in frame["delta"]:
            name, arguments = said.calls[-1]
            said.calls[-1] = (name, arguments + frame["delta"]["partial_json"])
    elif kind == "message_delta":
        said.stop, said.usage = frame["delta"]["stop_reason"], frame.get("usage")
    elif kind == "message_stop":
        said.whole = True


def _of_responses(said: Read, frame: Json, *, stream: bool) -> None:
    kind = frame.get("type")
    if kind == "response.output_text.delta":
        said.text += frame["delta"]
    if kind in ("error", "response.failed"):
        said.error = frame
    if not stream and frame.get("error"):
        said.error = frame["error"]
        return
    response = frame.get("response", {}) if stream else frame
    if not stream or kind in ("response.completed", "response.incomplete"):
        details = response.get("incomplete_details") or {}
        said.stop = details.get("reason") or response["status"]
        said.whole, said.usage = True, response.get("usage")
        for item in response["output"]:
            if item["type"] == "function_call":
                said.calls.append((item["name"], item["arguments"]))
            elif not stream:
                said.text += "".join(part.get("text", "") for part in item.get("content") or ())
    if kind == "response.completed":
        texts = _texts(response["output"])
        assert "".join(texts) == said.text, "the sum of the deltas is another text"


def _texts(output: list[Json]) -> Iterator[str]:
    for item in output:
        if item["type"] == "message":
            for part in item["content"]:
                yield part.get("text", "")


_READERS = {
    "chat": _of_chat,
    "completions": _of_chat,
    "messages": _of_messages,
    "responses": _of_responses,
}
