"""How a conversation begins, and whether a turn is open in it, read from a request of any dialect.

What clients send of a conversation changes from turn to turn even where it was said once and for
all: marks of the prompt cache wander to the end, a text becomes a list of one text, an opening line
of the system prompt is made anew, surroundings are told with the date. What the user said before
the first answer stays, so that is what tells conversations apart; and what some clients say of
themselves, as many conversations begin with the same words.

As little is decoded as can be: a body may have megabytes.
"""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw

from edge.dialects.passthrough import UNREADABLE, Fields
from edge.dialects.signatures import MARK, unpack

_NULL = Raw(b"null")
_ENCRYPTED = b'"encrypted_content"'
_THOUGHT = b'"thought_signature"'
_SEALS = (b'"signature"', b'"data"', _ENCRYPTED, _THOUGHT)
"""One of these is in everything that only its maker can read; inside of text the quotes are
escaped."""
_ASIDE = "<system-reminder>"
"""What coding agents tell beside the user's own words, and not the same each time."""
_HINTS = ("prompt_cache_key", "user", "safety_identifier")
_MOST = 16 << 10
"""Characters of one part that are looked at."""
_LONG = 6 * _MOST + 16
"""Bytes in which so many characters stand, however they are escaped."""
_FIRST = 256
"""Messages, parts of one, members of a part, and texts in all, in which a beginning is looked for:
nobody keeps this process busy by how many there are."""
_LONGEST_TURN = 10_000
"""Messages since the user last spoke that are looked at."""


class Thread(msgspec.Struct, frozen=True):
    """What a request tells of its conversation.

    beginning: texts that stay the same in each of its turns, and no other conversation's, if its
    user does not begin two alike. messages: so many it has, but for instructions at its end, which
    clients replace. bound: whether the last one continues a turn of the model's that holds what
    only its maker can read.
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
    def told(self) -> bool:
        """Whether it is an instruction, wherever it stands."""
        return self.role in ("system", "developer")

    @property
    def made(self) -> bool:
        """Whether the model has made it."""
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


def read(fields: Fields, member: str) -> Thread | None:
    """The conversation in `member`, a text or a list; None where there is none to be read."""
    raw = fields.get(member, _NULL)
    body = bytes(raw)
    try:
        if body.startswith(b'"'):
            return Thread((*_hints(fields), _beginning(raw)), 1, False)
        if not body.startswith(b"["):
            return None
        entries = _decode_list(raw)
        said = _said_first(entries)
        if not said:
            return None
        for raw in reversed(entries[-_FIRST:]):
            if not _decode_entry(raw).told:
                break
            del entries[-1]
        bound = _is_bound(entries, body) or (_ENCRYPTED in body and _is_compacted(entries))
        return Thread((*_hints(fields), *said), len(entries), bound)
    except UNREADABLE:
        return None


def _hints(fields: Fields) -> Iterator[str]:
    """By what some clients name a conversation themselves, or its user."""
    for name in _HINTS:
        raw = fields.get(name, _NULL)
        if bytes(raw).startswith(b'"'):
            yield f"{name}={_beginning(raw)}"
    raw = fields.get("metadata", _NULL)
    if b'"user_id"' in bytes(raw):
        try:
            yield f"user_id={(_decode_metadata(raw).user_id or '')[:_MOST]}"
        except UNREADABLE:  # somebody's own idea of metadata
            return


def _said_first(entries: Sequence[Raw]) -> list[str]:
    """What the user said before the first answer; beside it, only where there is nothing else."""
    said: list[str] = []
    beside: list[str] = []
    for raw in entries[:_FIRST]:
        entry = _decode_entry(raw)
        if entry.role == "user":
            for text in _texts(entry.content):
                (beside if text.startswith(_ASIDE) else said).append(text)
                if len(said) + len(beside) == _FIRST:
                    return said or beside
        elif not entry.told and (said or beside):
            break
    return said or beside


def _beginning(raw: Raw) -> str:
    """The first characters of a JSON string. Of a long one, no more is decoded."""
    if len(raw) <= _LONG:
        return _decode_text(raw)[:_MOST]
    start = bytes(memoryview(raw)[:_LONG])
    for end in range(_LONG, _LONG - 12, -1):  # an escape, or a character, may be cut
        try:
            return _decode_text(start[:end] + b'"')[:_MOST]
        except UNREADABLE:
            continue
    return _decode_text(raw)[:_MOST]


def _texts(content: Raw) -> Iterator[str]:
    body = bytes(content)
    if body.startswith(b'"'):
        yield _beginning(content)
    elif body.startswith(b"["):
        for raw in _decode_list(content)[:_FIRST]:
            if bytes(raw).startswith(b'"'):  # Responses has texts without a type, too
                yield _beginning(raw)
                continue
            part = _decode_part(raw)
            if part.text is not None:
                yield part.text[:_MOST]
                continue
            members = _decode_members(raw)
            for name, value in sorted(members.items()) if len(members) <= _FIRST else ():
                if name != "cache_control":
                    yield f"{name}={bytes(value)[:_MOST].decode(errors='replace')}"


def _is_bound(entries: Sequence[Raw], body: bytes) -> bool:
    """Whether what the model has made since the user last spoke is sealed somewhere."""
    looked = False
    for raw in reversed(entries[-_LONGEST_TURN:]):
        entry = _decode_entry(raw)
        if entry.told:
            continue
        if entry.made:
            if _THOUGHT in bytes(raw) or _is_sealed(entry):
                return True
            if not looked:  # the turn may be long: is there anything to look for at all?
                looked = True
                if not any(seal in body for seal in _SEALS):
                    return False
        elif entry.role == "user" and not _is_result(entry):
            return False
    return False


def _is_compacted(entries: Sequence[Raw]) -> bool:
    """Whether the vendor itself has made the conversation shorter: only it can read that."""
    for raw in entries:
        if _ENCRYPTED in bytes(raw):
            entry = _decode_entry(raw)
            if entry.type is not None and "compaction" in entry.type and entry.encrypted_content:
                return True
    return False


def _is_result(entry: _Entry) -> bool:
    """Whether it gives back what tools returned: Anthropic has the user do that."""
    if b'tool_result"' not in bytes(entry.content):
        return False
    return any((part.type or "").endswith("tool_result") for part in _parts(entry.content))


def _is_sealed(entry: _Entry) -> bool:
    if _binds(entry.encrypted_content):
        return True
    for held in (entry.content, entry.reasoning_details, entry.thinking_blocks):
        for part in _parts(held):
            if _binds(part.signature):
                return True
            data = part.data  # of media, it is an object
            if bytes(data).startswith(b'"') and _binds(_decode_text(data)):
                return True
    return False


def _binds(seal: str | None) -> bool:
    """Whether that is something to read, and not only our note that there was nothing."""
    if not seal:
        return False
    if not seal.startswith(MARK):
        return True
    packed = unpack(seal)
    return packed is not None and bool(packed.data)


def _parts(content: Raw) -> list[_Part]:
    return _decode_parts(content) if bytes(content).startswith(b"[") else []
