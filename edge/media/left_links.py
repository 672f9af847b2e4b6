"""The refusal of links that are left in a body whose target must not fetch any.

`find_media` knows the parts that clients write, and the links in them are fetched by us. A server
that reads parts leniently may find a link elsewhere: in a second member, in a part without a type,
behind white space or escapes. So every member that holds media is checked, whatever part it is of.
"""

import re
from collections.abc import Callable, Mapping

import msgspec

from edge.requests.regex_windows import found
from middlewares.problem import Problem, expected

from .part import path_of

_TURNS = ("messages", "input", "system")
_PROSE = frozenset(
    (
        *("model", "prompt", "negative_prompt", "input", "instructions", "text", "style", "suffix"),
        *("keywords", "known_speaker_names", "user", "metadata", "safety_identifier"),
    )
)
"""Members of other bodies than conversations in which a link is a word like any other."""
_HOLDERS = frozenset(
    (
        *("image_url", "file_url", "video_url", "audio_url", "file", "file_id", "file_data"),
        *("input_image", "input_audio", "input_video", "input_file", "document"),
        *("image", "audio", "video", "inlineData", "inline_data", "fileData", "source"),
    )
)
"""Members that hold media, or an object with them."""
_MARK = re.compile(rb'"(?:' + "|".join(sorted(_HOLDERS)).encode() + rb')"\s*:')
_WORDS = frozenset(
    (
        *("type", "text", "filename", "name", "title", "context", "detail", "format"),
        *("media_type", "mime_type", "mimeType", "displayName"),
    )
)
"""Members of such an object that no server fetches."""
_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
"""Types of parts with arguments of a tool, in which a link is a word like any other."""
_TEXTS = ("text", "content")
_DATA = re.compile(rb'"(?:data:|[A-Za-z0-9+/=_-]{64})', re.IGNORECASE).match
_BREAKS = str.maketrans("", "", "\t\r\n")
_BEFORE = "".join(map(chr, range(33))) + "\x85\xa0\u2028\u2029\ufeff"
_LINK = re.compile(r"(?:https?|ftps?|file):|[a-z][a-z0-9+.\-]*:[/\\]{2}", re.IGNORECASE).match
_STRING, _OBJECT, _LIST = b'"{['

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode

Location = tuple[str | int, ...]


def refuse_left_links(fields: Mapping[str, msgspec.Raw]) -> None:
    """Raise Problem with `param` for the first link in a conversation, in a member that holds
    media."""
    for name in _TURNS:
        raw = fields.get(name)
        if raw is not None:
            _check(_enter, raw, name)


def refuse_links_beside(fields: Mapping[str, msgspec.Raw]) -> None:
    """The same for a body that is no conversation, such as of images or speech: no member but
    those of prose has a link."""
    for name, raw in fields.items():
        _check(_enter if name in _PROSE else _hold, raw, name)


def _check(step: Callable[[msgspec.Raw, Location], None], raw: msgspec.Raw, name: str) -> None:
    try:
        step(raw, (name,))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = "The body is not valid JSON, or nested too deeply."
        raise Problem("invalid_request", message=message, param=name) from None


def _enter(raw: msgspec.Raw, at: Location) -> None:
    head = memoryview(raw)[0]
    if head not in (_LIST, _OBJECT) or not found(_MARK, raw):
        return
    if head == _LIST:
        for n, one in enumerate(_decode_list(raw)):
            _enter(one, (*at, n))
        return
    members = _decode_object(raw)
    call = _is(members, _CALLS)
    for name, inner in members.items():
        if name == "input" and call:
            continue
        if name not in _HOLDERS:
            _enter(inner, (*at, name))
        elif name != "source" or memoryview(inner)[0] != _STRING:  # a search result names its page
            _hold(inner, (*at, name))


def _hold(raw: msgspec.Raw, at: Location) -> None:
    head = memoryview(raw)[0]
    if head == _STRING:
        if _is_link(raw):
            raise expected(
                path_of(at), "data, or one link of at most 8192 characters in a part of its type"
            )
    elif head == _LIST:
        for n, one in enumerate(_decode_list(raw)):
            _hold(one, (*at, n))
    elif head == _OBJECT:
        members = _decode_object(raw)
        if _is(members, _TEXTS):
            return _enter(raw, at)
        for name, inner in members.items():
            if name not in _WORDS:
                _hold(inner, (*at, name))


def _is(members: Mapping[str, msgspec.Raw], types: tuple[str, ...]) -> bool:
    stated = members.get("type")
    return (
        stated is not None
        and memoryview(stated)[0] == _STRING
        and len(memoryview(stated)) < 99
        and _decode_text(stated) in types
    )


def _is_link(raw: msgspec.Raw) -> bool:
    """Whether a JSON string is a link for a lenient reader. Data is not decoded."""
    if _DATA(memoryview(raw)):
        return False
    text = _decode_text(raw).lstrip(_BEFORE)
    return _LINK(text[:256].translate(_BREAKS)) is not None
