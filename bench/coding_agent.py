"""Requests of a coding agent, as large as wanted, in each dialect.

A system text of ten kilobytes, twenty tools, then turns: the agent thinks, says something, calls a
tool with JSON arguments, and gets code, a listing or a log as its result; now and then a picture.
The same size and turns always give the same bytes, and a longer request begins with the shorter
one's turns, as with a real agent.
"""

import json
from base64 import b64encode
from collections.abc import Iterator
from random import Random
from typing import Any

_PROSE = """the request body is read once and then the router finds a model for it before any
upstream opens because limits count tokens while streams hold their slot until the client has left
so we should check whether this function handles an empty list and add a test that fails first"""
_WORDS = _PROSE.split()
_CODE = '''
def merge_intervals(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge overlapping intervals, e.g. [(1, 3), (2, 6)] -> [(1, 6)]."""
    if not intervals:
        return []
    merged = [intervals[0]]
    for start, end in sorted(intervals)[1:]:
        last_start, last_end = merged[-1]
        if start <= last_end:
            merged[-1] = (last_start, max(last_end, end))
        else:
            merged.append((start, end))
    logger.debug("merged %d into %d", len(intervals), len(merged))
    return merged
'''
_NAMES = ("Bash", "Read", "Edit", "Write", "Grep", "Glob", "Task", "WebFetch", "TodoWrite", "Lint")
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x03\x00\x00\x00\x02\x00\x08\x02\x00\x00\x00"

Json = dict[str, Any]


def _prose(random: Random, words: int) -> str:
    return " ".join(random.choices(_WORDS, k=words)).capitalize() + "."


def _code(random: Random, size: int) -> str:
    out, length = [], 0
    while length < size:
        lines = _CODE.replace("intervals", random.choice(_WORDS)).splitlines()
        text = "\n".join(f"{n:6d}\t{line}" for n, line in enumerate(lines, random.randrange(900)))
        out.append(text)
        length += len(text)
    return "\n".join(out)


def _tools(random: Random) -> list[Json]:
    tools = []
    for at in range(20):
        properties = {
            f"{word}_{n}": {"type": "string", "description": _prose(random, 12)}
            for n, word in enumerate(random.sample(_WORDS, 5))
        }
        properties["options"] = {
            "type": "object",
            "properties": {"limit": {"type": "integer", "minimum": 0}, "deep": {"type": "boolean"}},
            "additionalProperties": False,
        }
        tools.append(
            {
                "name": _NAMES[at % 10] + ("" if at < 10 else f"_{at}"),
                "description": "\n".join(_prose(random, 30) for _ in range(6)),
                "schema": {
                    "type": "object",
                    "properties": properties,
                    "required": [*properties][:2],
                    "$schema": "http://json-schema.org/draft-07/schema#",
                },
            }
        )
    return tools


def _steps(seed: int) -> Iterator[Json]:
    """Endlessly, what happens in a session: `ask` of the user, or a `call` with its result."""
    random = Random(seed)
    at = 0
    while True:
        if at % 12 == 0:
            yield {"ask": _prose(random, 40), "picture": at % 120 == 60}
        at += 1
        edit = at % 4 == 0
        body = _code(random, 900)
        arguments: Json = {"file_path": f"/srv/app/{random.choice(_WORDS)}/mod_{at}.py"}
        if edit:
            arguments |= {"old_string": body[:400], "new_string": body, "replace_all": False}
        else:
            arguments |= {"command": f'rg -n "{random.choice(_WORDS)}" | head -{at}', "timeout": 5}
        yield {
            "id": f"toolu_{random.getrandbits(96):024x}",
            "name": _NAMES[at % 10],
            "say": _prose(random, 20) if at % 3 else "",
            "think": _prose(random, 60) if at % 2 else "",
            "signature": b64encode(random.randbytes(240)).decode(),
            "arguments": arguments,
            "result": "The file has been updated." if edit else _code(random, 600 * (at % 8 + 1)),
            "failed": at % 17 == 0,
        }


def _picture(seed: int) -> str:
    return b64encode(_PNG + Random(seed).randbytes(12_000)).decode()


