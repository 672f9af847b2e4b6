"""Find the media parts of a request body, and replace them.

`find_media` reads the turns of a body in any dialect that callers speak. Messages without a mark of
media are not decoded, and no data is. `replace_media` makes new members of a body in which only the
objects around a replaced part are encoded again; all else stays the bytes that it was.

    Chat       image_url, input_audio, file; video_url, audio_url, video (a list of frames)
    Responses  input_image, input_file, input_audio; in results of tools too; computer_screenshot
    Messages   image, document; in `tool_result` and in documents of parts too; container_upload
    Gemini     inlineData, fileData, which bridges leave in chats
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from edge.requests.regex_windows import found, matches
from middlewares.problem import Problem

from .part import (
    FileReference,
    Frames,
    Inline,
    Link,
    MediaKind,
    MediaPart,
    Source,
    kind_of_type,
    path_of,
)

Fields = Mapping[str, msgspec.Raw]
Members = dict[str, msgspec.Raw]
Location = tuple[str | int, ...]

_TURNS = ("messages", "input", "system")
"""Members of a body that hold turns or parts."""
_MARK = re.compile(
    rb'"(?:image_url|input_audio|input_image|file|file_id|file_url|file_data|source|image|audio|'
    rb'audio_url|video|video_url|input_video|inlineData|inline_data|fileData)"\s*:'
)
"""The members that hold media. Intake has encoded the names without escapes."""
_HEAD = 256
"""Bytes of a string in which a scheme, or the type of a data URL, ends."""
_LONGEST_LINK = 8192
_DATA_URL = re.compile(rb'"\s*data:([^,"\\]*(?:\\/[^,"\\]*)*),', re.IGNORECASE)
_BY_FORM: dict[str, MediaKind] = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "computer_screenshot": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "audio": "audio",
    "video_url": "video",
    "input_video": "video",
    "video": "video",
    "file": "document",
    "input_file": "document",
    "document": "document",
    "container_upload": "document",
}
_ENTERED = ("content", "output")
_VENDORS_RESULT = "_tool_result"
_CACHING = ("cache_control", "prompt_cache_breakpoint")
_GEMINI = ("inlineData", "inline_data", "fileData", "file_data")
_WITHOUT_MEDIA = ("text", "content")
"""Types of a document's source that hold text or parts."""
_ANSWERED = ("reasoning", "compaction")
_STRING, _OBJECT, _LIST = b'"{['

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(Members).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Turn(msgspec.Struct):
    role: str | None = None
    type: str | None = None


_decode_turns = msgspec.json.Decoder(list[_Turn]).decode


def has_media(fields: Fields) -> bool:
    """Whether a body may have media parts. Cheap: nothing is decoded."""
    for name in _TURNS:
        raw = fields.get(name)
        if raw is not None and memoryview(raw)[0] == _LIST and found(_MARK, raw):
            return True
    return False


def may_have_media(turns: bytes) -> bool:
    """The same for some of the turns of a body."""
    return found(_MARK, turns)


def count_media(fields: Fields) -> int:
    """The most media parts that a body may have."""
    lists = (fields[name] for name in _TURNS if name in fields)
    return sum(1 for raw in lists for _ in matches(_MARK, raw))


def find_media(fields: Fields, *, compacting: bool = False) -> list[MediaPart]:
    """The media parts of a body, in its order. Raises Problem for a name that is not UTF-8.

    compacting: whether nothing is asked about the last turn, so that it is old once it is answered.
    """
    parts: list[MediaPart] = []
    for name in _TURNS:
        raw = fields.get(name)
        if raw is None or memoryview(raw)[0] != _LIST or not found(_MARK, raw):
            continue
        finder = _Finder("input_text" if name == "input" else "text")
        try:
            finder.enter(raw, (name,))
            parts += _dated(finder.parts, raw, name, fields, compacting)
        except RecursionError:
            raise Problem("invalid_request", message="The body is nested too deeply.") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = "The body is not valid JSON: it has text that is not UTF-8."
            raise Problem("invalid_request", message=message, param=name) from None
    return parts


