"""Decode content parts of Chat messages: OpenAI's, and Anthropic's blocks, which Cursor sends."""

from base64 import b64decode
from typing import Any

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
from edge.dialects.data_urls import read_data_url, sniffed
from edge.dialects.signatures import unpack
from edge.dialects.validation import array, json_text, mapping, string
from middlewares.problem import expected

_PDF = "JVBERi0"  # the beginning of a PDF in base64
_FILE = "a data URL, as in `data:application/pdf;base64,...`"


def cache_of(owner: dict[str, Any]) -> Cache | None:
    """The cache mark on a part, a message or a tool, in Anthropic's or in OpenAI's spelling."""
    mark = owner.get("cache_control")
    if isinstance(mark, dict):
        ttl = mark.get("ttl")
        return Cache(ttl if ttl in ("5m", "1h") else None)
    return Cache() if isinstance(owner.get("prompt_cache_breakpoint"), dict) else None


def read_content(content: Any, path: str) -> list[Block]:
    """The blocks of `content`: a string, or an array of parts. Raises Problem with the path."""
    if isinstance(content, str):
        return [Text(text=content)]
    if not isinstance(content, list):
        raise expected(path, "a string or an array of content parts")
    blocks: list[Block] = []
    for at, part in enumerate(content):
        here = f"{path}[{at}]"
        if isinstance(part, str):
            blocks.append(Text(text=part))
        else:
            blocks.append(_part(mapping(part, here), here))
    return blocks


def _part(part: dict[str, Any], path: str) -> Block:
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            return Text(text=string(part.get("text"), f"{path}.text"), cache=cache_of(part))
        case "refusal":
            return Refusal(text=string(part.get("refusal"), f"{path}.refusal"))
        case "image_url" | "input_image":
            return _image(part, path)
        case "input_audio":
            return _audio(part, path)
        case "file":
            where = f"{path}.file"
            return _file(part, mapping(part.get("file"), where), where, path)
        case "input_file":
            return _file(part, part, path, path)
        case "image":
            return _source_image(part, path)
        case "document":
            return _source_document(part, path)
        case "tool_use":
            return ToolCall(
                id=string(part.get("id") or "", f"{path}.id"),
                name=string(part.get("name"), f"{path}.name", filled=True),
                arguments=json_text(mapping(part.get("input") or {}, f"{path}.input"), path),
                cache=cache_of(part),
            )
        case "tool_result":
            return ToolResult(
                id=string(part.get("tool_use_id") or "", f"{path}.tool_use_id"),
                content=result_content(part.get("content"), f"{path}.content"),
                failed=part.get("is_error") is True,
                cache=cache_of(part),
            )
        case "thinking" | "redacted_thinking":
            return thinking_block(part, path)
    raise expected(
        f"{path}.type",
        "one of `text`, `image_url`, `input_audio`, `file`, `refusal`",
        code="invalid_value",
    )


def result_content(content: Any, path: str) -> tuple[Text | Image | Document, ...]:
    """A tool's result. Raises Problem for parts that are neither text, image nor file."""
    if content is None:
        return ()
    blocks: list[Text | Image | Document] = []
    for at, block in enumerate(read_content(content, path)):
        if not isinstance(block, Text | Image | Document):
            raise expected(f"{path}[{at}].type", "one of `text`, `image_url`, `file`")
        blocks.append(block)
    return tuple(blocks)


def _image(part: dict[str, Any], path: str) -> Image:
    holder, where = part.get("image_url"), f"{path}.image_url"
    detail = part.get("detail")
    if not isinstance(holder, str):
        holder, where = mapping(holder, where), f"{where}.url"
        detail = holder.get("detail", detail)
        holder = holder.get("url")
    return image_at(
        string(holder, where, filled=True),
        where,
        detail=detail if isinstance(detail, str) else "",
        cache=cache_of(part),
        at=path,
    )


def image_at(url: str, where: str, *, detail: str, cache: Cache | None, at: str) -> Image:
    """The image behind a URL or inside a data URL."""
    inline = _data_url(url, where)
    if inline is not None:
        type_, data = inline
        return Image(media_type=sniffed(data, type_), data=data, detail=detail, cache=cache, at=at)
    if not url.lower().startswith(("http://", "https://")):
        raise expected(where, "an http(s) URL or a data URL")
    return Image(url=url, detail=detail, cache=cache, at=at)


def _data_url(url: str, where: str) -> tuple[str, str] | None:
    try:
        return read_data_url(url)
    except ValueError as error:
        raise expected(where, f"a readable data URL ({error})") from None


def _audio(part: dict[str, Any], path: str) -> Audio:
    where = f"{path}.input_audio"
    audio = mapping(part.get("input_audio"), where)
    return Audio(
        data=string(audio.get("data"), f"{where}.data", filled=True),
        format=string(audio.get("format"), f"{where}.format", filled=True),
        at=path,
    )


