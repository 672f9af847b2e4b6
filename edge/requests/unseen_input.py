"""Detect input that is not in a request's body, so that its tokens cannot be estimated.

Linked and uploaded documents, video, hosted tools (search, code, MCP) and references to stored
objects have no known size. Neither has a PDF in the body: its pages may be compressed. Images are
excluded: their largest size is known (`edge.billing.media_tokens`).

Types of parts, items and tools that are complete in the body are listed; any other type counts as
unseen input, so that a vendor's new type is not reserved as nothing.
"""

from collections.abc import Mapping, Sequence

import msgspec

from .output_limit import ORDINARY, plain, remembered

_NULL = msgspec.Raw(b"null")
_NOTHING = (b"null", b"false", b"[]", b'""')

_TURNS = ("messages", "input", "system", "instructions")
"""Members that hold turns."""
_REFERENCES = frozenset(
    (
        "assistantid",
        "cachedcontent",
        "container",
        "conversation",
        "datasources",
        "documents",
        "enablesearch",
        "fileids",
        "files",
        "knowledge",
        "mcpservers",
        "plugins",
        "retrieval",
        "search",
        "searchoptions",
        "searchparameters",
        "threadid",
        "vectorstoreids",
        "websearch",
        "websearchoptions",
    )
)
"""Members that let an upstream fetch input, in lower case without separators."""


_PARTS = frozenset(
    (
        "",
        "text",
        "input_text",
        "output_text",
        "summary_text",
        "reasoning_text",
        "refusal",
        "thinking",
        "redacted_thinking",
        "reasoning",
        "image",
        "image_url",
        "input_image",
        "input_audio",
        "search_result",
        "tool_use",
        "tool_result",
        "server_tool_use",
        "message",
        "compaction",
        "compaction_summary",
        "compaction_trigger",
        "context_compaction",
        "function",
    )
)
_ENDINGS = ("_call", "_call_output", "_tool_result", "_list_tools", "_approval_response")
"""Suffixes of the types of calls and results of tools."""
_DOCUMENTS = frozenset(("document", "file", "input_file"))
_OWN_TOOLS = frozenset(
    ("", "function", "custom", "local_shell", "shell", "apply_patch", "computer_use_preview")
)
"""Types of tools that the caller runs."""
_DATED_TOOLS = ("bash_", "text_editor_", "computer_", "memory_")
"""Prefixes of dated tool types (Anthropic)."""


class _Part(msgspec.Struct):
    type: str | None = None
    content: msgspec.Raw = _NULL
    output: msgspec.Raw = _NULL
    source: msgspec.Raw = _NULL
    file: msgspec.Raw = _NULL
    input_audio: msgspec.Raw = _NULL
    file_id: str | None = None
    file_data: str | None = None


class _Source(msgspec.Struct):
    type: str | None = None
    media_type: str | None = None
    content: msgspec.Raw = _NULL
    file_id: str | None = None
    file_data: str | None = None
    data: str | None = None


class _Tool(msgspec.Struct):
    type: str | None = None
    tools: msgspec.Raw = _NULL


_decode_parts = msgspec.json.Decoder(list[_Part]).decode
_decode_source = msgspec.json.Decoder(_Source).decode
_decode_tool = msgspec.json.Decoder(_Tool).decode
_decode_tools = msgspec.json.Decoder(list[_Tool]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@remembered
def _looked_at(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The names that let an upstream fetch input, and those of turns."""
    referring = [name for name in names if name not in ORDINARY and plain(name) in _REFERENCES]
    return referring, [name for name in _TURNS if name in names]


def reads_more(fields: Mapping[str, msgspec.Raw], *, whole: bool = False) -> bool:
    """Whether the upstream may read input that is not in `fields`, the members of a body.

    whole: turns and tools are known to be complete (`edge.requests.content_names`). True also for
    unreadable members, since an upstream may interpret them.
    """
    referring, turns = _looked_at(fields)
    for name in referring:
        if bytes(fields[name]) not in _NOTHING:
            return True
    if "prompt" in fields and bytes(fields["prompt"])[:1] == b"{":  # a stored prompt
        return True
    if whole:
        return False
    try:
        if "tools" in fields and _hosted(fields["tools"]):
            return True
        for name in turns:
            if _unseen(fields[name]):
                return True
    except _UNREADABLE:
        return True
    return False


def _hosted(raw: msgspec.Raw) -> bool:
    """Whether one of the tools is hosted."""
    if bytes(raw) in _NOTHING:
        return False
    return any(map(_is_hosted, _decode_tools(raw)))


def is_hosted(raw: msgspec.Raw) -> bool:
    """Whether a tool is hosted. Raises one of msgspec's errors if it is no tool."""
    return _is_hosted(_decode_tool(raw))


def _is_hosted(tool: _Tool) -> bool:
    kind = tool.type or ""
    if kind == "namespace":
        return _hosted(tool.tools)
    return kind not in _OWN_TOOLS and not kind.startswith(_DATED_TOOLS)


def _unseen(raw: msgspec.Raw) -> bool:
    """Whether an array of messages, items or parts has unseen input."""
    text = bytes(raw)
    if text[:1] != b"[" or (text.find(b'"type"') < 0 and text.find(b"\\u00") < 0):
        return False  # no part has a type, in any letter case
    parts: Sequence[_Part] = _decode_parts(text)
    for part in parts:
        kind = part.type or ""
        if kind in _DOCUMENTS:
            if not _seen(part):
                return True
        elif kind not in _PARTS and not kind.endswith(_ENDINGS):
            return True
        if part.file_id:
            return True
        if part.input_audio is not _NULL and _linked(part.input_audio):
            return True
        if part.content is not _NULL and _unseen(part.content):
            return True
        if part.output is not _NULL and _unseen(part.output):
            return True
    return False


def _seen(part: _Part) -> bool:
    """Whether a document is in the body, as text."""
    for raw in (part.source, part.file):
        if raw is not _NULL:
            source = _decode_source(raw)
            if source.file_id or source.type in ("url", "file"):
                return False
            if source.type == "text":
                return True
            if source.type == "content":
                return not _unseen(source.content)
            if source.file_data is not None:
                return source.file_data.startswith("data:text/")
            return (source.media_type or "").startswith("text/")
    return part.file_data is not None and part.file_data.startswith("data:text/")


def _linked(raw: msgspec.Raw) -> bool:
    """Whether audio is linked instead of included."""
    return (_decode_source(raw).data or "")[:16].partition(":")[1] == ":"