def _dated(
    parts: list[MediaPart], raw: msgspec.Raw, name: str, fields: Fields, compacting: bool
) -> list[MediaPart]:
    """The parts, each marked whether it is recent."""
    if not parts:
        return parts
    if name == "system":
        begun = _first_recent(fields.get("messages"), compacting) == 0
        return parts if begun else [msgspec.structs.replace(part, recent=False) for part in parts]
    first = _first_recent(raw, compacting)
    return [
        part if int(part.location[1]) >= first else msgspec.structs.replace(part, recent=False)
        for part in parts
    ]


def _first_recent(raw: msgspec.Raw | None, compacting: bool) -> int:
    """Index of the first turn after the model's last, or of the user's last if that is earlier and
    not `compacting`."""
    if raw is None or memoryview(raw)[0] != _LIST:
        return 0
    try:
        turns = _decode_turns(raw)
    except _UNREADABLE:
        return 0
    last_user = after_model = 0
    for at, turn in enumerate(turns):
        kind = turn.type or ""
        if turn.role == "assistant" or kind.endswith("_call") or kind in _ANSWERED:
            after_model = at + 1
        else:
            last_user = at
    return after_model if compacting else min(last_user, after_model)


class _Finder:
    """Collects the parts below one member."""

    __slots__ = ("_text_type", "parts")

    def __init__(self, text_type: str) -> None:
        self._text_type = text_type
        self.parts: list[MediaPart] = []

    def enter(self, raw: msgspec.Raw, at: Location) -> None:
        """Search a list of turns or parts."""
        for n, one in enumerate(_decode_list(raw)):
            if memoryview(one)[0] == _OBJECT and found(_MARK, one):
                self._object(_decode_object(one), (*at, n))

    def _object(self, members: Members, at: Location) -> None:
        form = _text(members.get("type"))
        kind = _BY_FORM.get(form)
        if kind is not None:
            self._part(members, form, kind, at)
            return
        for name in _GEMINI:
            if name in members and memoryview(members[name])[0] == _OBJECT:
                self._gemini(_decode_object(members[name]), name, at)
                return
        if form.endswith(_VENDORS_RESULT) and form != "tool_result":
            return
        for name in _ENTERED:
            inner = members.get(name)
            if inner is None:
                continue
            head = memoryview(inner)[0]
            if head == _LIST:
                self.enter(inner, (*at, name))
            elif head == _OBJECT and found(_MARK, inner):
                self._object(_decode_object(inner), (*at, name))

    def _part(self, members: Members, form: str, kind: MediaKind, at: Location) -> None:
        holder, below, detail = members, at, _text(members.get("detail"))
        for name in ("source", form, "file", "image_url"):
            inner = members.get(name)
            if inner is not None and memoryview(inner)[0] == _OBJECT:
                holder, below = _decode_object(inner), (*at, name)
                detail = _text(holder.get("detail")) or detail
                break
        if below[-1] == "source" and (stated := _text(holder.get("type"))) in _WITHOUT_MEDIA:
            if stated == "content" and memoryview(holder.get("content", b"0"))[0] == _LIST:
                self.enter(holder["content"], (*below, "content"))
            return
        source, member, media_type = _source_of(holder, form)
        name = _text(holder.get("filename")) or _text(members.get("filename"))
        self.parts.append(
            MediaPart(
                location=at,
                kind=kind_of_type(media_type) or kind,
                form=form,
                source=source,
                param=path_of((*below, member) if member else below),
                media_type=media_type,
                name=name or _text(members.get("title")),
                context=_text(members.get("context")),
                detail=detail,
                caching=_caching(members),
                text_type=self._text_type,
            )
        )
        if form == "computer_screenshot":
            self.parts[-1] = msgspec.structs.replace(self.parts[-1], text_type="input_text")

    def _gemini(self, holder: Members, name: str, at: Location) -> None:
        media_type = _essence(_text(holder.get("mimeType")) or _text(holder.get("mime_type")))
        source: Source | None = None
        member = ""
        for member in ("data", "fileUri", "file_uri"):
            if member in holder:
                source = _bytes_or_link(holder[member])[0]
                break
        self.parts.append(
            MediaPart(
                location=at,
                kind=kind_of_type(media_type) or "document",
                form=name,
                source=source,
                param=path_of((*at, name, member)),
                media_type=media_type,
                name=_text(holder.get("displayName")),
                text_type=self._text_type,
            )
        )


