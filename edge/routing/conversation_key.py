"""Read the stable beginning of a conversation from a request of any dialect, and its open turn.

Clients change earlier parts of a conversation from turn to turn: cache marks move to the end, a
text becomes a list of one text, a line of the system prompt is rewritten, reminders contain the
date. The user's texts before the first answer stay the same, so they identify the conversation,
together with the ids that some clients send, since many conversations begin with the same words.

As little as possible is decoded, because a body may have megabytes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec
from msgspec import Raw

from edge.dialects.passthrough import UNREADABLE, Fields
from edge.dialects.signatures import MARK, unpack
from edge.requests.known_turns import TurnMarks, has_mark

_NULL = Raw(b"null")
_ENCRYPTED = b'"encrypted_content"'
_THOUGHT = b'"thought_signature"'
_SIGNATURES = (b'"signature"', b'"data"', _ENCRYPTED, _THOUGHT)
"""Every signature has one of these members; within a text the quotes would be escaped."""
_COMPACTION = {b"compaction", b"\\u00"}
"""The type of a compaction has one of these, as a name or with an escape."""
_REMINDER = "<system-reminder>"
"""Start of the texts that coding agents add to the user's, which change each time."""
_HINTS = ("prompt_cache_key", "user", "safety_identifier")
_MAX_CHARS = 16 << 10
"""Characters of one part that are read."""
_MAX_BYTES = 6 * _MAX_CHARS + 16
"""Bytes that contain so many characters, however they are escaped."""
_MAX_ITEMS = 256
"""Messages, parts of a message, members of a part, and texts that are read: limits the CPU time."""
_MAX_TURN_MESSAGES = 10_000
"""Messages since the last user message that are read."""


class ConversationStart(msgspec.Struct, frozen=True):
    """The conversation as one request shows it.

    beginning: texts that are the same in all its turns. messages: number of messages without
    instructions at the end, which clients replace. bound: whether the request continues a turn of
    the model that has a signature.
    """

    beginning: Sequence[str]
    messages: int
    bound: bool


class _Entry(msgspec.Struct):
    """A message of any dialect, or an item of Responses."""

    role: str | None = None
    type: str | None = None
    content: Raw = _NULL
    encrypted_content: str | None = None
    reasoning_details: Raw = _NULL
    thinking_blocks: Raw = _NULL

    @property
    def is_instruction(self) -> bool:
        """Whether it is an instruction."""
        return self.role in ("system", "developer")

    @property
    def by_model(self) -> bool:
        """Whether the model wrote it."""
        if self.role is None:
            return self.type is not None and not self.type.endswith(("_output", "_response"))
        return self.role == "assistant"


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    signature: str | None = None
    data: Raw = _NULL


class _Metadata(msgspec.Struct):
    user_id: str | None = None


_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_entry = msgspec.json.Decoder(_Entry).decode
_decode_part = msgspec.json.Decoder(_Part).decode
_decode_parts = msgspec.json.Decoder(list[_Part]).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_metadata = msgspec.json.Decoder(_Metadata).decode


def read(fields: Fields, member: str, marks: TurnMarks | None = None) -> ConversationStart | None:
    """The conversation in `member`, a string or a list; None if it cannot be read.

    marks: of the turns of the body, if they are known.
    """
    raw = whole = fields.get(member, _NULL)
    head = bytes(memoryview(raw)[:1])
    try:
        if head == b'"':
            return ConversationStart((*_hints(fields), _beginning(raw)), 1, False)
        if head != b"[":
            return None
        has = partial(has_mark, whole, marks=marks)
        entries = _decode_list(raw)
        said = _said_first(entries)
        if not said:
            return None
        for raw in reversed(entries[-_MAX_ITEMS:]):
            if not _decode_entry(raw).is_instruction:
                break
            del entries[-1]
        bound = _is_bound(entries, has) or (
            has(_ENCRYPTED) and any(map(has, _COMPACTION)) and _is_compacted(entries)
        )
        return ConversationStart((*_hints(fields), *said), len(entries), bound)
    except UNREADABLE:
        return None


