"""Build a whole message of the Messages API from its stream events. No I/O."""

from typing import Any

import msgspec
from msgspec import Raw

from edge.untyped_json import decode_any
from edge.upstreams import Malformed


class MessageBuilder:
    """A message under construction. Raises Malformed for an event that does not fit."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._json: dict[int, list[str]] = {}

    def add(self, event: Raw) -> None:
        """Apply the next event."""
        try:
            self._add(decode_any(event))
        except (KeyError, TypeError, AttributeError, msgspec.DecodeError) as error:
            raise Malformed(
                f"it sent an event that does not fit the message: {error!r}", sent=True
            ) from None

    def _add(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "message_start":
                self._message = event["message"]
            case "content_block_start":
                self._blocks[event["index"]] = event["content_block"]
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "content_block_stop":
                if (parts := self._json.pop(event["index"], None)) and "".join(parts).strip():
                    block = self._blocks[event["index"]]
                    block["input"] = decode_any("".join(parts))
            case "message_delta":
                self._message.update(event["delta"])
                self._message["usage"] = {**self._message["usage"], **event.get("usage", {})}

    def _grow(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks[index]
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = block.get("signature", "") + delta["signature"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            case "input_json_delta":
                self._json.setdefault(index, []).append(delta["partial_json"])

    def body(self) -> bytes:
        """The message as JSON."""
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        return msgspec.json.encode({**self._message, "content": blocks})
