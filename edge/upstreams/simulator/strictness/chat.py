"""OpenAI's checks of a Chat Completions request."""

import json
from collections.abc import Mapping
from typing import Any

from edge.upstreams.simulator.prompt import PromptRejected

from . import openai

_FIELDS = (
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens "
    "max_tokens messages metadata modalities model moderation n parallel_tool_calls prediction "
    "presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention "
    "reasoning_effort response_format safety_identifier seed service_tier stop store stream "
    "stream_options temperature tool_choice tools top_logprobs top_p user verbosity "
    "web_search_options"
)
FIELDS = frozenset(_FIELDS.split())

_MARK = "prompt_cache_breakpoint"
_OF_ROLE: Mapping[str, tuple[str, ...]] = {
    "system": (),
    "developer": (),
    "user": (),
    "assistant": ("refusal", "annotations", "audio", "tool_calls", "function_call"),
    "tool": ("tool_call_id",),
    "function": (),
}
_PARTS: Mapping[str, tuple[str, ...]] = {
    "system": ("text",),
    "developer": ("text",),
    "user": ("text", "image_url", "input_audio", "file"),
    "assistant": ("text", "refusal"),
    "tool": ("text",),
    "function": ("text",),
}
_INSIDE = {
    "image_url": ("url", "detail"),
    "input_audio": ("data", "format"),
    "file": ("file_data", "file_id", "filename"),
}
_MODELS_THAT_THINK = ("o1", "o3", "o4", "gpt-5")
_NOT_THINKING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs")


def check(given: dict[str, Any]) -> None:
    """Raises PromptRejected."""
    for name in given:
        if name not in FIELDS:
            raise PromptRejected(400, f"Unrecognized request argument supplied: {name}")
    openai.limits(given)
    _caps(given)
    _stop(given.get("stop"))
    for at, message in enumerate(given["messages"]):
        _message(message, f"messages[{at}]")
    _pairs(given["messages"])
    _tools(given)
    wanted = given.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        openai.answer_format(wanted.get("json_schema") or {}, "response_format.json_schema")
    elif wanted.get("type") == "json_object" and "json" not in _said(given["messages"]):
        raise PromptRejected(
            400,
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'.",
            "messages",
        )


