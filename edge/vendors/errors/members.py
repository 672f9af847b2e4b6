"""Find the request's member that an upstream's refusal names.

It is named in a member of its own (`param`, `loc`), at the head of the message
("messages.1.content.0: ..."), in quotes ("Unsupported parameter: 'seed'"), or bare ("unknown field
seed"). The caller is shown only names that its own request has.
"""

import re
from collections.abc import Iterator, Mapping

from msgspec import Raw

from .body import ErrorBody

UNSUPPORTED = re.compile(
    r"unsupported[ _](?:parameter|argument|field)|not supported|does not support|doesn't support"
    r"|unsupported$|is unsupported|extra inputs are not permitted|extra[_ ]forbidden"
    r"|unrecogni[sz]ed|unknown (?:parameter|argument|field|name|property|key|request)"
    r"|unknown_parameter|unexpected keyword|additional properties|cannot find field"
    r"|is deprecated for this model|not permitted|unexpected (?:field|property)",
    re.IGNORECASE | re.MULTILINE,
)
_PATH = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+|\[\d+\])*")
_LEADING = re.compile(r"([a-z_]+(?:\.[\w-]+|\[\d+\])*): ")
_QUOTED = re.compile(r"(?<!\w)['\"`]([A-Za-z_][\w-]*(?:\.[\w-]+|\[\d+\])*)['\"`](?!\w)")
_BARE = re.compile(
    r"(?:parameter|argument|field|member|property|name|key)s?(?: supplied)?:? "
    r"([a-z_]\w*(?:\.[\w-]+|\[\d+\])*)"
    r"|\b([a-z_]\w*(?:\.[\w-]+|\[\d+\])*) (?:(?:parameter|is|are) )*"
    r"(?:not supported|unsupported|not allowed|not permitted|deprecated)"
)
_INVALID = re.compile(
    r"\b(?:[Ii]nvalid|[Bb]ad|[Uu]nsupported) (?:value for )?([a-z_]\w*(?:\.[\w-]+|\[\d+\])*):"
)
_PARTS = re.compile(r"\.?[A-Za-z_][\w-]*|\.\d+|\[\d+\]")
_ALWAYS = frozenset(("messages", "max_tokens", "model", "input"))
"""Members that an upstream may name although the caller left them out."""
_KNOWN = frozenset(
    (
        *("messages", "role", "content", "type", "text", "name", "id", "input", "output"),
        *("tools", "function", "parameters", "arguments", "strict", "input_schema", "custom"),
        *("tool_calls", "tool_call_id", "tool_use", "tool_use_id", "tool_result", "function_call"),
        *("call_id", "function_call_output", "format", "schema", "json_schema", "description"),
        *("image", "image_url", "url", "detail", "source", "data", "media_type", "filename"),
        *("file_data", "file_id", "file_url", "input_text", "input_image", "input_file"),
        *("input_audio", "output_text", "refusal", "thinking", "signature", "summary"),
        *("cache_control", "ttl", "budget_tokens", "effort", "verbosity", "include_usage"),
    )
)
"""Names of all dialects: a missing member may be at fault."""


def named(error: ErrorBody) -> Iterator[tuple[str, bool]]:
    """Paths in the refusal, the most reliable first; and whether they are marked as paths."""
    for path in error.paths:
        if _PATH.fullmatch(path):
            yield path, True
    for message in error.messages:
        if found := _LEADING.match(message):
            yield found[1], True
    for found in _QUOTED.finditer(error.text):
        yield found[1], False
    for found in _INVALID.finditer(error.text):
        yield found[1], False
    if UNSUPPORTED.search(error.text):
        for found in _BARE.finditer(error.text):
            yield found[1] or found[2], False


def root_of(path: str) -> str:
    """The top-level member of `path`."""
    return path.partition(".")[0].partition("[")[0]


def at_fault(error: ErrorBody, names: Mapping[str, Raw] | Mapping[str, str]) -> str | None:
    """The path of the upstream's member at fault, as the upstream writes it.

    None if the refusal names neither one of `names` nor a member that every request has.
    """
    for path, sure in named(error):
        root = root_of(path)
        if sure and root in _ALWAYS:
            return path
        if root in names and root != "model":
            return path
    return None


def callers_path(path: str, fields: Mapping[str, Raw]) -> str:
    """`path` for the caller of `fields`: without parts that only the upstream knows.

    A part stays if the request has it or a dialect defines it.
    """
    parts: list[str] = _PARTS.findall(path)
    held = bytes(fields.get(parts[0], b""))
    return parts[0] + "".join(part for part in parts[1:] if _is_callers(part, held))


def _is_callers(part: str, held: bytes) -> bool:
    name = part.lstrip(".")
    if name[0] == "[" or name.isdigit() or name in _KNOWN:
        return True
    return re.search(b'"' + re.escape(name.encode()) + rb'"\s*:', held) is not None
