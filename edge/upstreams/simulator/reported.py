"""Usage reported by an answer that broke off. No I/O."""

from collections.abc import Iterable
from typing import Any

import msgspec

from edge.untyped_json import decode_any

from .stats import Used

_DATA = b"data: {"


def reported(model: str, writes: Iterable[bytes]) -> Used | None:
    """The last usage in the written part of a stream of any dialect, or None.

    Half of an unstreamed body contains no readable usage.
    """
    found = None
    for line in b"".join(writes).split(b"\n"):
        if line.startswith(_DATA) and b'"usage"' in line:
            try:
                event = decode_any(line[len(_DATA) - 1 :])
            except msgspec.DecodeError:
                continue
            found = _usage(event) or found
    return None if found is None else _used(model, found)


def _usage(event: dict[str, Any]) -> dict[str, Any] | None:
    for holder in (event, event.get("message"), event.get("response")):
        if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
            usage: dict[str, Any] = holder["usage"]
            return usage
    return None


def _used(model: str, usage: dict[str, Any]) -> Used:
    if "cache_read_input_tokens" in usage:
        read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
        return Used(model, usage["input_tokens"], read, written, usage["output_tokens"])
    word = "prompt" if "prompt_tokens" in usage else "input"
    details = usage[f"{word}_tokens_details"]
    read, written = details["cached_tokens"], details.get("cache_write_tokens", 0)
    uncached = usage[f"{word}_tokens"] - read - written
    return Used(
        model,
        uncached,
        read,
        written,
        usage.get("completion_tokens", usage.get("output_tokens", 0)),
    )