_BYTES = (
    *("data", "file_data", "url", "image_url", "file_url", "video_url", "audio_url"),
    *("input_audio", "image", "video", "audio", "input_video"),
)
"""Members that hold data or a link, in the order in which they count."""


def _source_of(holder: Members, form: str) -> tuple[Source | None, str, str]:
    """The source of a part, the member that holds it, and the media type that it states."""
    media_type = _essence(_text(holder.get("media_type")))
    if form in ("input_audio", "audio") and (format_ := _text(holder.get("format"))):
        media_type = media_type or _essence(f"audio/{format_}")
    id_ = _text(holder.get("file_id"))
    if id_:
        linked = id_.lower().startswith(("https://", "http://"))
        return (Link(id_) if linked else FileReference(id_)), "file_id", media_type
    for name in _BYTES:
        raw = holder.get(name)
        if raw is None:
            continue
        if memoryview(raw)[0] == _LIST and name == "video":
            frames = tuple(_frames(raw))
            return (Frames(frames) if frames else None), name, media_type or "video/x-frames"
        source, stated = _bytes_or_link(raw)
        if source is not None:
            return source, name, stated or media_type
    return None, "", media_type


def _frames(raw: msgspec.Raw) -> Iterator[Inline | Link]:
    for one in _decode_list(raw):
        if memoryview(one)[0] == _OBJECT:
            one = _decode_object(one).get("url", one)
        source, _ = _bytes_or_link(one)
        if isinstance(source, Inline | Link):
            yield source


def _bytes_or_link(raw: msgspec.Raw) -> tuple[Inline | Link | None, str]:
    """What a JSON string holds: a data URL, a link, or bare base64; and its media type."""
    text = memoryview(raw)
    if text[0] != _STRING or len(text) < 3:
        return None, ""
    match = _DATA_URL.match(text, 0, _HEAD)
    if match is not None:
        type_, *parameters = match[1].replace(b"\\/", b"/").decode("latin-1").split(";")
        quoted = not any(each.strip().lower() == "base64" for each in parameters)
        return Inline(raw, match.end(), quoted), _essence(type_) or "text/plain"
    head = bytes(text[1:_HEAD]).lstrip().lower()
    if head.startswith((b"http:", b"https:")):
        return (Link(_decode_text(raw)), "") if len(text) <= _LONGEST_LINK else (None, "")
    if b":" in head:
        return None, ""
    return Inline(raw, 1), ""


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


def _caching(members: Members) -> dict[str, msgspec.Raw]:
    return {name: members[name] for name in _CACHING if name in members}


def _text(raw: msgspec.Raw | None) -> str:
    """The text of a JSON string, "" for any other value."""
    if raw is None or memoryview(raw)[0] != _STRING:
        return ""
    return _decode_text(raw)


def replace_media(
    fields: Fields, replacements: Mapping[MediaPart, msgspec.Raw]
) -> dict[str, msgspec.Raw]:
    """The members of a body with parts replaced. `fields` is not changed.

    A value may be several parts, separated by commas.
    """
    tree: dict[str | int, Any] = {}
    for part, raw in replacements.items():
        node = tree
        for step in part.location[:-1]:
            node = node.setdefault(step, {})
        node[part.location[-1]] = raw
    changed = dict(fields)
    for name, below in tree.items():
        changed[str(name)] = _rebuilt(fields[str(name)], below)
    return changed


def _rebuilt(raw: msgspec.Raw, below: Any) -> msgspec.Raw:
    if not isinstance(below, dict):
        replacement: msgspec.Raw = below
        return replacement
    if memoryview(raw)[0] == _LIST:
        items = _decode_list(raw)
        for at, inner in below.items():
            items[at] = _rebuilt(items[at], inner)
        return msgspec.Raw(_encode(items))
    members = _decode_object(raw)
    for name, inner in below.items():
        members[name] = _rebuilt(members[name], inner)
    return msgspec.Raw(_encode(members))
