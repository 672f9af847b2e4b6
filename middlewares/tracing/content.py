"""What callers write and models answer, as JSON text in the shape of the GenAI conventions.

Made only where the operator has switched it on. Each attribute has at most 32 KiB and stays valid
JSON: of a long conversation the last messages are kept, and long texts are cut. Media, links and
files are shown by their hash, never by their bytes, address or name.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import msgspec

from . import genai
from .lenient_json import value_of
from .request_attributes import Attributes

MAX_CONTENT = 32 << 10
"""Bytes of one attribute."""
_MAX_TEXTS = (8 << 10, 2 << 10, 256)
"""Characters of one text that is cut: the first where the entry then has room, else the next."""
_DEEPEST = 64
"""Levels of an entry that is cut; what is below them is left out."""
_LARGEST = 8 << 20
"""Bytes of a member that is decoded; beyond it the attribute is left out."""
_WORD = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_MODALITIES = {
    **dict.fromkeys(("image", "image_url", "input_image"), "image"),
    **dict.fromkeys(("input_audio", "audio", "audio_url"), "audio"),
    **dict.fromkeys(("video", "video_url", "input_video"), "video"),
    **dict.fromkeys(("document", "file", "input_file"), "document"),
}
_TEXTS = frozenset(("text", "input_text", "output_text", "summary_text", "reasoning_text"))

Part = dict[str, Any]

_encode = msgspec.json.Encoder().encode


def request_content(fields: Mapping[str, msgspec.Raw]) -> Attributes:
    """The content attributes of a request, of its members in any dialect.

    It hashes media and may take long: call it in a thread for large requests.
    """
    found: Attributes = {}
    instructions = [
        part for name in ("system", "instructions") for part in parts_of(_read(fields, name))
    ]
    if instructions:
        found[genai.SYSTEM_INSTRUCTIONS] = fitted(instructions)
    messages = [
        message
        for name in ("messages", "input", "prompt")
        for message in _messages_of(_read(fields, name))
    ]
    if messages:
        found[genai.INPUT_MESSAGES] = fitted(messages)
    tools = _read(fields, "tools")
    if isinstance(tools, list):
        shown = [_tool_of(tool) for tool in tools if isinstance(tool, dict)]
        if shown:
            found[genai.TOOL_DEFINITIONS] = fitted(shown)
    return found


def fitted(entries: Iterable[Part]) -> str:
    """JSON of `entries` in at most 32 KiB: the last ones, with their texts cut where needed."""
    kept: list[bytes] = []
    room = MAX_CONTENT - 2
    for entry in reversed(list(entries)):
        encoded = _encode(entry)
        for most in _MAX_TEXTS:
            if len(encoded) + 1 <= room:
                break
            encoded = _encode(_cut(entry, most))
        if len(encoded) + 1 > room:
            break
        room -= len(encoded) + 1
        kept.append(encoded)
    return (b"[" + b",".join(reversed(kept)) + b"]").decode()


def _cut(value: Any, most: int, depth: int = 0) -> Any:
    if isinstance(value, str):
        return value if len(value) <= most else value[:most] + "…"
    if isinstance(value, list | dict) and depth >= _DEEPEST:
        return "…"
    if isinstance(value, list):
        return [_cut(inner, most, depth + 1) for inner in value]
    if isinstance(value, dict):
        return {name: _cut(inner, most, depth + 1) for name, inner in value.items()}
    return value


def _read(fields: Mapping[str, msgspec.Raw], name: str) -> Any:
    raw = fields.get(name)
    return None if raw is None else value_of(raw, most=_LARGEST)


def _messages_of(value: Any) -> list[Part]:
    """Messages of a conversation, of items of Responses, or of a plain text."""
    if isinstance(value, str):
        return [{"role": "user", "parts": parts_of(value)}]
    if not isinstance(value, list):
        return []
    if value and all(isinstance(text, str) for text in value):
        return [{"role": "user", "parts": parts_of(value)}]
    return [_message_of(entry) for entry in value if isinstance(entry, dict)]


def _message_of(entry: Mapping[str, Any]) -> Part:
    kind = entry.get("type")
    if "role" not in entry and kind is not None:  # an item of Responses
        answered = isinstance(kind, str) and kind.endswith("_output")
        return {"role": "tool" if answered else "assistant", "parts": [_item_of(entry)]}
    role = entry.get("role")
    if role == "tool":
        return {"role": "tool", "parts": [_response_of(entry.get("tool_call_id"), entry)]}
    parts = parts_of(entry.get("reasoning_content"), "reasoning")
    parts += parts_of(entry.get("content")) + calls_of(entry)
    return {"role": role if isinstance(role, str) else "user", "parts": parts}


def _item_of(item: Mapping[str, Any]) -> Part:
    kind = item.get("type")
    if kind == "function_call":
        return call_of(item.get("call_id"), item)
    if kind == "function_call_output":
        return _response_of(item.get("call_id"), {"content": item.get("output")})
    if kind == "reasoning":
        texts = [part.get("content", "") for part in parts_of(item.get("summary"))]
        return {"type": "reasoning", "content": "".join(texts)}
    return {"type": _kind_word(kind)}


def parts_of(content: Any, kind: str = "text") -> list[Part]:
    """Parts of a message's content: a text, or a list of parts or texts."""
    if isinstance(content, str):
        return [{"type": kind, "content": content}] if content else []
    if not isinstance(content, list):
        return []
    parts = []
    for part in content:
        if isinstance(part, str):
            parts.append({"type": kind, "content": part})
        elif isinstance(part, dict):
            parts.append(_part_of(part))
    return parts


