"""The grammar of a stream of Messages.

message_start (block_start delta* block_stop)* message_delta+ message_stop
ping anywhere between; error anywhere before message_delta, and the last
"""

from typing import Any

from . import laws
from .framing import DONE, Event
from .laws import expect
from .summary import Summary, of_message
from .surfaces import check

_DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
}
_REPORTED_AT_THE_END = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
)


def read(events: list[Event], *, error: bool) -> Summary:
    """Raises AssertionError where the grammar is broken. error: it has to end with an error."""
    stream = _Stream()
    for event in events:
        expect(event.data != DONE, event.at, "Messages know no [DONE]")
        try:
            check("message.event", event.data)
        except AssertionError as broken:
            raise type(broken)(f"{event.at}: {broken}") from None
        stream.take(event)
    return stream.end(error=error)


class _Stream:
    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._open: dict[str, Any] | None = None
        self._signed = False
        self._delta: dict[str, Any] | None = None
        self._last = ""

    def take(self, event: Event) -> None:
        at, data = event
        kind = data["type"]
        expect(self._last not in ("message_stop", "error"), at, f"comes after {self._last}")
        if kind == "error":
            expect(self._delta is None, at, "the message had ended")
        elif kind == "message_start":
            expect(not self._message, at, "a second start")
            self._message = data["message"]
        else:
            expect(self._message, at, "before message_start")
            if kind not in ("ping", "message_stop"):
                getattr(self, f"_{kind}")(data, at)
        if kind == "message_stop":
            expect(self._delta is not None, at, "no message_delta before it")
        self._last = kind

    def _content_block_start(self, data: dict[str, Any], at: str) -> None:
        content = self._message["content"]
        expect(self._delta is None, at, "a block after message_delta")
        expect(self._open is None, at, "a block while another is open")
        expect(data["index"] == len(content), at, f"index {data['index']}, not {len(content)}")
        self._open = {**data["content_block"]}
        self._signed = False
        if "input" in self._open:
            self._open["input"] = ""
        content.append(self._open)

    def _content_block_delta(self, data: dict[str, Any], at: str) -> None:
        block, delta = self._current(data, at), data["delta"]
        kind = delta["type"]
        expect(kind in _DELTAS.get(block["type"], ()), at, f"{kind} in a block {block['type']}")
        expect(not self._signed, at, "a delta after the signature")
        match kind:
            case "text_delta":
                block["text"] += delta["text"]
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
                self._signed = True
            case "input_json_delta":
                block["input"] += delta["partial_json"]

    def _content_block_stop(self, data: dict[str, Any], at: str) -> None:
        block = self._current(data, at)
        if block["type"] == "text":
            expect(block["text"], at, "an empty text, which the API refuses")
        if block["type"] == "thinking":
            expect(self._signed, at, "thinking without a signature")
        self._open = None

    def _current(self, data: dict[str, Any], at: str) -> dict[str, Any]:
        index = len(self._message["content"]) - 1
        expect(self._open is not None and data["index"] == index, at, "that block is not open")
        return self._open or {}

    def _message_delta(self, data: dict[str, Any], at: str) -> None:
        expect(self._open is None, at, "a block is still open")
        self._delta = data
        self._message.update(data["delta"])
        shown = {key: value for key, value in data["usage"].items() if value is not None}
        self._message["usage"] = {**self._message["usage"], **shown}

    def end(self, *, error: bool) -> Summary:
        expect(self._message or error, "stream", "no message in it")
        if error:
            expect(self._last == "error", "stream", f"it ends with {self._last or 'nothing'}")
            if not self._message:
                return Summary("", "", (), "error", None)
            return of_message(self._message)
        expect(self._last == "message_stop", "stream", f"it ends with {self._last}")
        usage = (self._delta or {})["usage"]
        missing = [key for key in _REPORTED_AT_THE_END if not isinstance(usage.get(key), int)]
        expect(not missing, "message_delta", f"the last usage lacks {missing}")
        stop = self._message["stop_reason"]
        expect(stop is not None, "message_delta", "the last one has no stop_reason")
        for n, block in enumerate(self._message["content"]):
            if isinstance(block.get("input"), str):
                laws.input_of_call(block["input"] or "{}", f"block {n}", stop)
        laws.message(self._message)
        return of_message(self._message)
