"""What must hold between the parts of one value."""

import json
from collections.abc import Collection, Iterable
from typing import Any

_CUT_SHORT = {"length", "max_tokens", "model_context_window_exceeded", "incomplete"}


def expect(true: object, at: str, message: str) -> None:
    """Raises AssertionError unless `true`."""
    if not true:
        raise AssertionError(f"{at}: {message}")


class BrokenArguments(AssertionError):
    """The arguments of a call are not what they should be; the model's fault, or the gateway's."""


def input_of_call(arguments: str, at: str, stop: str) -> Any:
    """The arguments of a call as a JSON object; {} when an end by length has cut them."""
    try:
        value = json.loads(arguments)
    except ValueError:
        if stop in _CUT_SHORT:
            return {}
        raise BrokenArguments(
            f"{at}: not JSON, and nothing has cut it short: {arguments!r}"
        ) from None
    if not isinstance(value, dict):
        raise BrokenArguments(f"{at}: the arguments of a call are no object: {arguments!r}")
    return value


def different(ids: Collection[str], at: str) -> None:
    """No id twice, none empty."""
    expect(all(ids), at, f"an empty id among {list(ids)}")
    expect(len(set(ids)) == len(ids), at, f"an id comes twice: {list(ids)}")


def finish_fits(finish: str, calls: bool, at: str) -> None:
    """Chat: calls finish with `tool_calls`, and nothing else does; a cut may hit anything."""
    if finish in ("tool_calls", "function_call"):
        expect(calls, at, f"{finish} without a call")
    elif finish == "stop":
        expect(not calls, at, "there are calls, and it says stop")


def stop_fits(stop: str, calls: bool, at: str) -> None:
    """Messages: calls stop with `tool_use`, and nothing else does; a cut may hit anything."""
    if stop == "tool_use":
        expect(calls, at, "tool_use without a call")
    elif stop == "end_turn":
        expect(not calls, at, "there are calls, and it says end_turn")


def completion_usage(usage: dict[str, Any], at: str) -> None:
    """The total is the sum, and no part is more than its whole."""
    prompt, output = usage["prompt_tokens"], usage["completion_tokens"]
    _sum(usage["total_tokens"], prompt, output, at)
    details = usage.get("prompt_tokens_details") or {}
    _parts(prompt, (details.get("cached_tokens"), details.get("cache_write_tokens")), at)
    _parts(output, ((usage.get("completion_tokens_details") or {}).get("reasoning_tokens"),), at)


def response_usage(usage: dict[str, Any], at: str) -> None:
    """As `completion_usage`, in the words of Responses."""
    given, output = usage["input_tokens"], usage["output_tokens"]
    _sum(usage["total_tokens"], given, output, at)
    details = usage["input_tokens_details"]
    _parts(given, (details["cached_tokens"], details.get("cache_write_tokens")), at)
    _parts(output, (usage["output_tokens_details"]["reasoning_tokens"],), at)


def _sum(total: int, given: int, output: int, at: str) -> None:
    expect(total == given + output, at, f"total_tokens {total} is not {given} + {output}")


def _parts(whole: int, parts: Iterable[int | None], at: str) -> None:
    known = [part or 0 for part in parts]
    expect(sum(known) <= whole, at, f"{known} is more than the {whole} it is part of")


def chat(body: dict[str, Any]) -> None:
    indices = [choice["index"] for choice in body["choices"]]
    expect(indices == list(range(len(indices))), "choices", f"the indices are {indices}")
    for n, choice in enumerate(body["choices"]):
        at = f"choices[{n}]"
        message, finish = choice["message"], choice["finish_reason"]
        calls = message.get("tool_calls") or []
        different([call["id"] for call in calls], f"{at}.message.tool_calls")
        for k, call in enumerate(calls):
            if call["type"] == "function":
                arguments = call["function"]["arguments"]
                input_of_call(arguments, f"{at}.message.tool_calls[{k}]", finish)
        legacy = message.get("function_call")
        finish_fits(finish, bool(calls or legacy), at)
        if message["content"] is None:
            spoken = calls or legacy or message["refusal"] or message.get("audio")
            expect(spoken, f"{at}.message.content", "null, and no call or refusal beside it")
    completion_usage(body["usage"], "usage")


def chunk(value: dict[str, Any]) -> None:
    if value.get("usage") is not None:
        completion_usage(value["usage"], "usage")


def text_completion(body: dict[str, Any]) -> None:
    indices = [choice["index"] for choice in body["choices"]]
    expect(indices == list(range(len(indices))), "choices", f"the indices are {indices}")
    completion_usage(body["usage"], "usage")


def message(body: dict[str, Any]) -> None:
    calls = [block for block in body["content"] if block["type"] == "tool_use"]
    different([call["id"] for call in calls], "content")
    stop_fits(body["stop_reason"], bool(calls), "stop_reason")
    named = body["stop_sequence"] is not None
    expect(not named or body["stop_reason"] == "stop_sequence", "stop_sequence", "not the reason")


def response(body: dict[str, Any]) -> None:
    output, status = body["output"], body["status"]
    different([item["id"] for item in output if "id" in item], "output")
    different([item["call_id"] for item in output if item["type"] in _CALLS], "output")
    states = [item.get("status") or "completed" for item in output]
    finished = states if status == "completed" else states[:-1]
    if status in ("completed", "incomplete"):
        expect(set(finished) <= {"completed"}, "output", f"{status}, and the items are {states}")
    for n, (item, state) in enumerate(zip(output, states, strict=True)):
        if item["type"] == "function_call" and status != "failed":
            cut = "incomplete" if "incomplete" in (state, status) else ""
            input_of_call(item["arguments"], f"output[{n}].arguments", cut)
    if body["usage"] is not None:
        response_usage(body["usage"], "usage")


_CALLS = ("function_call", "custom_tool_call")


def event(value: dict[str, Any]) -> None:
    """The Python SDK raises on a truthy `error` in any event."""
    expect(value["type"] == "error" or not value.get("error"), "error", "set in a good event")
    if "response" in value:
        response(value["response"])


def embeddings(body: dict[str, Any]) -> None:
    indices = [item["index"] for item in body["data"]]
    expect(indices == list(range(len(indices))), "data", f"the indices are {indices}")
