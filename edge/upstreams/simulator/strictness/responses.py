"""OpenAI's checks of a Responses request, in addition to those of `read_responses`."""

import json
from collections.abc import Mapping
from typing import Any

from edge.upstreams.simulator.prompt import PromptRejected

from . import openai

_MARK = "prompt_cache_breakpoint"
_ITEMS: Mapping[str, tuple[str, ...]] = {
    "message": ("role", "content", "phase"),
    "function_call": ("call_id", "name", "arguments", "namespace", "caller"),
    "custom_tool_call": ("call_id", "name", "input", "namespace", "caller"),
    "function_call_output": ("call_id", "output", "caller"),
    "custom_tool_call_output": ("call_id", "output", "caller"),
    "reasoning": ("summary", "content", "encrypted_content"),
    "compaction": ("encrypted_content", "created_by"),
}
_PARTS: Mapping[str, tuple[str, ...]] = {
    "input_text": ("text", _MARK),
    "input_image": ("image_url", "file_id", "detail", _MARK),
    "input_file": ("file_data", "file_id", "file_url", "filename", "detail", _MARK),
    "output_text": ("text", "annotations", "logprobs"),
    "refusal": ("refusal",),
}
_IDS = {
    "message": "msg",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "reasoning": "rs",
}
_TOOLS: Mapping[str, tuple[str, ...]] = {
    "function": ("parameters", "strict", "output_schema", "defer_loading", "allowed_callers"),
    "custom": ("format", "defer_loading", "allowed_callers"),
}


def check(given: dict[str, Any]) -> None:
    """Raises PromptRejected."""
    openai.limits(given)
    items = given["input"] if isinstance(given["input"], list) else []
    for at, item in enumerate(items):
        _item(item, f"input[{at}]")
    _after_reasoning(items)
    for n, tool in enumerate(given.get("tools") or ()):
        _tool(tool, f"tools[{n}]")
    choice = given.get("tool_choice")
    if isinstance(choice, str):
        openai.among(choice, ("none", "auto", "required"), "tool_choice")
    if choice == "required" and not given.get("tools"):
        raise PromptRejected(
            400,
            "Tool choice 'required' must be specified with 'tools' parameter.",
            "tool_choice",
        )
    wanted = (given.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        keys = ("type", "name", "schema", "strict", "description")
        openai.known(wanted, keys, "text.format.")
        openai.answer_format(wanted, "text.format")
    elif wanted.get("type") == "json_object" and "json" not in json.dumps(given["input"]).lower():
        raise PromptRejected(
            400,
            "Response input messages must contain the word 'json' in some form to use "
            "'text.format' of type 'json_object'.",
            "input",
        )


def _item(item: dict[str, Any], path: str) -> None:
    kind = item.get("type") or "message"
    if kind not in _ITEMS:
        return
    openai.known(item, ("type", "id", "status", *_ITEMS[kind]), f"{path}.")
    given, prefix = item.get("id"), _IDS.get(kind)
    if given is not None and prefix and not str(given).startswith(prefix):
        raise PromptRejected(
            400,
            f"Invalid '{path}.id': '{given}'. Expected an ID that begins with '{prefix}'.",
            f"{path}.id",
            "invalid_value",
        )
    if "call_id" in item:
        openai.text(item["call_id"], f"{path}.call_id", 64)
    if kind in ("function_call", "custom_tool_call"):
        openai.name(item["name"], f"{path}.name", 128)
    if kind == "reasoning" and item.get("summary") is None:
        openai.text(None, f"{path}.summary")
    if kind == "reasoning" and item.get("encrypted_content") is None:
        raise PromptRejected(
            404,
            f"Item with id '{given}' not found. Items are not persisted when `store` is set to "
            "false. Try again with `store` set to true, or remove this item from your input.",
            "input",
        )
    if kind.endswith("_output") and not isinstance(item.get("output"), (str, list)):
        openai.text(item.get("output"), f"{path}.output")
    key = "output" if kind.endswith("_output") else "content"
    for n, part in enumerate(item[key] if isinstance(item.get(key), list) else ()):
        if kind != "reasoning":
            _part(part, f"{path}.{key}[{n}]", results=key == "output")


def _part(part: dict[str, Any], path: str, *, results: bool) -> None:
    kind = part.get("type")
    allowed = tuple(name for name in _PARTS if name.startswith("input_")) if results else _PARTS
    openai.among(kind, tuple(allowed), f"{path}.type")
    openai.known(part, ("type", *_PARTS[str(kind)]), f"{path}.")
    if kind == "input_image" and part.get("file_id") is None:
        openai.image(part.get("image_url"), f"{path}.image_url")


def _after_reasoning(items: list[dict[str, Any]]) -> None:
    """Each reasoning item precedes its output item."""
    for item, after in zip(items, [*items, {}][1:], strict=True):
        led = after.get("type") in ("reasoning", "function_call", "custom_tool_call", "compaction")
        if item.get("type") == "reasoning" and not led and after.get("role") != "assistant":
            raise PromptRejected(
                400,
                f"Item '{item.get('id')}' of type 'reasoning' was provided without its required "
                "following item.",
                "input",
            )


def _tool(tool: dict[str, Any], path: str) -> None:
    kind = openai.text(tool.get("type"), f"{path}.type")
    if kind not in _TOOLS:
        return
    openai.known(tool, ("type", "name", "description", *_TOOLS[kind]), f"{path}.")
    name = openai.name(tool.get("name"), f"{path}.name", 128)
    if kind == "function":
        # A missing `strict` means: strict if the schema allows it.
        strict = bool(tool.get("strict"))
        openai.parameters(tool.get("parameters"), name, f"{path}.parameters", strict=strict)
