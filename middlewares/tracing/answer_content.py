"""What a model has answered, as `gen_ai.output.messages`, from an answer of any dialect.

An answer is read by its form, a JSON object or an event stream. Of a stream that is longer than
what was kept, the content is the beginning.
"""

from collections.abc import Iterator
from typing import Any

from .content import Part, call_of, calls_of, fitted, parts_of
from .lenient_json import value_of


def output_messages(body: bytes) -> str:
    """JSON text of the messages in an answer; "" where there is none."""
    text = body.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"{"):
        answer = _object(text)
        messages = [] if answer is None else _whole(answer)
    else:
        messages = _Stream(text).messages()
    return fitted(messages) if messages else ""


def _object(text: bytes) -> dict[str, Any] | None:
    value = value_of(text, most=len(text))
    return value if isinstance(value, dict) else None


def _message(parts: list[Part], reason: Any) -> Part:
    return {
        "role": "assistant",
        "parts": parts,
        "finish_reason": reason if isinstance(reason, str) else "",
    }


def _whole(answer: dict[str, Any]) -> list[Part]:
    """Messages of an unstreamed answer."""
    choices, content, output = (answer.get(name) for name in ("choices", "content", "output"))
    if isinstance(choices, list):
        return [
            _message(_chat_parts(choice), choice.get("finish_reason"))
            for choice in choices
            if isinstance(choice, dict)
        ]
    if isinstance(content, list):
        return [_message(parts_of(content), answer.get("stop_reason"))]
    if isinstance(output, list):
        return [_message(list(_items(output)), answer.get("status"))]
    return []


def _chat_parts(choice: dict[str, Any]) -> list[Part]:
    message = choice.get("message")
    if not isinstance(message, dict):
        return parts_of(choice.get("text"))
    parts = parts_of(message.get("reasoning_content"), "reasoning")
    parts += parts_of(message.get("content")) + parts_of(message.get("refusal"))
    return parts + calls_of(message)


def _items(output: list[Any]) -> Iterator[Part]:
    """Parts of the output items of Responses."""
    for item in output:
        if not isinstance(item, dict):
            continue
        match item.get("type"):
            case "message":
                yield from parts_of(item.get("content"))
            case "function_call":
                yield call_of(item.get("call_id"), item)
            case "reasoning":
                yield from ({**part, "type": "reasoning"} for part in parts_of(item.get("summary")))


class _Stream:
    """Puts the deltas of a stream together."""

    def __init__(self, stream: bytes) -> None:
        self._parts: dict[tuple[Any, ...], Part] = {}
        self._reason: Any = None
        self._whole: list[Part] = []
        for line in stream.splitlines():
            if line.startswith(b"data:") and (event := _object(line[5:].strip())) is not None:
                self._take(event)

    def messages(self) -> list[Part]:
        """The messages of the stream."""
        if self._whole:
            return self._whole
        parts = list(self._parts.values())
        return [_message(parts, self._reason)] if parts else []

    def _take(self, event: dict[str, Any]) -> None:
        response = event.get("response")
        if event.get("type") == "response.completed" and isinstance(response, dict):
            self._whole = _whole(response)
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._take_choice(choice)
        delta, at = event.get("delta"), _index(event.get("index", event.get("output_index")))
        block = event.get("content_block")
        if isinstance(block, dict) and block.get("type") == "tool_use":
            called = call_of(block.get("id"), {"name": block.get("name"), "arguments": ""})
            self._parts[(at,)] = called
        if isinstance(delta, dict):
            self._add((at,), "text", delta.get("text"))
            self._add((at,), "reasoning", delta.get("thinking"))
            self._add((at,), "tool_call", delta.get("partial_json"))
            self._reason = delta.get("stop_reason") or self._reason
        elif event.get("type") == "response.output_text.delta":
            self._add((at,), "text", delta)

    def _take_choice(self, choice: dict[str, Any]) -> None:
        at, delta = _index(choice.get("index")), choice.get("delta")
        self._reason = choice.get("finish_reason") or self._reason
        if not isinstance(delta, dict):
            return self._add((at, "text"), "text", choice.get("text"))
        self._add((at, "reasoning"), "reasoning", delta.get("reasoning_content"))
        self._add((at, "text"), "text", delta.get("content"))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if not isinstance(call, dict):
                continue
            key, function = (at, "call", _index(call.get("index"))), call.get("function")
            if key not in self._parts:
                self._parts[key] = {**call_of(call.get("id"), function), "arguments": ""}
            if isinstance(function, dict):
                self._add(key, "tool_call", function.get("arguments"))

    def _add(self, key: tuple[Any, ...], kind: str, text: Any) -> None:
        if not isinstance(text, str) or not text:
            return
        part = self._parts.setdefault(key, {"type": kind})
        member = "arguments" if kind == "tool_call" else "content"
        part[member] = part.get(member, "") + text


def _index(value: Any) -> int:
    """The position of a choice or a part; 0 where the upstream gives none, or no number."""
    return value if isinstance(value, int) else 0
