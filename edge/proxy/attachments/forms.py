"""Parts of a conversation that hold a file, in each of the forms that callers write.

A part is written in the form of the one it replaces, since the whole body is translated afterwards
if the target speaks another dialect.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from edge.media.kinds import OTHER
from edge.media.part import MediaKind, MediaPart
from middlewares.exchange import Dialect

from .encoding import placeholder

Form = Literal["chat", "responses", "messages"]
Part = dict[str, Any]

_MESSAGES = frozenset(("image", "document"))
_RESPONSES = frozenset(("input_image", "input_file", "computer_screenshot"))
_CHATS = "messages"
"""The member that holds the turns of a chat, in which upstreams know no parts of Responses."""
_KEPT: Mapping[Form, tuple[str, ...]] = {
    "chat": (),
    "responses": (),
    "messages": ("title", "context", "citations", "transformations"),
}
"""Members of the replaced part that stay, besides marks of a prompt cache and `detail`."""
_FORMATS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_LINKED: Mapping[Dialect, frozenset[MediaKind]] = {
    "openai": frozenset(("image", "video", "audio")),
    "responses": frozenset(("image", "document")),
    "anthropic": frozenset(("image", "document")),
}
"""Kinds of media that a dialect takes by link."""
_KNOWN: Mapping[Dialect, frozenset[MediaKind]] = {
    "openai": frozenset(("document",)),
    "responses": frozenset(("image", "document")),
    "anthropic": frozenset(("image", "document")),
}
"""Kinds of media that a dialect takes as a file of the vendor."""


def form_of(part: MediaPart) -> Form:
    """The form that a part is written in."""
    if part.form in _MESSAGES:
        return "messages"
    if part.form in _RESPONSES and part.location[0] == _CHATS:
        return "chat"
    if part.form in _RESPONSES or part.text_type == "input_text":
        return "responses"
    return "chat"


def takes_link(dialect: Dialect, part: MediaPart) -> bool:
    """Whether a link in the part may stay for a target of `dialect`."""
    if part.param.endswith(("file_id", "file_data", ".data")) or part.form == "input_audio":
        return False
    return part.kind in _LINKED[dialect]


def takes_file(dialect: Dialect, part: MediaPart) -> bool:
    """Whether a target of `dialect` takes the part by the id of a file of its own."""
    return part.kind in _KNOWN[dialect] and part.form != "computer_screenshot"


def is_text(media_type: str) -> bool:
    """Whether a file is text as it is."""
    return media_type.startswith("text/") or media_type == "application/json"


def with_data(part: MediaPart, original: Mapping[str, msgspec.Raw]) -> tuple[Part, str]:
    """A part with the data of its file inline, and the placeholder that stands for its base64.

    part: with its true kind and media type. original: the members of the part it replaces.
    """
    mark = placeholder()
    media_type = part.media_type or OTHER
    url = f"data:{media_type};base64,{mark}"
    form = form_of(part)
    match form, part.kind:
        case _, "audio":
            held = {"data": mark, "format": _format_of(media_type)}
            written: Part = {"type": "input_audio", "input_audio": held}
        case _, "video":
            written = {"type": "video_url", "video_url": {"url": url}}
        case "messages", kind:
            source = {"type": "base64", "media_type": media_type, "data": mark}
            written = {"type": kind, "source": source}
        case "responses", "image":
            shot = part.form == "computer_screenshot"
            written = {"type": part.form if shot else "input_image", "image_url": url}
            written |= {} if shot else _detail(part)
        case "responses", _:
            name = part.name or _name_of(media_type)
            written = {"type": "input_file", "filename": name, "file_data": url}
        case _, "image":
            written = {"type": "image_url", "image_url": {"url": url, **_detail(part)}}
        case _:
            name = part.name or _name_of(media_type)
            written = {"type": "file", "file": {"filename": name, "file_data": url}}
    return {**written, **_kept(part, original)}, mark


def with_text(part: MediaPart, original: Mapping[str, msgspec.Raw], text: str) -> msgspec.Raw:
    """A part with a text file: a document of text where the form has one, else a text part."""
    if form_of(part) != "messages":
        head = f"{part.name}\n" if part.name else ""
        return part.as_text(head + text)
    source = {"type": "text", "media_type": "text/plain", "data": text}
    return msgspec.Raw(
        msgspec.json.encode({"type": "document", "source": source, **_kept(part, original)})
    )


def with_file(part: MediaPart, original: Mapping[str, msgspec.Raw], file_id: str) -> msgspec.Raw:
    """A part that names a file of the vendor."""
    form = form_of(part)
    if form == "responses":
        image = part.kind == "image"
        written: Part = {"type": "input_image" if image else "input_file", "file_id": file_id}
        written |= _detail(part) if image else {}
    elif form == "chat" and part.kind == "document":
        written = {"type": "file", "file": {"file_id": file_id}}
    else:  # Chat has no image by id; where one is sent, the body is translated
        written = {"type": part.kind, "source": {"type": "file", "file_id": file_id}}
    return msgspec.Raw(msgspec.json.encode({**written, **_kept(part, original)}))


def _kept(part: MediaPart, original: Mapping[str, msgspec.Raw]) -> Mapping[str, Any]:
    names = _KEPT[form_of(part)] if part.kind in ("image", "document") else ()
    if part.kind == "image":
        names = tuple(name for name in names if name == "transformations")
    return {**{name: original[name] for name in names if name in original}, **part.caching}


def _detail(part: MediaPart) -> Mapping[str, Any]:
    return {"detail": part.detail} if part.detail else {}


def _format_of(media_type: str) -> str:
    return _FORMATS.get(media_type, media_type.partition("/")[2].removeprefix("x-"))


def _name_of(media_type: str) -> str:
    return "document.pdf" if media_type == "application/pdf" else "file"