def _file(part: dict[str, Any], file: dict[str, Any], where: str, path: str) -> Document | Image:
    """file: the members of the file, which the part of Responses has itself."""
    name = string(file.get("filename") or "", f"{where}.filename")
    cache = cache_of(part)
    if file.get("file_id") is not None:
        id_ = string(file["file_id"], f"{where}.file_id", filled=True)
        return Document(file_id=id_, name=name, cache=cache, at=path)
    where = f"{where}.file_data"
    data = string(file.get("file_data"), where, filled=True)
    inline = _data_url(data, where)
    if inline is None:
        if not data.startswith(_PDF):
            raise expected(where, _FILE)
        inline = _data_url(f"data:application/pdf;base64,{data}", where)
        assert inline is not None
    return inlined(*inline, name=name, cache=cache, at=path)


def inlined(type_: str, data: str, *, name: str, cache: Cache | None, at: str) -> Document | Image:
    """A file by its media type, whatever the part's type. data: base64."""
    if type_.startswith("image/"):
        return Image(media_type=sniffed(data, type_), data=data, cache=cache, at=at)
    if type_.startswith("text/"):
        text = b64decode(data).decode("utf-8", "replace")
        return Document(media_type=type_, text=text, name=name, cache=cache, at=at)
    return Document(media_type=type_, data=data, name=name, cache=cache, at=at)


def _source(part: dict[str, Any], path: str) -> tuple[str, str, str]:
    """Kind, media type and value of an Anthropic `source`."""
    where = f"{path}.source"
    source = mapping(part.get("source"), where)
    kind = source.get("type")
    member = {"base64": "data", "text": "data", "url": "url", "file": "file_id"}.get(str(kind))
    if member is None:
        raise expected(f"{where}.type", "one of `base64`, `url`, `file`, `text`")
    value = string(source.get(member), f"{where}.{member}", filled=True)
    type_ = string(source.get("media_type") or "", f"{where}.media_type").lower()
    if kind == "base64":
        inline = _data_url(f"data:{type_};base64,{value}", f"{where}.data")
        assert inline is not None
        return str(kind), *inline
    return str(kind), type_, value


def _source_image(part: dict[str, Any], path: str) -> Image:
    kind, type_, value = _source(part, path)
    cache = cache_of(part)
    if kind == "base64":
        return Image(media_type=sniffed(value, type_), data=value, cache=cache, at=path)
    if kind == "url":
        where = f"{path}.source.url"
        return image_at(value, where, detail="", cache=cache, at=path)
    if kind == "file":
        return Image(file_id=value, cache=cache, at=path)
    raise expected(f"{path}.source.type", "one of `base64`, `url`, `file`")


def _source_document(part: dict[str, Any], path: str) -> Document | Image:
    kind, type_, value = _source(part, path)
    name = string(part.get("title") or "", f"{path}.title")
    cache = cache_of(part)
    if kind == "base64":
        return inlined(type_, value, name=name, cache=cache, at=path)
    if kind == "url":
        return Document(url=value, name=name, cache=cache, at=path)
    if kind == "file":
        return Document(file_id=value, name=name, cache=cache, at=path)
    return Document(media_type="text/plain", text=value, name=name, cache=cache, at=path)


# Thinking ----------------------------------------------------------------------------------------


def thinking_block(block: dict[str, Any], path: str) -> Thinking:
    """Anthropic's thinking block. Only packed signatures are accepted."""
    if block.get("type") == "redacted_thinking":
        return Thinking(signature=unpack(string(block.get("data") or "", f"{path}.data")))
    return Thinking(
        text=string(block.get("thinking") or "", f"{path}.thinking"),
        signature=unpack(string(block.get("signature") or "", f"{path}.signature")),
    )


def read_thinking(message: dict[str, Any], path: str) -> list[Block]:
    """The thinking of an assistant's message, read from one member only.

    Clients keep the same thinking in several members; those with signatures come first.
    """
    blocks: list[Block] = []
    for at, entry in enumerate(
        array(message.get("thinking_blocks") or [], f"{path}.thinking_blocks")
    ):
        here = f"{path}.thinking_blocks[{at}]"
        blocks.append(thinking_block(mapping(entry, here), here))
    if blocks:
        return blocks
    where = f"{path}.reasoning_details"
    for at, entry in enumerate(array(message.get("reasoning_details") or [], where)):
        detail = mapping(entry, f"{where}[{at}]")
        packed = detail.get("signature") or detail.get("data") or ""
        text = detail.get("text") or detail.get("summary") or ""
        blocks.append(
            Thinking(
                text=string(text, f"{where}[{at}].text"),
                signature=unpack(string(packed, f"{where}[{at}].signature")),
            )
        )
    if blocks:
        return blocks
    for member in ("reasoning_content", "reasoning"):
        text = message.get(member)
        if isinstance(text, str) and text:
            return [Thinking(text=text)]
    return []
