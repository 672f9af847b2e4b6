"""Refuse request members whose names differ only in case from known ones.

Servers written in Go take `MODEL` for `model`, and a long s for an s; of several members, the last.
A body that passes through could then mean another model, or another limit, than was checked and
reserved. Such names are refused at the top level and in the objects whose members the gateway
reads; `edge.requests.content_names` checks turns and tools.
"""

from collections.abc import Collection, Mapping, MutableMapping

import msgspec

from edge.endpoints import ENDPOINTS, Codec
from middlewares.problem import Problem, invalid_value

Fields = MutableMapping[str, msgspec.Raw]

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
        "instructions",
        "logit_bias",
        "logprobs",
        "max_tool_calls",
        "mcp_servers",
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
        *("size", "quality", "partial_images", "frame_count", "svg", "stream_format"),
        *(name for row in ENDPOINTS for name in row.required),
        *(name for row in ENDPOINTS for name in row.bounds),
    )
)
"""Top-level members of the dialects that callers speak."""
_FORMAT = frozenset(("type", "name", "description", "schema", "strict", "json_schema"))
_NESTED = {
    "stream_options": frozenset(("include_usage",)),
    "thinking": frozenset(("budget_tokens", "display", "type")),
    "reasoning": frozenset(("effort", "enabled", "exclude", "max_tokens", "summary")),
    "response_format": _FORMAT,
    "text": frozenset(("format", "verbosity")),
    "output_format": _FORMAT,
    "output_config": frozenset(("effort", "format", "task_budget")),
    "tool_choice": frozenset(
        ("type", "name", "function", "mode", "tools", "disable_parallel_tool_use", "allowed_tools")
    ),
    "cache_control": frozenset(("type", "ttl")),
    "web_search_options": frozenset(("search_context_size", "user_location")),
    "audio": frozenset(("format", "voice")),
    "prediction": frozenset(("type", "content")),
}
"""Members that are read or set, by the object that holds them."""
_FORMATS = ("json_schema", "format")
"""Members of those objects that hold an output format."""
_BY_CODEC = {"messages": {"metadata": frozenset(("user_id",))}}
"""Objects whose members are the caller's own at other endpoints."""
_FLAT = READ - _NESTED.keys()
"""Members without nested names to compare."""

_USUAL = (b'{"include_usage":true}', b'{"include_usage": true}')
_LONGEST_USUAL = max(map(len, _USUAL))
_OBJECT = ord("{")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def check_names(fields: Fields, codec: Codec | None = None) -> None:
    """Raise Problem for a member that differs only in case from one that is read.

    Objects whose members are read are encoded again if they are not compact JSON, so that of two
    members of one name only the last is sent, the one that is read here.
    """
    if codec in _BY_CODEC:
        _check_nested(fields, _BY_CODEC[codec])
    if _FLAT.issuperset(fields):
        return
    if not READ.issuperset(fields):
        _check(fields, READ, "")
    _check_nested(fields, _NESTED)


def _check_nested(fields: Fields, nested: Mapping[str, Collection[str]]) -> None:
    for holder, names in nested.items():
        if holder in fields:
            _check_inside(fields, holder, names, f"{holder}.")


def _check_inside(fields: Fields, holder: str, names: Collection[str], path: str) -> None:
    raw = fields[holder]
    if memoryview(raw)[0] != _OBJECT:
        return  # the decoder of the request refuses it
    if len(raw) <= _LONGEST_USUAL and bytes(raw) in _USUAL:
        return
    try:
        inner = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid_value(path[:-1], "it has a name that is not UTF-8") from None
    _check(inner, names, path)
    for name in _FORMATS:
        if name in inner:
            _check_inside(inner, name, _FORMAT, f"{path}{name}.")
    again = _encode(inner)
    if len(again) != len(raw):
        fields[holder] = msgspec.Raw(again)


def _check(fields: Mapping[str, msgspec.Raw], names: Collection[str], path: str) -> None:
    for name in fields:
        if name not in names and (meant := name.casefold()) in names:
            raise misspelt(f"{path}{name}", meant)


def misspelt(path: str, meant: str) -> Problem:
    """The refusal of the member at `path`, whose name casefolds to `meant`."""
    holder, dot, _ = path.rpartition(".")
    right = f"{holder}{dot}{meant}"
    return Problem(
        "invalid_request",
        message=f"Unknown parameter: `{path}`. Names are case-sensitive: write `{right}`.",
        param=path,
        issue=f"expected `{right}`",
        extra={"code": "unknown_parameter"},
    )