def _caps(given: dict[str, Any]) -> None:
    thinks = str(given["model"]).startswith(_MODELS_THAT_THINK)
    if given.get("max_tokens") is None:
        pass
    elif thinks:
        raise PromptRejected(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    elif given.get("max_completion_tokens") is not None:
        raise PromptRejected(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    if thinks and given.get("reasoning_effort") != "none":
        for name in _NOT_THINKING:
            if given.get(name) not in (None, False) and given[name] != _usual(name):
                raise PromptRejected(
                    400,
                    f"Unsupported value: '{name}' does not support {given[name]} with this model. "
                    f"Only the default ({_usual(name)}) value is supported.",
                    name,
                    "unsupported_value",
                )


def _usual(name: str) -> int:
    return 1 if name in ("temperature", "top_p") else 0


def _stop(stop: Any) -> None:
    if isinstance(stop, list) and len(stop) > 4:
        raise PromptRejected(
            400,
            "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an "
            f"array with length {len(stop)} instead.",
            "stop",
            "array_above_max_length",
        )


def _message(message: dict[str, Any], path: str) -> None:
    role = message.get("role")
    openai.among(role, tuple(_OF_ROLE), f"{path}.role")
    openai.known(message, ("role", "content", "name", _MARK, *_OF_ROLE[str(role)]), f"{path}.")
    content = message.get("content")
    calls = message.get("tool_calls")
    if calls == []:
        raise PromptRejected(
            400,
            f"Invalid '{path}.tool_calls': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            f"{path}.tool_calls",
            "empty_array",
        )
    if content is None and not (
        role == "assistant" and (calls or message.get("refusal") or message.get("function_call"))
    ):
        raise PromptRejected(
            400,
            "Invalid value for 'content': expected a string, got null.",
            f"{path}.content",
        )
    if content == []:
        raise PromptRejected(400, f"Invalid '{path}.content': empty array.", f"{path}.content")
    for n, part in enumerate(content if isinstance(content, list) else ()):
        _part(part, str(role), f"{path}.content[{n}]")
    for n, call in enumerate(calls or ()):
        _call(call, f"{path}.tool_calls[{n}]")


def _part(part: dict[str, Any], role: str, path: str) -> None:
    kind = part.get("type")
    openai.among(kind, _PARTS[role], f"{path}.type")
    openai.known(part, ("type", str(kind), _MARK), f"{path}.")
    inside = part.get(str(kind))
    if kind in ("text", "refusal"):
        openai.text(inside, f"{path}.{kind}")
        return
    if not isinstance(inside, dict):
        openai.text(None, f"{path}.{kind}")
        return
    openai.known(inside, _INSIDE[str(kind)], f"{path}.{kind}.")
    if kind == "image_url":
        openai.image(inside.get("url"), f"{path}.image_url.url")


def _call(call: dict[str, Any], path: str) -> None:
    kind = call.get("type")
    openai.among(kind, ("function", "custom"), f"{path}.type")
    openai.known(call, ("id", "type", str(kind)), f"{path}.")
    openai.text(call.get("id"), f"{path}.id", 40)
    inside = call.get(str(kind)) or {}
    key = "arguments" if kind == "function" else "input"
    openai.known(inside, ("name", key), f"{path}.{kind}.")
    openai.name(inside.get("name"), f"{path}.{kind}.name", 64)
    openai.text(inside.get(key), f"{path}.{kind}.{key}")


def _pairs(messages: list[dict[str, Any]]) -> None:
    """Each tool call has its result right after it, and each result its call."""
    waiting: list[str] = []
    asked: set[str] = set()
    for at, message in enumerate(messages):
        if message["role"] == "tool":
            call_id = message.get("tool_call_id")
            openai.text(call_id, f"messages[{at}].tool_call_id", 40)
            if not asked:
                raise PromptRejected(
                    400,
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'.",
                    f"messages.[{at}].role",
                )
            if call_id not in asked:
                raise PromptRejected(
                    400,
                    f"Invalid parameter: 'tool_call_id' of '{call_id}' not found in 'tool_calls' "
                    "of previous message.",
                    f"messages.[{at}].tool_call_id",
                )
            waiting = [each for each in waiting if each != call_id]
            continue
        _all_answered(waiting, at)
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
        asked = set(waiting)
    _all_answered(waiting, len(messages))


def _all_answered(waiting: list[str], at: int) -> None:
    if waiting:
        raise PromptRejected(
            400,
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            + ", ".join(waiting),
            f"messages.[{at}].role",
        )


def _tools(given: dict[str, Any]) -> None:
    tools = given.get("tools")
    if tools == []:
        raise PromptRejected(
            400,
            "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an "
            "empty array instead.",
            "tools",
            "empty_array",
        )
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if given.get(name) is not None:
                raise PromptRejected(
                    400,
                    f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are "
                    "specified.",
                    name,
                )
    choice = given.get("tool_choice")
    if isinstance(choice, str):
        openai.among(choice, ("none", "auto", "required"), "tool_choice")
    for n, tool in enumerate(tools or ()):
        path = f"tools[{n}]"
        kind = tool.get("type")
        openai.among(kind, ("function", "custom"), f"{path}.type")
        openai.known(tool, ("type", str(kind)), f"{path}.")
        inside = tool.get(str(kind)) or {}
        keys = ("parameters", "strict") if kind == "function" else ("format",)
        openai.known(inside, ("name", "description", *keys), f"{path}.{kind}.")
        name = openai.name(inside.get("name"), f"{path}.{kind}.name", 64)
        if kind == "function":
            where = f"{path}.function.parameters"
            strict = bool(inside.get("strict"))
            openai.parameters(inside.get("parameters"), name, where, strict=strict)


def _said(messages: list[dict[str, Any]]) -> str:
    return json.dumps([message.get("content") for message in messages]).lower()
