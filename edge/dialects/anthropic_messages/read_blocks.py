"""Decode the content blocks of a caller's Messages request."""

from collections.abc import Collection
from typing import Any

from edge.dialects import signatures
from edge.dialects.conversation import (
    Block,
    Cache,
    Document,
    Image,
    Origin,
    Signature,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from edge.dialects.data_urls import read_data_url, sniffed
from edge.dialects.validation import array, json_text, mapping, string
from middlewares.problem import expected

from .citations import citation_of

_ORIGIN = Origin("anthropic")
_RUN_BY_THE_VENDOR = (
    "server_tool_use",
    "container_upload",
    "mcp_tool_use",
    "mcp_tool_result",
    "fallback",
)
_KNOWN = (
    "`text`, `image`, `document`, `search_result`, `thinking`, `redacted_thinking`, `tool_use`, "
    "`tool_result`"
)


def cache_of(owner: dict[str, Any]) -> Cache | None:
    """The cache mark on a block or a tool."""
    mark = owner.get("cache_control")
    if not isinstance(mark, dict):
        return None
    ttl = mark.get("ttl")
    return Cache(ttl if ttl in ("5m", "1h") else None)


class BlockReader:
    """Decodes content; what no other dialect can express is noted in `dropped`."""

    def __init__(self, dropped: list[str]) -> None:
        self._dropped = dropped

    def content(self, content: Any, path: str, *, never: Collection[str] = ()) -> list[Block]:
        """The blocks of `content`: a string, or an array. Raises Problem with the path.

        never: types that are not allowed in this content.
        """
        if isinstance(content, str):
            return [Text(text=content)]
        if not isinstance(content, list):
            raise expected(path, "a string or an array of content blocks")
        blocks: list[Block] = []
        for at, entry in enumerate(content):
            here = f"{path}[{at}]"
            held = mapping(entry, here)
            if held.get("type") in never:
                raise expected(f"{here}.type", f"a block of another type than `{held['type']}`")
            block = self._block(held, here)
            if block is not None:
                blocks.append(block)
        return blocks

    def texts(self, content: Any, path: str) -> list[Text]:
        """Content that is text only."""
        texts: list[Text] = []
        for at, block in enumerate(self.content(content, path)):
            if not isinstance(block, Text):
                raise expected(f"{path}[{at}].type", "`text`")
            texts.append(block)
        return texts

    def _block(self, block: dict[str, Any], path: str) -> Block | None:
        kind = block.get("type")
        match kind:
            case "text":
                return self._text(block, path)
            case "image":
                return _image(block, path)
            case "document":
                return self._document(block, path)
            case "search_result":
                return self._search_result(block, path)
            case "tool_reference":
                named = string(block.get("tool_name"), f"{path}.tool_name", filled=True)
                return Text(text=named, cache=cache_of(block))
            case "thinking":
                return _thinking(block, path)
            case "redacted_thinking":
                return _redacted(block, path)
            case "tool_use":
                return ToolCall(
                    id=string(block.get("id"), f"{path}.id", filled=True),
                    name=string(block.get("name"), f"{path}.name", filled=True),
                    arguments=json_text(mapping(block.get("input"), f"{path}.input"), path),
                    cache=cache_of(block),
                )
            case "tool_result":
                return ToolResult(
                    id=string(block.get("tool_use_id"), f"{path}.tool_use_id", filled=True),
                    content=self._result(block.get("content"), f"{path}.content"),
                    failed=block.get("is_error") is True,
                    cache=cache_of(block),
                )
            case "compaction":  # it replaces the conversation before it
                summed_up = block.get("content")
                return Text(text=summed_up) if isinstance(summed_up, str) else None
        if isinstance(kind, str) and (kind in _RUN_BY_THE_VENDOR or kind.endswith("_tool_result")):
            self._dropped.append(f"{path}: `{kind}`")
            return None
        raise expected(f"{path}.type", f"one of {_KNOWN}", code="invalid_value")

    def _text(self, block: dict[str, Any], path: str) -> Text:
        cited = block.get("citations")
        return Text(
            text=string(block.get("text"), f"{path}.text"),
            cache=cache_of(block),
            citations=tuple(citation_of(each) for each in cited if isinstance(each, dict))
            if isinstance(cited, list)
            else (),
        )

    def _result(self, content: Any, path: str) -> tuple[Text | Image | Document, ...]:
        if content is None:
            return ()
        blocks: list[Text | Image | Document] = []
        for at, block in enumerate(self.content(content, path)):
            if not isinstance(block, Text | Image | Document):
                raise expected(
                    f"{path}[{at}].type",
                    "one of `text`, `image`, `document`, `search_result`, `tool_reference`",
                )
            blocks.append(block)
        return tuple(blocks)

    def _search_result(self, block: dict[str, Any], path: str) -> Text:
        """A search result of the caller, as text under its title and source."""
        lines = [
            string(block.get("title") or "", f"{path}.title"),
            string(block.get("source") or "", f"{path}.source"),
        ]
        found = array(block.get("content"), f"{path}.content")
        lines += [text.text for text in self.texts(found, f"{path}.content")]
        self._note_citations(block, path)
        return Text(text="\n".join(filter(None, lines)), cache=cache_of(block))

    def _document(self, block: dict[str, Any], path: str) -> Document:
        where = f"{path}.source"
        source = mapping(block.get("source"), where)
        document = Document(
            name=string(block.get("title") or "", f"{path}.title"),
            context=string(block.get("context") or "", f"{path}.context"),
            cache=cache_of(block),
            at=path,
        )
        match source.get("type"):
            case "base64":
                document.media_type, document.data = _inline(source, where)
            case "text":
                document.media_type = "text/plain"
                document.text = string(source.get("data"), f"{where}.data")
            case "url":
                document.url = _url(source, where)
            case "file":
                document.file_id = string(source.get("file_id"), f"{where}.file_id", filled=True)
            case "content":
                held = self._result(source.get("content"), f"{where}.content")
                if any(isinstance(part, Document) for part in held):
                    raise expected(f"{where}.content", "blocks of text and images")
                document.blocks = tuple(p for p in held if isinstance(p, Text | Image))
            case _:
                raise expected(f"{where}.type", "one of `base64`, `text`, `url`, `file`, `content`")
        self._note_citations(block, path)
        return document

    def _note_citations(self, block: dict[str, Any], path: str) -> None:
        wanted = block.get("citations")
        if isinstance(wanted, dict) and wanted.get("enabled"):
            self._dropped.append(f"{path}.citations")


def _image(block: dict[str, Any], path: str) -> Image:
    where = f"{path}.source"
    source = mapping(block.get("source"), where)
    image = Image(cache=cache_of(block), at=path)
    match source.get("type"):
        case "base64":
            type_, image.data = _inline(source, where)
            image.media_type = sniffed(image.data, type_)
        case "url":
            image.url = _url(source, where)
        case "file":
            image.file_id = string(source.get("file_id"), f"{where}.file_id", filled=True)
        case _:
            raise expected(f"{where}.type", "one of `base64`, `url`, `file`")
    return image


def _inline(source: dict[str, Any], path: str) -> tuple[str, str]:
    """Media type and data of a `base64` source."""
    type_ = string(source.get("media_type"), f"{path}.media_type", filled=True)
    data = string(source.get("data"), f"{path}.data", filled=True)
    try:
        read = read_data_url(f"data:{type_.split(',')[0]};base64,{data}")
    except ValueError:
        read = None
    if read is None:
        raise expected(f"{path}.data", "base64")
    return read


def _url(source: dict[str, Any], path: str) -> str:
    url = string(source.get("url"), f"{path}.url", filled=True)
    if not url.lower().startswith(("http://", "https://")):
        raise expected(f"{path}.url", "an http(s) URL")
    return url


def _thinking(block: dict[str, Any], path: str) -> Thinking:
    return signed_thinking(
        string(block.get("thinking") or "", f"{path}.thinking"),
        string(block.get("signature") or "", f"{path}.signature"),
    )


def signed_thinking(text: str, signature: str) -> Thinking:
    """Thinking with its signature, which may be "", as it came: the vendor's own, or packed."""
    if not signature:
        return Thinking(text=text)
    unpacked = signatures.unpack(signature) or Signature(origin=_ORIGIN, data=signature)
    return Thinking(text=text, signature=unpacked if unpacked.data else None)


def _redacted(block: dict[str, Any], path: str) -> Thinking:
    data = string(block.get("data"), f"{path}.data", filled=True)
    unpacked = signatures.unpack(data) or Signature(origin=_ORIGIN, data=data, redacted=True)
    return Thinking(signature=unpacked)
