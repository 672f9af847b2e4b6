"""Encode the content blocks of a request to a Messages upstream."""

from base64 import b64decode
from typing import Any

from edge.dialects import tool_names
from edge.dialects.codec import TargetModel
from edge.dialects.conversation import (
    Audio,
    Block,
    Cache,
    Document,
    Image,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from edge.dialects.data_urls import sniffed
from edge.dialects.signatures import readable
from edge.vendors.claude_models import Claude
from middlewares.problem import Problem, invalid_value

from .write_tools import MessagesTools

Written = dict[str, Any]

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


class BlockWriter:
    """Encodes the blocks of one request."""

    def __init__(
        self, target: TargetModel, model: Claude, tools: MessagesTools, dropped: list[str]
    ) -> None:
        self._origin = target.origin
        self._thinks = model.thinking != "never"
        self._tools = tools
        self._dropped = dropped

    def write(self, block: Block) -> Written | None:
        """The block, or None if it has no content. Raises Problem if it cannot be expressed."""
        # The most frequent first: a conversation has thousands.
        if isinstance(block, ToolResult):
            return self._result(block)
        if isinstance(block, ToolCall):
            return _marked(self._tools.call(block), block.cache)
        if isinstance(block, Text):
            return _marked({"type": "text", "text": block.text}, block.cache)
        if isinstance(block, Thinking):
            return self._thinking(block)
        match block:
            case Refusal():
                return {"type": "text", "text": block.text}
            case Image():
                return _image(block)
            case Document():
                return _document(block)
            case Audio():
                raise Problem("audio_not_supported_by_model", param=block.at or None)

    def drop(self, what: str) -> None:
        """Note what is left out, once."""
        if what not in self._dropped:
            self._dropped.append(what)

    def _result(self, result: ToolResult) -> Written:
        written: Written = {
            "type": "tool_result",
            "tool_use_id": tool_names.call_id(result.id, "anthropic"),
        }
        held = result.content
        if len(held) == 1 and isinstance(only := held[0], Text) and only.cache is None:
            written["content"] = only.text
            if result.failed:
                written["is_error"] = True
            return _marked(written, result.cache)
        content = [part for part in map(self.write, held) if part is not None]
        if len(content) == 1 and content[0].keys() == {"type", "text"}:
            written["content"] = content[0]["text"]
        elif content:
            written["content"] = content
        if result.failed:
            written["is_error"] = True
        return _marked(written, result.cache)

    def _thinking(self, block: Thinking) -> Written | None:
        """Thinking is sent only to the model that made it, unchanged."""
        signature = block.signature
        if (
            signature is None
            or not self._thinks
            or not readable(signature, "anthropic", self._origin)
        ):
            self.drop("thinking of another model")
            return None
        if signature.redacted:
            return {"type": "redacted_thinking", "data": signature.data}
        return {"type": "thinking", "thinking": block.text, "signature": signature.data}


def _marked(written: Written, cache: Cache | None) -> Written:
    if cache is not None:
        written["cache_control"] = {"type": "ephemeral"}
        if cache.ttl:
            written["cache_control"]["ttl"] = cache.ttl
    return written


def _image(image: Image) -> Written:
    if image.file_id:
        source = {"type": "file", "file_id": image.file_id}
    elif not image.data:
        source = {"type": "url", "url": image.url}
    else:
        media_type = sniffed(image.data, image.media_type)
        if media_type not in _IMAGES:
            raise _refused(
                image.at, f"an image of type `{media_type}` is none of {', '.join(_IMAGES)}"
            )
        source = {"type": "base64", "media_type": media_type, "data": image.data}
    return _marked({"type": "image", "source": source}, image.cache)


def _document(document: Document) -> Written | None:
    source = _source(document)
    if source is None:
        return None
    written: Written = {"type": "document", "source": source}
    if document.name:
        written["title"] = document.name
    if document.context:
        written["context"] = document.context
    return _marked(written, document.cache)


def _source(document: Document) -> Written | None:
    if document.file_id:
        return {"type": "file", "file_id": document.file_id}
    if document.url:
        return {"type": "url", "url": document.url}
    if document.blocks:
        parts: list[Written] = []
        for part in document.blocks:
            if isinstance(part, Image):
                parts.append(_image(part))
            elif part.text.strip():
                parts.append({"type": "text", "text": part.text})
        return {"type": "content", "content": parts} if parts else None
    text = document.text
    if document.data:
        if document.media_type == "application/pdf":
            return {"type": "base64", "media_type": document.media_type, "data": document.data}
        if not _is_text(document.media_type):
            raise _refused(
                document.at,
                f"a file of type `{document.media_type}` is neither PDF nor text nor an image",
            )
        text = b64decode(document.data).decode("utf-8", "replace")
    if not text.strip():
        return None
    return {"type": "text", "media_type": "text/plain", "data": text}


def _is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type in (
        "application/json",
        "application/xml",
        "application/yaml",
    )


def _refused(at: str, why: str) -> Problem:
    return invalid_value(at, why, issue=why)
