"""Find the corrections for an upstream's refusal.

A refusal can be corrected if it names members that may be dropped, renamed or rewritten (`change`),
the request has them, and it names no others. Many servers repeat values of the request in their
refusal: a correction is not remembered if its words may come from such a value. Sources: the
vendors' messages for unsupported members.
"""

import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from edge.dialects.passthrough import UNREADABLE, Fields, decode_fields, encode
from edge.untyped_json import decode_any
from edge.vendors.errors.body import ErrorBody, read_error
from edge.vendors.errors.causes import unquoted
from edge.vendors.errors.members import UNSUPPORTED, named, root_of
from middlewares.exchange import Dialect

from .change import Correction, apply_correction

STATUSES = (400, 422)
"""Statuses of a refused member."""
_DROPPABLE = frozenset(
    (
        *("stream_options", "parallel_tool_calls", "store", "metadata", "user", "verbosity"),
        *("safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prediction"),
        *("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty"),
        *("frequency_penalty", "repetition_penalty", "reasoning_effort", "reasoning", "thinking"),
        *("tool_choice", "include", "cache_control", "context_management", "output_config"),
        *("reasoning.summary", "text.verbosity", "output_config.effort", "thinking.display"),
        *("stream_options.include_obfuscation", "response_format"),
    )
)
_SAMPLING = frozenset(("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty"))
_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_ECHOED = frozenset(
    (
        *("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "refusal"),
        *("annotations", "provider_specific_fields", "cache_control", "ttl", "scope"),
    )
)
"""Members of messages that clients send back from other upstreams, or for a cache."""
_INNER_OF_CACHE = ("ttl", "scope")
_FORBIDDEN = ("extra_forbidden", "unsupported_parameter", "unknown_parameter", "unsupported_value")
_PARTLY = re.compile(
    r"\b(?:when|unless|if|together|both|while|only|values?|thinking|effort|tools?)\b", re.IGNORECASE
)
"""Words of a refusal that depends on other members."""
_FIXED = re.compile(
    r"only (?:the default|1\b|supports? 1\b)|is deprecated|cannot both|not both|when thinking"
    r"|(?:must be|may only be|has to be) (?:set to )?1\b(?!\.[1-9])"
    r"|must be (?:unset|left out|omitted)",
    re.IGNORECASE,
)
"""Words that refuse a sampling value which other models accept."""
_DEFAULT = re.compile(r"only the default .*supported|is deprecated for this model", re.IGNORECASE)
_PROPERTY = re.compile(
    r"propert(?:y|ies)\W{1,3}(\w+)\W{1,3}(?:is|are) (?:unsupported|not supported)"
)
_LEVELS = re.compile(r"['\"`](none|minimal|low|medium|high|xhigh|max)['\"`]")
_ORDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_ENCRYPTED = [b'["reasoning.encrypted_content"]', b"[]"]
_OF_IMAGES = (b'"b64_json"', b'"url"')
"""Values of `response_format` at endpoints of images; the answer's form is then the model's own."""
_AUTO = (b'"auto"', b'{"type":"auto"}', b"null")
_TURNS = frozenset(("messages", "input", "system", "instructions", "tools"))
_LONGEST_VALUE = 16 << 10
"""Bytes of a value that is searched for words of a refusal; a longer one counts as having them."""

_WORDS = (UNSUPPORTED, _FIXED, _DEFAULT)

_Special = tuple[re.Pattern[str], Callable[[Fields], bool], Correction]


def _has(name: str, *held: bytes) -> Callable[[Fields], bool]:
    def has(fields: Fields) -> bool:
        raw = bytes(fields.get(name, b""))
        return bool(raw) and (not held or any(each in raw for each in held))

    return has


def _text(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


_SPECIAL: Mapping[Dialect, tuple[_Special, ...]] = {
    "anthropic": (
        (
            _text(r"thinking\.type\.enabled\W+is not supported|use \W*thinking\.type\.adaptive"),
            _has("thinking", b'"enabled"'),
            Correction("adaptive", "thinking", lasting=True),
        ),
        (
            _text(
                r"adaptive thinking is not supported|thinking\.type\.adaptive\W+is not supported"
            ),
            _has("thinking", b'"adaptive"'),
            Correction("budget", "thinking", lasting=True),
        ),
        (
            _text(r"expected `?thinking`? or `?redacted_thinking|thinking may not be enabled when"),
            _has("thinking"),
            Correction("drop", "thinking"),
        ),
        (
            _text(r"does not support the effort parameter|effort parameter is not supported"),
            _has("output_config", b'"effort"'),
            Correction("drop", "output_config.effort", lasting=True),
        ),
        (
            _text(r"invalid `?signature`? in `?thinking|signature\b.*\bthinking\b"),
            _has("messages", b'thinking"'),
            Correction("unsigned", "thinking"),
        ),
        (
            _text(r"maximum of \d+ blocks with cache_control"),
            _has("messages", b'"cache_control"'),
            Correction("strip", "cache_control"),
        ),
    ),
    "responses": (
        (
            _text(r"encrypted[_ ]content.*(?:verif|decrypt|invalid)|invalid_encrypted_content"),
            _has("input", b'"encrypted_content"'),
            Correction("unsigned", "encrypted_content"),
        ),
        (
            _text(r"encrypted content is not supported"),
            _has("include", b"reasoning.encrypted_content"),
            Correction("drop", "include", lasting=True),
        ),
        (
            _text(r"store\W+(?:must|has to) be (?:set to )?false"),
            _has("store"),
            Correction("set", "store", "false", lasting=True),
        ),
    ),
    "openai": (
        (
            _text(r"developer\b.*\b(?:role|expected one of|unknown variant)|role\b.*\bdeveloper\b"),
            _has("messages", b'"developer"'),
            Correction("system", "messages", lasting=True),
        ),
        (
            _text(r"(?:invalid|bad|corrupted).{0,20}\bsignature"),
            _has("messages", b'"signature"', b'"reasoning_details"'),
            Correction("unsigned", "thinking"),
        ),
    ),
}
"""Refusals with wordings of their own: pattern, test of the request, correction."""


class Remedy(msgspec.Struct, frozen=True):
    """A corrected request. changes: those that were made. body: the result."""

    changes: tuple[Correction, ...]
    body: bytes


def find_remedy(status: int, refusal: bytes, sent: bytes, dialect: Dialect) -> Remedy | None:
    """The corrected request; None if the refusal cannot be corrected.

    refusal: the body of the refusal. sent: the body of the request, in `dialect`.
    """
    if status not in STATUSES:
        return None
    try:
        fields = decode_fields(sent)
    except UNREADABLE:
        return None
    said = read_error(refusal)
    changes = _special(said, fields, dialect) or _by_name(said, fields, dialect)
    if any(change.lasting for change in changes) and any(
        _may_be_repeated(raw) for name, raw in fields.items() if name not in _TURNS
    ):
        changes = [replace(change, lasting=False) for change in changes]
    now = fields
    for change in changes:
        left = apply_correction(now, change, dialect)
        if left is now:
            return None
        now = left
    return Remedy(tuple(changes), encode(now)) if changes else None


def apply_corrections(body: bytes, changes: tuple[Correction, ...], dialect: Dialect) -> Remedy:
    """`body` with those of `changes` that it needs."""
    fields = decode_fields(body)
    made = []
    for change in changes:
        left = apply_correction(fields, change, dialect)
        if left is not fields:
            made.append(change)
            fields = left
    return Remedy(tuple(made), encode(fields) if made else body)


def _may_be_repeated(raw: Raw) -> bool:
    """Whether a value has words of a refusal, which the upstream may have repeated."""
    held = bytes(raw)
    if held[:1] not in (b'"', b"{", b"["):
        return False
    if len(held) > _LONGEST_VALUE:
        return True
    try:
        text = str(decode_any(held))
    except UNREADABLE:
        return True
    return any(words.search(text) for words in _WORDS)


def _special(said: ErrorBody, fields: Fields, dialect: Dialect) -> list[Correction]:
    text = "\n".join((said.text, *said.codes))
    for words, has, change in _SPECIAL[dialect]:
        if words.search(text) and has(fields):
            return [change]
    return []


def _by_name(said: ErrorBody, fields: Fields, dialect: Dialect) -> list[Correction]:
    property_ = _PROPERTY.search(said.text)
    if property_ is not None and property_[1] in _ECHOED:  # as Groq says it
        return [Correction("strip", property_[1], lasting=True)]
    paths = [path for path in dict.fromkeys(said.paths) if root_of(path) in fields]
    if not paths:
        paths = [path for path, _ in named(said) if root_of(path) in fields][:1]
    changes: dict[Correction, None] = {}
    for path in paths:
        change = _change(path, said, fields, dialect)
        if change is None:
            return []
        changes[change] = None
    return list(changes)


def _change(path: str, said: ErrorBody, fields: Fields, dialect: Dialect) -> Correction | None:
    names = [part for part in re.split(r"[.\[\]]+", path) if part and not part.isdigit()]
    root = names[0]
    if bytes(fields[root]).startswith(b'"') and _may_be_repeated(fields[root]):
        return None
    text = said.text
    coded = any(code in said.codes for code in _FORBIDDEN)
    unknown = coded or UNSUPPORTED.search(text) is not None
    lasting = unknown and not _PARTLY.search(unquoted(text).replace(root, ""))
    if len(names) > 1 and root in ("messages", "input", "system", "tools"):
        return _strip(names, lasting) if unknown else None
    if root in _LIMITS:
        return Correction("rename", root, _LIMITS[root], lasting) if unknown else None
    if root in ("reasoning_effort", "reasoning") and (level := _nearest(fields, root, text)):
        return level
    if root in _SAMPLING:
        return _sampling(root, text, fields, unknown=unknown, lasting=lasting)
    member = ".".join(names[:2])
    if member not in _DROPPABLE:
        member = root
    if member not in _DROPPABLE or not (unknown or _is_conditional(text)):
        return None
    return _drop(member, fields, lasting, dialect)


def _sampling(
    member: str, text: str, fields: Fields, *, unknown: bool, lasting: bool
) -> Correction | None:
    if not unknown and not _FIXED.search(text):
        return None
    if member == "temperature" and "top_p" in fields and "both" in text:
        member = "top_p"
    return Correction("drop", member, lasting=lasting or _DEFAULT.search(text) is not None)


def _is_conditional(text: str) -> bool:
    return re.search(r"only allowed (?:when|if)|requires? tools", text) is not None


def _strip(names: list[str], lasting: bool) -> Correction | None:
    leaf = names[-1]
    if leaf not in _ECHOED:
        return None
    if leaf in _INNER_OF_CACHE:
        if "cache_control" not in names:
            return None
        leaf = f"cache_control.{leaf}"
    return Correction("strip", leaf, lasting=lasting)


def _drop(member: str, fields: Fields, lasting: bool, dialect: Dialect) -> Correction | None:
    raw = bytes(fields[root_of(member)]).replace(b" ", b"")
    if member == "stream_options" and raw != b'{"include_usage":true}':
        # Only the caller's own options are dropped; usage is always requested.
        return Correction("set", "stream_options", '{"include_usage":true}')
    if member == "tool_choice" and raw not in _AUTO:
        return None  # without it no tool might be called
    if member == "include" and raw not in _ENCRYPTED:
        return None
    if member == "response_format" and raw not in _OF_IMAGES:
        return None  # the form of a text, or of audio, was requested
    if member == "output_config" and b'"format"' in raw:
        return None
    if member == "thinking" and b'"disabled"' in raw and dialect != "openai":
        return None  # it would think then
    return Correction("drop", member, lasting=lasting)


def _nearest(fields: Fields, member: str, text: str) -> Correction | None:
    """The level nearest to the requested one, of those that the refusal lists."""
    raw = bytes(fields[member])
    asked = _LEVELS.search(raw.decode("utf-8", "replace"))
    if asked is None:
        return None
    listed = [level for level in dict.fromkeys(_LEVELS.findall(text)) if level != asked[1]]
    if not listed:
        return None
    at = _ORDER.index(asked[1])
    level = min(listed, key=lambda one: (abs(_ORDER.index(one) - at), -_ORDER.index(one)))
    value = encode(level)
    if member == "reasoning":
        value = encode({**decode_fields(Raw(raw)), "effort": level})
    return Correction("set", member, value.decode())
