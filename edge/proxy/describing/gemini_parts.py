"""Gemini's media parts, which bridges leave in chats, as parts of the chat dialect."""

from base64 import b64encode

import msgspec

from edge.media.part import Inline, Link, MediaPart

_FORMS = ("inlineData", "inline_data", "fileData", "file_data")
_encode = msgspec.json.Encoder().encode


def standard_part(part: MediaPart) -> msgspec.Raw | None:
    """The same media as a part of a chat; None for a part that needs no change."""
    if part.form not in _FORMS:
        return None
    source = part.source
    if isinstance(source, Link):
        url = source.url
        data = ""
    elif isinstance(source, Inline):
        data = b64encode(source.content()).decode()
        url = f"data:{part.media_type or 'application/octet-stream'};base64,{data}"
    else:
        return None
    match part.kind:
        case "image":
            made = {"type": "image_url", "image_url": {"url": url}}
        case "audio" if data:
            format_ = part.media_type.partition("/")[2]
            format_ = "mp3" if format_ == "mpeg" else format_
            made = {"type": "input_audio", "input_audio": {"data": data, "format": format_}}
        case "audio":
            made = {"type": "audio_url", "audio_url": {"url": url}}
        case "video":
            made = {"type": "video_url", "video_url": {"url": url}}
        case _:
            member = "file_data" if data else "file_id"
            made = {"type": "file", "file": {member: url, "filename": part.name or "file"}}
    return msgspec.Raw(_encode(made))
