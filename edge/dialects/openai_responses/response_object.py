"""The response object, sent at the start of a stream and at the end of every answer.

Open Responses requires every member here, and OpenAI's clients read most: members that the caller
set are repeated, others have the API's default. They are encoded once when the answer begins, so
that the request need not be kept in memory during its answer.
Source: OpenAI API reference, "The response object"; Open Responses, 2026-04-24.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from edge.dialects.codec import Caller
from edge.dialects.passthrough import UNREADABLE, Fields, encode
from edge.untyped_json import decode_any
from middlewares.exchange import Usage

_NULL = msgspec.Raw(b"null")
_DEFAULTS: dict[str, msgspec.Raw] = {
    "instructions": _NULL,
    "max_output_tokens": _NULL,
    "max_tool_calls": _NULL,
    "metadata": msgspec.Raw(b"{}"),
    "parallel_tool_calls": msgspec.Raw(b"true"),
    "prompt_cache_key": _NULL,
    "safety_identifier": _NULL,
    "temperature": msgspec.Raw(b"1.0"),
    "tool_choice": msgspec.Raw(b'"auto"'),
    "top_logprobs": msgspec.Raw(b"0"),
    "top_p": msgspec.Raw(b"1.0"),
}
_FIXED: dict[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "truncation": "disabled",
}
_TOOL: dict[str, msgspec.Raw] = {"description": _NULL, "parameters": _NULL, "strict": _NULL}
_TIERS = ("flex", "priority", "scale")

_decode_tools = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


class ResponseObject:
    """The response object of one answer in each state, as JSON. Times are Unix seconds."""

    __slots__ = ("_behind", "_head")

    def __init__(self, caller: Caller) -> None:
        head = {
            "id": f"resp_{caller.id}",
            "object": "response",
            "created_at": caller.created,
            "model": caller.model,
        }
        state = {
            "previous_response_id": caller.echo.get("previous_response_id"),
            "store": bool(caller.echo.get("store", False)),
        }
        self._head = encode(head)[:-1] + b',"status":'
        self._behind = b"," + encode({**_FIXED, **state, **_echoed(caller.fields)})[1:]

    def running(self) -> bytes:
        """The object in progress."""
        return self._encode("in_progress")

    def completed(self, output: Iterable[bytes], usage: Usage, at: int) -> bytes:
        """The completed object. output: finished items."""
        return self._encode("completed", output=output, usage=usage, completed_at=at)

    def incomplete(self, output: Iterable[bytes], usage: Usage, reason: str) -> bytes:
        """The incomplete object."""
        return self._encode("incomplete", output=output, usage=usage, details={"reason": reason})

    def failed(self, output: Iterable[bytes], code: str, message: str) -> bytes:
        """The failed object."""
        return self._encode("failed", output=output, error={"code": code, "message": message})

    def _encode(
        self,
        status: str,
        *,
        output: Iterable[bytes] = (),
        usage: Usage | None = None,
        completed_at: int | None = None,
        details: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> bytes:
        return b"".join(
            (
                self._head,
                encode(status),
                b',"completed_at":',
                encode(completed_at),
                b',"error":',
                encode(error),
                b',"incomplete_details":',
                encode(details),
                b',"output":[',
                b",".join(output),
                b'],"usage":',
                encode(None if usage is None else usage_of(usage)),
                self._behind,
            )
        )


def usage_of(usage: Usage) -> dict[str, Any]:
    """`usage` in the API's form: cached tokens are part of the input's."""
    read = usage.input + usage.cache_read + usage.cache_write
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
        },
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": read + usage.output,
    }


def _echoed(fields: Fields) -> dict[str, Any]:
    """The members that the caller set, else their defaults. The request is valid."""
    out: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        value = fields.get(name, _NULL)
        out[name] = default if bytes(value) == b"null" else value
    tier = _value(fields, "service_tier")
    out["service_tier"] = tier if tier in _TIERS else "default"
    out["reasoning"] = _reasoning(_value(fields, "reasoning"))
    out["text"] = _text(_value(fields, "text"))
    out["tools"] = _tools(fields.get("tools", _NULL))
    return out


def _value(fields: Fields, name: str) -> Any:
    try:
        return decode_any(fields.get(name, _NULL))
    except UNREADABLE:
        return None


def _reasoning(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    return {"effort": value.get("effort"), "summary": value.get("summary")}


def _text(value: Any) -> dict[str, Any]:
    text = value if isinstance(value, dict) else {}
    form = text.get("format") or {"type": "text"}
    if form.get("type") == "json_schema":
        form = {"description": None, **form, "strict": bool(form.get("strict"))}
    out: dict[str, Any] = {"format": form}
    if text.get("verbosity"):
        out["verbosity"] = text["verbosity"]
    return out


def _tools(value: msgspec.Raw) -> list[dict[str, msgspec.Raw]]:
    """The tools unchanged; functions with their optional members."""
    try:
        tools = _decode_tools(value)
    except UNREADABLE:
        return []
    return [{**_TOOL, **tool} if _is_function(tool) else tool for tool in tools]


def _is_function(tool: dict[str, msgspec.Raw]) -> bool:
    return bytes(tool.get("type", _NULL)) == b'"function"'