def _part_of(part: Mapping[str, Any]) -> Part:
    kind = _kind_word(part.get("type"))
    if kind in _TEXTS:
        return {"type": "text", "content": _text(part.get("text"))}
    if kind == "refusal":
        return {"type": "text", "content": _text(part.get("refusal"))}
    if kind in ("thinking", "redacted_thinking"):
        return {"type": "reasoning", "content": _text(part.get("thinking"))}
    if kind == "tool_use":
        return {
            **call_of(part.get("id"), {"name": part.get("name")}),
            "arguments": part.get("input"),
        }
    if kind == "tool_result":
        return _response_of(part.get("tool_use_id"), part)
    if kind in _MODALITIES:
        inner = {name: value for name, value in part.items() if name not in _AROUND}
        digest = f"sha256:{sha256(_encode(inner)).hexdigest()}"
        return {"type": "blob", "modality": _MODALITIES[kind], "content": digest}
    return {"type": kind}


_AROUND = frozenset(("type", "cache_control", "detail", "title", "filename"))
"""Members of a media part that are not its content."""


def calls_of(message: Mapping[str, Any]) -> list[Part]:
    """The calls of tools in a message of Chat."""
    calls = message.get("tool_calls")
    return [
        call_of(call.get("id"), call.get("function"))
        for call in (calls if isinstance(calls, list) else ())
        if isinstance(call, dict)
    ]


def call_of(call_id: Any, function: Any) -> Part:
    """A call of a tool. function: has the name, and the arguments as JSON text."""
    given = function if isinstance(function, dict) else {}
    made: Part = {"type": "tool_call", "name": _text(given.get("name"))}
    if isinstance(call_id, str):
        made["id"] = call_id
    arguments = given.get("arguments")
    if isinstance(arguments, str):
        made["arguments"] = arguments
    return made


def _response_of(call_id: Any, holder: Mapping[str, Any]) -> Part:
    content = holder.get("content")
    response = content if isinstance(content, str) else parts_of(content)
    made: Part = {"type": "tool_call_response", "response": response}
    if isinstance(call_id, str):
        made["id"] = call_id
    return made


def _tool_of(tool: Mapping[str, Any]) -> Part:
    inner = tool.get("function")
    given = inner if isinstance(inner, dict) else tool
    made: Part = {"type": _kind_word(tool.get("type") or "function")}
    for name, theirs in (
        ("name", "name"),
        ("description", "description"),
        ("parameters", "parameters"),
        ("parameters", "input_schema"),
    ):
        if theirs in given:
            made[name] = given[theirs]
    return made


def _kind_word(kind: Any) -> str:
    return kind if isinstance(kind, str) and _WORD.fullmatch(kind) else "unknown"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
