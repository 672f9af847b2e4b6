"""Conversations of a coding agent in each dialect, as long as needed, the same in every run.

Turns call tools that read files; their results are sources of Python's own library. Some turns show
a screenshot.
"""

import json
import random
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

Dialect = Literal["chat", "messages", "responses"]
Turn = tuple[str, str, str, str, str]
"""What the model says, the path it reads, the id of the call, the result, an image in base64."""

_FILES = (
    *("argparse", "ast", "asyncio/base_events", "configparser", "dataclasses", "datetime"),
    *("difflib", "email/message", "enum", "ftplib", "inspect", "logging/__init__", "pathlib"),
    *("pickle", "shutil", "ssl", "subprocess", "tarfile", "threading", "typing", "zipfile"),
)
_RESULT = 6_000
"""Characters of a result on average."""
_IMAGE = 110_000
"""Bytes of a screenshot."""
_SAID = (
    'I\'ll read `{path}` first — the "fix" depends on how it handles errors → then the tests.',
    "That explains it:\n\n1. the parser drops the last line\n2. no caller checks\n\nNext: {path}",
)
_ASKED = "Please find out why the test suite hangs, and fix it. Use the tools; don't ask me."


def conversation(
    dialect: Dialect, size: int, *, images: bool = False, stream: bool = True
) -> bytes:
    """A body of about `size` bytes. images: a third of it is screenshots."""
    system, tools = _system(size // 20), _tools(min(20, max(2, size // 5000)))
    turns: list[Turn] = []
    left = size - len(system) - len(json.dumps(tools))
    for turn in _turns(size, images=images):
        left -= sum(len(json.dumps(each)) for each in turn) + 250
        if left < 0 and turns:
            break
        turns.append(turn)
    body = _BODIES[dialect](system, tools, turns)
    body |= {"model": "m1", "stream": stream}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _sources() -> list[str]:
    library = Path(json.__file__).parent.parent
    return [(library / f"{name}.py").read_text("utf-8") for name in _FILES]


def _system(size: int) -> str:
    text = "You are a careful coding agent. Follow the project's conventions; never guess.\n"
    return text * max(1, size // len(text))


def _tools(count: int) -> list[dict[str, Any]]:
    described = "Reads a file from the local filesystem; use `offset` and `limit` for long ones. "
    schema = {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "The absolute path of the file."},
            "offset": {"type": "integer", "description": "The first line.", "minimum": 0},
            "mode": {"type": "string", "enum": ["text", "image", "notebook"]},
        },
        "required": ["path"],
        "additionalProperties": False,
    }
    return [
        {"name": f"read_{n}", "description": described * 8, "schema": schema} for n in range(count)
    ]


def _turns(size: int, *, images: bool) -> Iterator[Turn]:
    chance = random.Random(7)
    sources = _sources()
    shown = 0
    most = min(_IMAGE, size // 8)
    sent = 0
    for n in range(100_000):
        source = sources[n % len(sources)]
        length = min(chance.randrange(200, 2 * _RESULT), max(200, size // 6))
        start = chance.randrange(max(1, len(source) - length))
        lines = source[start : start + length].split("\n")
        result = "\n".join(f"{at:>6}\t{line}" for at, line in enumerate(lines, start))
        image = ""
        if images and shown < sent // 2 + 1:
            head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x05\0\0\0\x03 \x08\x06"
            image = b64encode(head + chance.randbytes(most * 3 // 4)).decode()
            shown += len(image)
        sent += len(result)
        path = f"/home/dev/project/lib/{_FILES[n % len(_FILES)]}.py"
        yield _SAID[n % 2].format(path=path), path, f"call_{n:024x}", result, image


def _chat(system: str, tools: list[dict[str, Any]], turns: list[Turn]) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system},
        {"role": "user", "content": _ASKED},
    ]
    for said, path, call, result, image in turns:
        function = {"name": "read_0", "arguments": json.dumps({"path": path, "offset": 0})}
        messages += (
            {
                "role": "assistant",
                "content": said,
                "tool_calls": [{"id": call, "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": call, "content": result},
        )
        if image:
            url = f"data:image/png;base64,{image}"
            part = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
            messages.append({"role": "user", "content": [{"type": "text", "text": "See."}, part]})
    return {
        "messages": messages,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": tool["name"],
                    "description": tool["description"],
                    "parameters": tool["schema"],
                },
            }
            for tool in tools
        ],
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 8000,
    }


def _messages(system: str, tools: list[dict[str, Any]], turns: list[Turn]) -> dict[str, Any]:
    kept = {"cache_control": {"type": "ephemeral"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": _ASKED, **kept}]}
    ]
    for n, (said, path, call, result, image) in enumerate(turns):
        content: list[dict[str, Any]] = [{"type": "text", "text": said}]
        if n % 4 == 0:
            signature = b64encode(random.Random(n).randbytes(300)).decode()
            thought = {"type": "thinking", "thinking": said * 3, "signature": signature}
            content.insert(0, thought)
        used = {"path": path, "offset": 0}
        content.append({"type": "tool_use", "id": call, "name": "read_0", "input": used})
        held: list[dict[str, Any]] = [{"type": "text", "text": result}]
        if image:
            source = {"type": "base64", "media_type": "image/png", "data": image}
            held.append({"type": "image", "source": source})
        returned = {"tool_use_id": call, "type": "tool_result", "content": held}
        messages += (
            {"role": "assistant", "content": content},
            {"role": "user", "content": [returned]},
        )
    return {
        "system": [{"type": "text", "text": system, **kept}],
        "messages": messages,
        "tools": [
            {
                "name": tool["name"],
                "description": tool["description"],
                "input_schema": tool["schema"],
            }
            for tool in tools
        ],
        "metadata": {"user_id": "user_0123456789abcdef_account__session_0123456789abcdef"},
        "max_tokens": 8000,
    }


def _responses(system: str, tools: list[dict[str, Any]], turns: list[Turn]) -> dict[str, Any]:
    items: list[dict[str, Any]] = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": _ASKED}]}
    ]
    for n, (said, path, call, result, image) in enumerate(turns):
        if n % 4 == 0:
            sealed = b64encode(random.Random(n).randbytes(900)).decode()
            items.append({"type": "reasoning", "summary": [], "encrypted_content": sealed})
        text = {"type": "output_text", "text": said}
        called = json.dumps({"path": path, "offset": 0})
        items += (
            {"type": "message", "role": "assistant", "content": [text]},
            {"type": "function_call", "name": "read_0", "arguments": called, "call_id": call},
            {"type": "function_call_output", "call_id": call, "output": result},
        )
        if image:
            url = f"data:image/png;base64,{image}"
            part = {"type": "input_image", "image_url": url}
            items.append({"type": "message", "role": "user", "content": [part]})
    return {
        "instructions": system,
        "input": items,
        "tools": [
            {
                "type": "function",
                "name": tool["name"],
                "description": tool["description"],
                "strict": False,
                "parameters": tool["schema"],
            }
            for tool in tools
        ],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0123456789abcdef",
    }


_BODIES = {"chat": _chat, "messages": _messages, "responses": _responses}