def _messages(step: Json, *, thinking: bool) -> list[Json]:
    if "ask" in step:
        content: list[Json] = [{"type": "text", "text": step["ask"]}]
        if step["picture"]:
            source = {"type": "base64", "media_type": "image/png", "data": _picture(1)}
            content.append({"type": "image", "source": source})
        return [{"role": "user", "content": content}]
    blocks: list[Json] = []
    if step["think"] and thinking:
        thought = {"thinking": step["think"], "signature": step["signature"]}
        blocks.append({"type": "thinking", **thought})
    if step["say"]:
        blocks.append({"type": "text", "text": step["say"]})
    use = {"id": step["id"], "name": step["name"], "input": step["arguments"]}
    blocks.append({"type": "tool_use", **use})
    result: Json = {"type": "tool_result", "tool_use_id": step["id"], "content": step["result"]}
    if step["failed"]:
        result["is_error"] = True
    return [{"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]


def _chat(step: Json) -> list[Json]:
    if "ask" in step:
        content: Any = step["ask"]
        if step["picture"]:
            image = {"url": f"data:image/png;base64,{_picture(1)}"}
            content = [
                {"type": "text", "text": step["ask"]},
                {"type": "image_url", "image_url": image},
            ]
        return [{"role": "user", "content": content}]
    function = {"name": step["name"], "arguments": json.dumps(step["arguments"])}
    call = {"id": step["id"], "type": "function", "function": function}
    said: Json = {"role": "assistant", "content": step["say"] or None, "tool_calls": [call]}
    if step["think"]:
        said["reasoning_content"] = step["think"]
    return [said, {"role": "tool", "tool_call_id": step["id"], "content": step["result"]}]


def _responses(step: Json) -> list[Json]:
    if "ask" in step:
        content: list[Json] = [{"type": "input_text", "text": step["ask"]}]
        if step["picture"]:
            url = f"data:image/png;base64,{_picture(1)}"
            content.append({"type": "input_image", "image_url": url})
        return [{"type": "message", "role": "user", "content": content}]
    items: list[Json] = []
    if step["think"]:
        summary = [{"type": "summary_text", "text": step["think"]}]
        sealed = {"summary": summary, "encrypted_content": step["signature"]}
        items.append({"type": "reasoning", "id": f"rs_{step['id']}", **sealed})
    if step["say"]:
        parts = [{"type": "output_text", "text": step["say"], "annotations": []}]
        items.append({"type": "message", "role": "assistant", "content": parts})
    call = {"call_id": step["id"], "name": step["name"]}
    items.append({"type": "function_call", **call, "arguments": json.dumps(step["arguments"])})
    kind = {"type": "function_call_output", "call_id": step["id"]}
    return [*items, {**kind, "output": step["result"]}]


def request(
    dialect: str, size: int, *, model: str = "m1", stream: bool = False, seed: int = 7
) -> bytes:
    """A request body of about `size` bytes: "chat", "messages" or "responses".

    The last turn is a tool's result; one step more is what the agent sends next.
    """
    random = Random(seed)
    tools = _tools(random)
    system = "\n\n".join(_prose(random, 60) for _ in range(25))
    if size < 40_000:  # a small request has few tools
        tools, system = tools[:2], system[:2000]
    turns: list[Json] = []
    left = size - len(json.dumps(tools)) - len(system)
    for step in _steps(seed):
        if dialect == "chat":
            new = _chat(step)
        elif dialect == "messages":
            new = _messages(step, thinking=True)
        else:
            new = _responses(step)
        turns += new
        left -= len(json.dumps(new, separators=(",", ":")))
        if left < 0 and "ask" not in step:
            break
    body: Json = {"model": model, "stream": stream}
    if dialect == "chat":
        functions = [_function(tool) for tool in tools]
        body |= {"messages": [{"role": "system", "content": system}, *turns]}
        body |= {"tools": [{"type": "function", "function": one} for one in functions]}
        body |= {"max_completion_tokens": 8000}
    elif dialect == "messages":
        mark = {"cache_control": {"type": "ephemeral"}}
        turns[-1]["content"][-1] |= mark
        body |= {"system": [{"type": "text", "text": system, **mark}], "messages": turns}
        body |= {"tools": [_input(tool) for tool in tools], "max_tokens": 8000}
        body |= {"thinking": {"type": "enabled", "budget_tokens": 4000}}
    else:
        body |= {"instructions": system, "input": turns, "store": False}
        body |= {"tools": [{"type": "function", **_function(tool)} for tool in tools]}
        body |= {"max_output_tokens": 8000, "reasoning": {"effort": "medium", "summary": "auto"}}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _function(tool: Json) -> Json:
    return {
        "name": tool["name"],
        "description": tool["description"],
        "parameters": tool["schema"],
    }


def _input(tool: Json) -> Json:
    return {
        "name": tool["name"],
        "description": tool["description"],
        "input_schema": tool["schema"],
    }
