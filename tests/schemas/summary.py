"""What an answer says, in no dialect, so that answers can be compared across them."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .surfaces import Surface, check

Dialect = Literal["chat", "completions", "messages", "responses"]
Call = tuple[str, str, str]
"""Id, name, and arguments as compact JSON with sorted keys; text that is no JSON stays as it is."""

BODIES: dict[Dialect, Surface] = {
    "chat": "chat.completion",
    "completions": "text_completion",
    "messages": "message",
    "responses": "response",
}


@dataclass(frozen=True)
class Summary:
    """An answer, whole or streamed.

    stop: "end", "length", "tools", "refusal", "pause" or "error". usage: tokens under `input`
    (not from or to the cache), `cache_read`, `cache_write`, `output`, and of that `reasoning`;
    None when the stream was not asked for it. others: choices after the first.

    Not compared, because not every dialect can tell: refusal, the words of it where they stand
    apart from the text; stop_string, the string that ended it.
    """

    text: str
    thinking: str
    calls: tuple[Call, ...]
    stop: str
    usage: dict[str, int] | None
    refusal: str = field(default="", compare=False)
    stop_string: str | None = field(default=None, compare=False)
    others: tuple["Summary", ...] = ()

    def without_ids(self) -> "Summary":
        """The same with the ids of calls left out: another request may be given others."""
        calls = tuple(("", name, arguments) for _, name, arguments in self.calls)
        return replace(self, calls=calls, others=tuple(s.without_ids() for s in self.others))


def summary(dialect: Dialect, body: Any) -> Summary:
    """What an unstreamed answer says; its body, as JSON or bytes, is checked first."""
    body = check(BODIES[dialect], body)
    if dialect == "chat":
        return of_choices([_chat_choice(choice) for choice in body["choices"]], body["usage"])
    if dialect == "completions":
        return of_choices(
            [
                Summary(choice["text"], "", (), stop_of_finish(choice["finish_reason"]), None)
                for choice in body["choices"]
            ],
            body["usage"],
        )
    return of_message(body) if dialect == "messages" else of_response(body)


def call_of(id_: str, name: str, arguments: str) -> Call:
    """A call with its arguments in canonical form."""
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return id_, name, arguments
    return id_, name, json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def custom_call_of(id_: str, name: str, text: str) -> Call:
    """A call of a custom tool, as dialects without these see it."""
    return call_of(id_, name, json.dumps({"input": text}))


def of_choices(choices: list[Summary], usage: dict[str, Any] | None) -> Summary:
    """The first choice, with the others in it and the usage of all."""
    first = choices[0]
    return Summary(
        first.text,
        first.thinking,
        first.calls,
        first.stop,
        None if usage is None else _completion_usage(usage),
        first.refusal,
        first.stop_string,
        tuple(choices[1:]),
    )


def _chat_choice(choice: dict[str, Any]) -> Summary:
    message = choice["message"]
    calls = []
    for call in message.get("tool_calls") or []:
        if call["type"] == "custom":
            calls.append(
                custom_call_of(call["id"], call["custom"]["name"], call["custom"]["input"])
            )
        else:
            function = call["function"]
            calls.append(call_of(call["id"], function["name"], function["arguments"]))
    if legacy := message.get("function_call"):
        calls.append(call_of("", legacy["name"], legacy["arguments"]))
    return Summary(
        message["content"] or "",
        message.get("reasoning_content") or "",
        tuple(calls),
        stop_of_finish(choice["finish_reason"]),
        None,
        message["refusal"] or "",
    )


def stop_of_finish(finish: str) -> str:
    """In neutral words: the `finish_reason` of OpenAI."""
    return {
        "stop": "end",
        "length": "length",
        "tool_calls": "tools",
        "function_call": "tools",
        "content_filter": "refusal",
    }[finish]


def of_message(body: dict[str, Any]) -> Summary:
    """A whole message, or one put together from its stream."""
    blocks = body["content"]
    return Summary(
        "".join(block["text"] for block in blocks if block["type"] == "text"),
        "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        tuple(
            call_of(block["id"], block["name"], _text_of(block["input"]))
            for block in blocks
            if block["type"] == "tool_use"
        ),
        {
            "end_turn": "end",
            "stop_sequence": "end",
            "max_tokens": "length",
            "model_context_window_exceeded": "length",
            "tool_use": "tools",
            "refusal": "refusal",
            "pause_turn": "pause",
            None: "error",
        }[body["stop_reason"]],
        _message_usage(body["usage"]),
        stop_string=body["stop_sequence"],
    )


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def of_response(body: dict[str, Any]) -> Summary:
    """A whole response, or the one in the last event of its stream."""
    text, refusal, thinking, calls = "", "", "", []
    for item in body["output"]:
        if item["type"] == "message":
            text += "".join(part.get("text", "") for part in item["content"])
            refusal += "".join(part.get("refusal", "") for part in item["content"])
        elif item["type"] == "reasoning":
            parts = [*item["summary"], *item.get("content", [])]
            thinking += "\n\n".join(part["text"] for part in parts)
        elif item["type"] == "function_call":
            calls.append(call_of(item["call_id"], item["name"], item["arguments"]))
        elif item["type"] == "custom_tool_call":
            calls.append(custom_call_of(item["call_id"], item["name"], item["input"]))
    usage = body["usage"]
    return Summary(
        text,
        thinking,
        tuple(calls),
        _stop_of_response(body, bool(calls)),
        None if usage is None else _response_usage(usage),
        refusal,
    )


def _stop_of_response(body: dict[str, Any], calls: bool) -> str:
    if body["status"] == "incomplete":
        reason = body["incomplete_details"]["reason"]
        return {"max_output_tokens": "length", "content_filter": "refusal"}.get(reason, "end")
    if body["status"] != "completed":
        return "error"
    return "tools" if calls else "end"


def _completion_usage(usage: dict[str, Any]) -> dict[str, int]:
    given = usage.get("prompt_tokens_details") or {}
    made = usage.get("completion_tokens_details") or {}
    return _disjoint(usage["prompt_tokens"], usage["completion_tokens"], given, made)


def _response_usage(usage: dict[str, Any]) -> dict[str, int]:
    given, made = usage["input_tokens_details"], usage["output_tokens_details"]
    return _disjoint(usage["input_tokens"], usage["output_tokens"], given, made)


def _disjoint(
    given: int, made: int, of_given: dict[str, Any], of_made: dict[str, Any]
) -> dict[str, int]:
    read = of_given.get("cached_tokens") or 0
    written = of_given.get("cache_write_tokens") or 0
    return {
        "input": given - read - written,
        "cache_read": read,
        "cache_write": written,
        "output": made,
        "reasoning": of_made.get("reasoning_tokens") or 0,
    }


def _message_usage(usage: dict[str, Any]) -> dict[str, int]:
    return {
        "input": usage["input_tokens"],
        "cache_read": usage["cache_read_input_tokens"],
        "cache_write": usage["cache_creation_input_tokens"],
        "output": usage["output_tokens"],
        "reasoning": (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    }
