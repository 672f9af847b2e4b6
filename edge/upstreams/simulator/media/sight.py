"""What the media parts of a request hold: kind, type, size, dimensions and digest."""

from base64 import b64decode
from binascii import Error
from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from edge.upstreams.simulator.account import Account

from .films import SECONDS, film_words
from .pictures import dimensions
from .sounds import seconds_of, words_of

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
_PICTURES = ("image_url", "input_image", "image")
_SOUNDS = ("input_audio", "audio_url")
_VIDEOS = ("video_url", "video")
_FILES = ("file", "input_file", "document", "container_upload")


class SeenMedia(msgspec.Struct, frozen=True):
    """One media part. data: its bytes; None for a link or a file that was not kept."""

    kind: str
    data: bytes | None
    name: str = ""

    def __str__(self) -> str:
        if self.data is None:
            return f"{self.kind} {self.name}"
        data = self.data
        words = [self.kind, kind_of(data)]
        if size := dimensions(data):
            words.append(f"{size[0]}x{size[1]}")
        elif words[1].startswith("audio/"):
            words.append(f"{seconds_in(data):.2f} s")
        words += [f"{len(data)} bytes", f"sha256 {sha256(data).hexdigest()[:12]}"]
        if (said := words_in(data)) is not None:
            words.append(f"saying {said!r}")
        return " ".join(words)


def describe_media(body: dict[str, Any], account: Account) -> str:
    """All media of a decoded request in one sentence."""
    seen = list(media_of(body, account))
    if not seen:
        return "I see no media."
    return f"I see {len(seen)} media: {'; '.join(map(str, seen))}."


def check_files(body: dict[str, Any], account: Account) -> None:
    """Raises PromptRejected for the id of a file that the account does not have."""
    for part, path in _parts(body, ""):
        for holder in (part, part.get("source"), part.get("file")):
            if isinstance(holder, dict) and isinstance(holder.get("file_id"), str):
                account.file(holder["file_id"], path)


def media_of(body: dict[str, Any], account: Account) -> Iterator[SeenMedia]:
    """The media parts of a request of any dialect, in their order."""
    for part, _ in _parts(body, ""):
        yield from _seen(part, account)


def kind_of(data: bytes) -> str:
    """The content type of `data` by its first bytes."""
    if data[:4] == b"RIFF":
        return {b"WAVE": "audio/wav", b"WEBP": "image/webp"}.get(data[8:12], "video/avi")
    if data[4:8] == b"ftyp":
        return "audio/mp4" if data[8:11] == b"M4A" else "video/mp4"
    if data[:2] in (b"\xff\xf1", b"\xff\xf9"):
        return "audio/aac"
    if data[:1] == b"\xff" and data[1:2] and data[1] & 0xE0 == 0xE0 and data[:3] != b"\xff\xd8\xff":
        return "audio/mpeg"
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    try:
        data.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"


def words_in(data: bytes) -> str | None:
    """The words in a sound or film of the simulator; None for any other."""
    return film_words(data) if data[4:8] == b"ftyp" else words_of(data)


def seconds_in(data: bytes) -> float:
    """The length of a sound or film."""
    return SECONDS if data[4:8] == b"ftyp" else seconds_of(data)


def bytes_of_url(url: str) -> bytes | None:
    """The bytes of a data URL; those of the link itself for https; else None."""
    if url.startswith(("https://", "http://")):
        return url.encode()
    if not url.startswith("data:"):
        return None
    head, _, rest = url.partition(",")
    return _decoded(rest) if head.endswith(";base64") else unquote_to_bytes(rest)


def _parts(value: Any, path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Media parts at any depth, with their paths. Nothing inside of a part is looked at."""
    if isinstance(value, dict):
        if _is_media(value):
            yield value, path
            return
        for name, each in value.items():
            if isinstance(each, dict | list):
                yield from _parts(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from _parts(each, f"{path}[{at}]")


def _is_media(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    if kind in (*_PICTURES, *_SOUNDS, *_VIDEOS, *_FILES):
        # A schema may have a property called "type", and a document may be plain text.
        return any(name in part for name in (*_MEMBERS, "source"))
    return "inlineData" in part or "fileData" in part


_MEMBERS = (
    *("image_url", "input_audio", "audio_url", "video_url", "video", "file", "file_id"),
    *("file_data", "file_url"),
)


def _seen(part: dict[str, Any], account: Account) -> Iterator[SeenMedia]:
    kind = str(part.get("type") or "file")
    if kind in _PICTURES:
        kind = "image"
    elif kind in _SOUNDS:
        kind = "audio"
    elif kind in _VIDEOS:
        kind = "video"
    else:
        kind = "document"
    if isinstance(part.get("video"), list):
        for frame in part["video"]:
            yield _of_value(kind, frame, account)
        return
    for name in ("source", "file", "inlineData", "fileData", "input_audio", *_MEMBERS):
        value = part.get(name)
        if name in ("file_id", "file_data", "file_url") and value is not None:
            value = {name: value}
        if value is not None:
            yield _of_value(kind, value, account)
            return


def _of_value(kind: str, value: Any, account: Account) -> SeenMedia:
    if isinstance(value, dict):
        name = str(value.get("filename") or value.get("title") or "")
        if isinstance(file_id := value.get("file_id"), str):
            kept = account.file(file_id)
            return SeenMedia(kind, kept.data, name or kept.filename)
        if value.get("type") == "text" and isinstance(value.get("data"), str):
            return SeenMedia(kind, value["data"].encode(), name)  # a plain text document
        for member in ("url", "file_url", "fileUri", "file_data", "data", "text"):
            if isinstance(value.get(member), str):
                return _of_text(kind, value[member], name, member)
        return SeenMedia(kind, None, name or "of an unknown form")
    return _of_text(kind, str(value), "", "url")


def _of_text(kind: str, text: str, name: str, member: str) -> SeenMedia:
    if text.startswith(("http://", "https://")):
        return SeenMedia(kind, None, f"at {text}")
    if text.startswith("data:"):
        return SeenMedia(kind, bytes_of_url(text), name)
    return SeenMedia(kind, text.encode() if member == "text" else _decoded(text), name)


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Error, ValueError):
        return b""
