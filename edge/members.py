"""Names of request members, compared as lenient servers compare them.

Servers written in Go take `MODEL` for `model`, and a long s for an s; of several, the last one.
A body that passes through could then mean another model, or another bound, than was checked and
reserved. A member that differs only in case from one that this gateway reads is refused, at the top
and inside the objects whose members it reads in passing.
"""

from collections.abc import Collection, Mapping

import msgspec

from middlewares.problem import Problem

Fields = Mapping[str, msgspec.Raw]

READ = frozenset(
    (
        "audio",
        "background",
        "best_of",
        "cache_control",
        "container",
        "context_management",
        "conversation",
        "dimensions",
        "echo",
        "encoding_format",
        "frequency_penalty",
        "function_call",
        "functions",
        "include",
        "input",
        "instructions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "max_tool_calls",
        "mcp_servers",
        "messages",
        "metadata",
        "modalities",
        "model",
        "models",
        "n",
        "output_config",
        "output_format",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "speed",
        "inference_geo",
        "stop",
        "stop_sequences",
        "store",
        "stream",
        "stream_options",
        "suffix",
        "system",
        "temperature",
        "text",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
        "verbosity",
        "web_search_options",
    )
)
"""Top-level members of the dialects that callers speak."""
_NESTED = {
    "stream_options": frozenset(("include_usage",)),
    "thinking": frozenset(("budget_tokens", "display", "type")),
    "reasoning": frozenset(("effort", "enabled", "exclude", "max_tokens", "summary")),
}
"""Of objects that pass: the members that are read, or set."""
_FLAT = READ - _NESTED.keys()
"""Members in which no names are compared."""

_USUAL = (b'{"include_usage":true}', b'{"include_usage": true}')

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def check_names(fields: Fields) -> None:
    """Raise Problem for a member that differs from one that is read only in case."""
    if _FLAT.issuperset(fields):
        return
    if not READ.issuperset(fields):
        _check(fields, READ, "")
    for holder, names in _NESTED.items():
        raw = fields.get(holder)
        if raw is None or bytes(raw) in _USUAL:
            continue
        try:
            inner = _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # no object, and for others to refuse
        if not names.issuperset(inner):
            _check(inner, names, f"{holder}.")


def _check(fields: Fields, names: Collection[str], path: str) -> None:
    for name in fields:
        meant = name.casefold()
        if meant in names and name not in names:
            raise Problem(
                "invalid_request",
                message=f"Unknown parameter: `{path}{name}`. Names are case-sensitive: write "
                f"`{path}{meant}`.",
                param=f"{path}{name}",
                issue=f"expected `{path}{meant}`",
                extra={"code": "unknown_parameter"},
            )
