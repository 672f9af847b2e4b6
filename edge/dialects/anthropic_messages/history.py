"""Remove from a caller's history what no upstream of this dialect can read.

A conversation with other vendors' models holds thinking with packed signatures, and citations with
the same mark (see `write_answer`). Anthropic verifies signatures, so both are removed; so is the
thinking of another vendor of this dialect, which has no mark. Everything else stays byte for byte
as it came: it may be signed, and cached.
"""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from edge.dialects.passthrough import UNREADABLE, Fields, encode
from edge.dialects.signatures import MARK
from edge.requests.known_turns import TurnMarks, has_mark

_MARK = MARK.encode()
_THINKING = ("thinking", "redacted_thinking")
_THINKING_TYPE_END = b'thinking"'
"""The end of either type."""

Message = dict[str, Raw]


class _Block(msgspec.Struct):
    type: str = ""
    signature: str | None = None
    data: str | None = None
    citations: list[Raw] | None = None


class _Citation(msgspec.Struct):
    encrypted_index: str | None = None


class _Thinking(msgspec.Struct):
    type: str = ""


_decode_messages = msgspec.json.Decoder(list[Message]).decode
_decode_blocks = msgspec.json.Decoder(list[Raw]).decode
_decode_block = msgspec.json.Decoder(_Block).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_citation = msgspec.json.Decoder(_Citation).decode
_decode_thinking = msgspec.json.Decoder(_Thinking).decode
_decode_text = msgspec.json.Decoder(str).decode


def without_packed(fields: Fields, marks: TurnMarks | None = None) -> Fields:
    """`fields` without packed thinking and citations; `fields` itself if there are none.

    Unreadable members are left for the upstream to refuse.
    """
    raw = fields.get("messages")
    if raw is None or not has_mark(raw, _MARK, marks):
        return fields
    try:
        return _cleaned(fields, _decode_messages(raw), _MARK, _without_packed_parts)
    except UNREADABLE:
        return fields


def without_thinking(fields: Fields, first: int) -> Fields:
    """`fields` without the thinking in its `first` messages; `fields` itself if there is none.

    Packed thinking stays: it names its origin. Unreadable members are left to the upstream.
    """
    raw = fields.get("messages")
    if raw is None or _THINKING_TYPE_END not in bytes(raw):
        return fields
    try:
        return _cleaned(
            fields, _decode_messages(raw), _THINKING_TYPE_END, _without_unpacked_thinking, first
        )
    except UNREADABLE:
        return fields


def _cleaned(
    fields: Fields,
    messages: list[Message],
    sign: bytes,
    clean: Callable[[Raw], Raw | None],
    first: int | None = None,
) -> Fields:
    """sign: bytes of content that `clean` must process. first: how many messages to clean."""
    kept: list[Message] = []
    changed = False
    for message in messages[:first]:
        content = message.get("content", Raw(b"null"))
        if sign not in bytes(content) or not bytes(content).startswith(b"["):
            kept.append(message)
            continue
        came = _decode_blocks(content)
        blocks = [block for block in map(clean, came) if block is not None]
        if len(blocks) == len(came) and all(a is b for a, b in zip(blocks, came, strict=True)):
            kept.append(message)
            continue
        changed = True
        if blocks:  # a turn of thinking alone is removed; the upstream merges its neighbours
            kept.append({**message, "content": Raw(encode(blocks))})
    if not changed:
        return fields
    if first is not None:
        kept += messages[first:]
    cleaned = {**fields, "messages": Raw(encode(kept))}
    return _with_thinking_off(cleaned) if _lacks_thinking(kept) else cleaned


def _without_unpacked_thinking(block: Raw) -> Raw | None:
    """The block; None if it is thinking that is not packed."""
    if _THINKING_TYPE_END not in bytes(block):
        return block
    read = _decode_block(block)
    signature = read.signature or read.data or ""
    return block if read.type not in _THINKING or signature.startswith(MARK) else None


def _without_packed_parts(block: Raw) -> Raw | None:
    """The block without packed parts; itself if it has none; None if nothing else is left."""
    if _MARK not in bytes(block):
        return block
    read = _decode_block(block)
    if read.type in _THINKING:
        signature = read.signature or read.data or ""
        return None if signature.startswith(MARK) else block
    if read.type != "text" or not read.citations:
        return block
    own = [each for each in read.citations if not _is_marked(each)]
    if len(own) == len(read.citations):
        return block
    members = _decode_members(block)
    if own:
        members["citations"] = Raw(encode(own))
    else:
        del members["citations"]
    return Raw(encode(members))


def _is_marked(citation: Raw) -> bool:
    return (_decode_citation(citation).encrypted_index or "").startswith(MARK)


def _lacks_thinking(messages: list[Message]) -> bool:
    """Whether the assistant's last turn calls tools without thinking before."""
    kinds: list[str] = []
    for message in reversed(messages):
        if _decode_text(message.get("role", Raw(b'""'))) != "assistant":
            if kinds:
                break
            continue
        content = message.get("content", Raw(b"null"))
        if bytes(content).startswith(b"["):
            kinds = [_decode_block(block).type for block in _decode_blocks(content)] + kinds
        else:
            kinds.insert(0, "text")
    return "tool_use" in kinds and kinds[0] not in _THINKING


def _with_thinking_off(fields: Fields) -> Fields:
    """`fields` with thinking by a budget switched off: it requires all thinking before a call.

    The setting that clears old thinking is removed too: the vendor refuses it without thinking.
    """
    raw = fields.get("thinking")
    if raw is None or bytes(raw) == b"null" or _decode_thinking(raw).type != "enabled":
        return fields
    out = {name: value for name, value in fields.items() if name != "thinking"}
    management = fields.get("context_management")
    if management is not None and b"clear_thinking" in bytes(management):
        members = _decode_members(management)
        edits = [
            edit
            for edit in _decode_blocks(members.get("edits", Raw(b"[]")))
            if not _decode_block(edit).type.startswith("clear_thinking")
        ]
        if edits:
            out["context_management"] = Raw(encode({**members, "edits": edits}))
        else:
            del out["context_management"]
    return out
