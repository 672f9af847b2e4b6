"""Decode content parts of Responses items: messages, and tool results."""

from base64 import b64decode
from typing import Any

from edge.dialects.conversation import (
    Block,
    Cache,
    Citation,
    Document,
    Image,
    Origin,
    Refusal,
    Signature,
    Text,
)
from edge.dialects.data_urls import read_data_url, sniffed
from edge.dialects.signatures import unpack
from edge.dialects.validation import array, mapping, string
from middlewares.problem import expected

_PDF = "JVBERi0"  # the beginning of a PDF in base64
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_INPUT = "one of `input_text`, `input_image`, `input_file`"
_OUTPUT = "one of `output_text`, `refusal`"


def read_content(content: Any, path: str, *, assistant: bool = False) -> list[Block]:
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
            blocks.append(_part(mapping(part, here), here, assistant=assistant))
    return blocks


def read_output(output: Any, path: str) -> tuple[Text | Image | Document, ...]:
    """A tool's result: a string, or parts. Raises Problem with the path."""
    if output is None:
        return ()
    blocks: list[Text | Image | Document] = []
    for at, block in enumerate(read_content(output, path)):
        if not isinstance(block, Text | Image | Document):
            raise expected(f"{path}[{at}].type", _INPUT, code="invalid_value")
        blocks.append(block)
    return tuple(blocks)


def _part(part: dict[str, Any], path: str, *, assistant: bool) -> Block:
    kind = part.get("type")
    if kind in _TEXTS:
        return Text(
            text=string(part.get("text"), f"{path}.text"),
            cache=_cache_of(part),
            citations=_citations(part.get("annotations")),
        )
    if kind == "refusal":
        return Refusal(text=string(part.get("refusal"), f"{path}.refusal"))
    if kind == "input_image":
        return _image(part, path)
    if kind == "input_file":
        return _file(part, path)
    raise expected(f"{path}.type", _OUTPUT if assistant else _INPUT, code="invalid_value")


def _cache_of(part: dict[str, Any]) -> Cache | None:
    return Cache() if isinstance(part.get("prompt_cache_breakpoint"), dict) else None


def _citations(annotations: Any) -> tuple[Citation, ...]:
    if not isinstance(annotations, list):
        return ()
    return tuple(
        Citation(str(entry["url"]), str(entry.get("title") or ""))
        for entry in annotations
        if isinstance(entry, dict) and entry.get("url")
    )


def _data_url(url: str, where: str) -> tuple[str, str] | None:
    try:
        return read_data_url(url)
    except ValueError as error:
        raise expected(where, f"a readable data URL ({error})") from None


def _image(part: dict[str, Any], path: str) -> Image:
    detail = part.get("detail")
    detail = detail if isinstance(detail, str) else ""
    cache = _cache_of(part)
    if part.get("file_id") is not None:
        id_ = string(part["file_id"], f"{path}.file_id", filled=True)
        return Image(file_id=id_, detail=detail, cache=cache, at=path)
    url, where = part.get("image_url"), f"{path}.image_url"
    if isinstance(url, dict):  # Chat's form
        url, where = url.get("url"), f"{where}.url"
    url = string(url, where, filled=True)
    inline = _data_url(url, where)
    if inline is not None:
        type_, data = inline
        return Image(
            media_type=sniffed(data, type_), data=data, detail=detail, cache=cache, at=path
        )
    if not url.lower().startswith(("http://", "https://")):
        raise expected(where, "an http(s) URL or a data URL")
    return Image(url=url, detail=detail, cache=cache, at=path)


def _file(part: dict[str, Any], path: str) -> Document | Image:
    name = string(part.get("filename") or "", f"{path}.filename")
    cache = _cache_of(part)
    if part.get("file_id") is not None:
        id_ = string(part["file_id"], f"{path}.file_id", filled=True)
        return Document(file_id=id_, name=name, cache=cache, at=path)
    if part.get("file_url") is not None:
        where = f"{path}.file_url"
        url = string(part["file_url"], where, filled=True)
        if not url.lower().startswith(("http://", "https://")):
            raise expected(where, "an http(s) URL")
        return Document(url=url, name=name, cache=cache, at=path)
    where = f"{path}.file_data"
    data = string(part.get("file_data"), where, filled=True)
    inline = _data_url(data, where)
    if inline is None and data.startswith(_PDF):
        inline = _data_url(f"data:application/pdf;base64,{data}", where)
    if inline is None:
        raise expected(where, "a data URL, as in `data:application/pdf;base64,...`")
    type_, data = inline
    if type_.startswith("image/"):
        return Image(media_type=sniffed(data, type_), data=data, cache=cache, at=path)
    if type_.startswith("text/"):
        text = b64decode(data).decode("utf-8", "replace")
        return Document(media_type=type_, text=text, name=name, cache=cache, at=path)
    return Document(media_type=type_, data=data, name=name, cache=cache, at=path)


def parts_text(parts: Any, path: str) -> str:
    """The text of a summary, or of a reasoning item's content; parts become paragraphs."""
    if parts is None:
        return ""
    texts = []
    for at, part in enumerate(array(parts, path)):
        here = f"{path}[{at}]"
        texts.append(string(mapping(part, here).get("text"), f"{here}.text"))
    return "\n\n".join(filter(None, texts))


def reasoning_signature(encrypted: str, id_: str, text: str) -> Signature | None:
    """The signature in the encrypted content of a reasoning item, as its maker or as we packed it.

    text: of the reasoning, in clear.
    """
    if not encrypted:
        return None
    return unpack(encrypted) or Signature(
        origin=Origin("responses"), data=encrypted, id=id_, redacted=not text
    )