def _hints(fields: Fields) -> Iterator[str]:
    """Ids by which some clients identify a conversation or its user."""
    for name in _HINTS:
        raw = fields.get(name, _NULL)
        if bytes(raw).startswith(b'"'):
            yield f"{name}={_beginning(raw)}"
    raw = fields.get("metadata", _NULL)
    if b'"user_id"' in bytes(raw):
        try:
            yield f"user_id={(_decode_metadata(raw).user_id or '')[:_MAX_CHARS]}"
        except UNREADABLE:  # metadata of another form
            return


def _said_first(entries: Sequence[Raw]) -> list[str]:
    """The user's texts before the first answer; reminders only where there are no others."""
    said: list[str] = []
    reminders: list[str] = []
    for raw in entries[:_MAX_ITEMS]:
        entry = _decode_entry(raw)
        if entry.role == "user":
            for text in _texts(entry.content):
                (reminders if text.startswith(_REMINDER) else said).append(text)
                if len(said) + len(reminders) == _MAX_ITEMS:
                    return said or reminders
        elif not entry.is_instruction and (said or reminders):
            break
    return said or reminders


def _beginning(raw: Raw) -> str:
    """The first characters of a JSON string; of a long one only they are decoded."""
    if len(raw) <= _MAX_BYTES:
        return _decode_text(raw)[:_MAX_CHARS]
    start = bytes(memoryview(raw)[:_MAX_BYTES])
    for end in range(_MAX_BYTES, _MAX_BYTES - 12, -1):  # an escape, or a character, may be cut
        try:
            return _decode_text(start[:end] + b'"')[:_MAX_CHARS]
        except UNREADABLE:
            continue
    return _decode_text(raw)[:_MAX_CHARS]


def _texts(content: Raw) -> Iterator[str]:
    body = bytes(content)
    if body.startswith(b'"'):
        yield _beginning(content)
    elif body.startswith(b"["):
        for raw in _decode_list(content)[:_MAX_ITEMS]:
            if bytes(raw).startswith(b'"'):  # Responses has texts without a type, too
                yield _beginning(raw)
                continue
            part = _decode_part(raw)
            if part.text is not None:
                yield part.text[:_MAX_CHARS]
                continue
            members = _decode_members(raw)
            for name, value in sorted(members.items()) if len(members) <= _MAX_ITEMS else ():
                if name != "cache_control":
                    yield f"{name}={bytes(value)[:_MAX_CHARS].decode(errors='replace')}"


def _is_bound(entries: Sequence[Raw], has: Callable[[bytes], bool]) -> bool:
    """Whether the model's messages since the last user message have a signature."""
    looked = False
    for raw in reversed(entries[-_MAX_TURN_MESSAGES:]):
        entry = _decode_entry(raw)
        if entry.is_instruction:
            continue
        if entry.by_model:
            if _THOUGHT in bytes(raw) or _has_signature(entry):
                return True
            if not looked:  # skip a long turn if the body has no signature at all
                looked = True
                if not any(map(has, _SIGNATURES)):
                    return False
        elif entry.role == "user" and not _is_result(entry):
            return False
    return False


def _is_compacted(entries: Sequence[Raw]) -> bool:
    """Whether the vendor compacted the conversation into an item that only it can read."""
    for raw in entries:
        if _ENCRYPTED in bytes(raw):
            entry = _decode_entry(raw)
            if entry.type is not None and "compaction" in entry.type and entry.encrypted_content:
                return True
    return False


def _is_result(entry: _Entry) -> bool:
    """Whether it returns tool results, which are user messages at Anthropic."""
    if b'tool_result"' not in bytes(entry.content):
        return False
    return any((part.type or "").endswith("tool_result") for part in _parts(entry.content))


def _has_signature(entry: _Entry) -> bool:
    if _is_signature(entry.encrypted_content):
        return True
    for held in (entry.content, entry.reasoning_details, entry.thinking_blocks):
        for part in _parts(held):
            if _is_signature(part.signature):
                return True
            data = part.data  # an object for media
            if bytes(data).startswith(b'"') and _is_signature(_decode_text(data)):
                return True
    return False


def _is_signature(signature: str | None) -> bool:
    """Whether it holds data, and is not our marker of an empty signature."""
    if not signature:
        return False
    if not signature.startswith(MARK):
        return True
    packed = unpack(signature)
    return packed is not None and bool(packed.data)


def _parts(content: Raw) -> list[_Part]:
    return _decode_parts(content) if bytes(content).startswith(b"[") else []
