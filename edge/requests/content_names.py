"""Check the member names inside a request's turns and tools before they pass to the upstream.

A server that ignores letter case, or takes the first of two members of one name, could read another
request than the one that was checked and paid for. And some members name objects in the vendor's
account (`edge.requests.vendor_objects`). So the objects whose members the gateway or a vendor reads
are searched once, without decoding their values:

    a member that casefolds to a known one  refused by its path
    a member that names a vendor's object   refused by its path, as are links to private objects;
                                            only parts may name a file, of the caller (`files`)
    the same member twice                   only the last is sent, which the gateway reads too

Free JSON is not searched: arguments and results of calls, schemas, metadata, unless a vendor reads
members in it. Values stay the bytes they came in; JSON that is not compact is encoded again,
without spaces and duplicates.
"""

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Self

import msgspec

from edge.untyped_json import decode_any
from middlewares.problem import Problem

from .common_turns import check_tools, check_turns
from .member_names import READ, misspelt
from .output_limit import plain
from .vendor_objects import (
    ANYWHERE,
    LINKS,
    MODELS,
    NOTHING,
    PLACES,
    TOP,
    is_private_link,
    refused,
    refused_link,
    refused_model,
    refused_place,
)

Fields = MutableMapping[str, msgspec.Raw]

_DEEPEST = 64
"""Levels of objects that are searched; no dialect has ten."""

_TURNS = ("messages", "input", "system")
_TOOLS = ("tools", "functions")
_REFERRING = TOP | ANYWHERE
_USUAL = READ - TOP
"""Top-level members that refer to nothing, or are searched separately."""
_LONGEST_NOTHING = max(map(len, NOTHING))

_SAID = frozenset(
    (
        *("type", "role", "content", "text", "name", "id", "status", "phase", "refusal", "index"),
        *("tool_calls", "tool_call_id", "function_call", "function", "reasoning_content"),
        *("tool_use_id", "input", "is_error", "cache_control", "citations", "caller"),
        *("thinking", "signature", "data", "media_type", "title", "context", "detail"),
        *("call_id", "arguments", "output", "summary", "encrypted_content", "namespace", "tools"),
        *(
            "annotations",
            "logprobs",
            "results",
            "action",
            "code",
            "outputs",
            "error",
            "server_label",
        ),
        *("source", "file", "filename", "file_data", "format", "input_audio", "audio", "reasoning"),
        *("reasoning_details", "prompt_cache_breakpoint", "approval_request_id", "server_label"),
        *("acknowledged_safety_checks", "pending_safety_checks", "max_output_length", "result"),
        *("page_age", "encrypted_index", "retrieved_at", "partial", "prefix", "weight"),
        *LINKS,
    )
)
"""Members of messages, items, parts and their sources."""
_OFFERED = frozenset(
    (
        *("type", "name", "description", "function", "parameters", "input_schema", "strict"),
        *("cache_control", "tools", "format", "max_uses", "allowed_domains", "blocked_domains"),
        *("user_location", "search_context_size", "display_width_px", "display_height_px"),
        *("display_number", "display_width", "display_height", "environment", "server_url"),
        *("server_label", "server_description", "require_approval", "allowed_tools", "headers"),
        *("authorization", "defer_loading", "input_examples", "allowed_callers", "citations"),
        *("eager_input_streaming", "max_content_tokens", "filters", "ranking_options"),
        *("max_num_results", "size", "quality", "background", "output_format", "moderation"),
        *("output_compression", "partial_images", "input_fidelity", "model", "max_characters"),
        *("external_web_access", "execution", "output_schema", "ttl", "skills", "url", "container"),
    )
)
"""Members of tools."""
_HELD = frozenset(
    (
        *("type", "skills", "memory_limit", "network_policy", "expires_after", "name"),
        *("description", "version", "source", "path"),
    )
)
"""Members of containers, environments and skills."""
_CACHE = frozenset(("type", "ttl", "scope"))
_FREE = frozenset(("parameters", "input_schema", "schema", "metadata", "headers", "properties"))
"""Members of unknown objects that hold free JSON."""


class _Kind(msgspec.Struct, eq=False):
    """A kind of objects.

    names: its members; another name that casefolds to one of them is refused. entered: the kind of
    objects in members that are searched; in an unknown kind, all are. refers: names that refer to a
    vendor's object in this kind only.
    """

    names: frozenset[str] = frozenset()
    entered: dict[str, "_Kind"] = {}
    refers: frozenset[str] = frozenset()


_UNKNOWN = _Kind()
_CACHED = _Kind(_CACHE)
_SKILL = _Kind(_HELD)
_CONTAINER = _Kind(_HELD, {"skills": _SKILL, "network_policy": _UNKNOWN}, frozenset(("id",)))
_TOOL = _Kind(
    _OFFERED, {"cache_control": _CACHED, "container": _CONTAINER, "environment": _CONTAINER}
)
_TOOL.entered["tools"] = _TOOL
_TURN = _Kind(_SAID, {"cache_control": _CACHED, "tools": _TOOL})
_TURN.entered.update(dict.fromkeys(("content", "output", "source", "file", "input_audio"), _TURN))
_TURN.entered.update(dict.fromkeys(LINKS, _TURN))


_ATTACHING = _Kind(_SAID | {"file_id"}, dict(_TURN.entered))
"""Turns whose parts may name files of the caller by their ids."""
_ATTACHING.entered.update(
    dict.fromkeys(("content", "output", "source", "file", "input_audio", *LINKS), _ATTACHING)
)
_HOLDING_PARTS = (_TURN, _ATTACHING)


_USUALLY: dict[str, Callable[[msgspec.Raw], object]] = {
    **dict.fromkeys(_TURNS, check_turns),
    **dict.fromkeys(_TOOLS, check_tools),
}
_LIST, _OBJECT, _STRING = b'[{"'
_UNKNOWN_KINDS: Mapping[str, bool] = {}
_IMAGE_CALL = "image_generation_call"
_IMAGES = "image_generation"
_decode_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Fault(Exception):
    """A member to refuse. path: of the member, its own name first."""

    def __init__(self, name: str, refusal: Callable[[str], Problem]) -> None:
        self._path = [name]
        self._refusal = refusal

    def below(self, part: str) -> Self:
        """Prepend `part` to the path."""
        self._path.append(part)
        return self

    def problem(self) -> Problem:
        """The Problem for the caller."""
        path = ""
        for part in reversed(self._path):
            path += part if not path or part[:1] == "[" else f".{part}"
        return self._refusal(path)


def check_contents(
    fields: Fields, *, files: bool = False, common: Mapping[str, bool] = _UNKNOWN_KINDS
) -> bool:
    """Raise Problem for a member that must not pass; members that are encoded again are replaced.

    files: whether `file_id` may stand in turns; what it names is then checked elsewhere.
    common: members of which it is known whether all their turns are of the common kinds.

    Returns whether all turns and tools are of the common kinds, which hold no unseen input
    (`edge.requests.unseen_input`).
    """
    usual = True
    turns = _ATTACHING if files else _TURN
    try:
        for name in fields:
            usually = _USUALLY.get(name)
            if usually is not None:
                known = common.get(name)
                if known is None:
                    try:
                        usually(fields[name])
                        known = True
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        known = False
                if not known:
                    usual = False
                    _enter(fields, name, _TOOL if name in _TOOLS else turns, 0)
        if not _USUAL.issuperset(fields):
            _others(fields)
    except _Fault as fault:
        raise fault.problem() from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = "The body is not valid JSON: it has a name that is not UTF-8."
        raise Problem("invalid_request", message=message) from None
    except RecursionError:
        raise Problem("invalid_request", message="The body is nested too deeply.") from None
    return usual


def _others(fields: Fields) -> None:
    """Check members that refer to something, and those of no dialect."""
    for name in [name for name in fields if name not in _USUAL]:
        raw = fields[name]
        meant = plain(name)
        if bytes(memoryview(raw)[:_LONGEST_NOTHING]) in NOTHING:
            continue
        if meant in MODELS:
            del fields[
                name
            ]  # Claude Code sends one; the requested model's refusal is then the answer
            continue
        if meant == "container":
            _enter(fields, name, _CONTAINER, 0)
        elif meant == "prompt":
            if memoryview(raw)[0] == _OBJECT:
                raise _Fault(name, refused)
        elif meant in _REFERRING:
            raise _Fault(name, refused)
        elif meant in PLACES:
            raise _Fault(name, refused_place)
        elif name not in READ:
            _enter(fields, name, _UNKNOWN, 0)


def _enter(fields: Fields, name: str, kind: _Kind, depth: int) -> None:
    """Search the value of a member, and encode it again if necessary."""
    raw = fields[name]
    head = memoryview(raw)[0]
    if head == _STRING:
        if name in LINKS and is_private_link(raw):
            raise _Fault(name, refused_link)
        if name == "container" and kind is _CONTAINER and len(raw) > len('""'):
            raise _Fault(name, refused)
        return
    if head not in (_LIST, _OBJECT):
        return
    try:
        again = _again(raw, head == _LIST, kind, depth + 1)
    except _Fault as fault:
        raise fault.below(name) from None
    if again is not None:
        fields[name] = again


def _again(raw: msgspec.Raw, many: bool, kind: _Kind, depth: int) -> msgspec.Raw | None:
    """Search an array or an object; return its replacement, None if it may stay."""
    if depth > _DEEPEST:
        raise RecursionError
    if not many:
        one = _decode_object(raw)
        _object(one, kind, depth)
        encoded = _encode(one)
    else:
        try:
            all_ = _decode_objects(raw)
        except msgspec.ValidationError:
            return _mixed(raw, kind, depth)
        for n, one in enumerate(all_):
            try:
                _object(one, kind, depth)
            except _Fault as fault:
                raise fault.below(f"[{n}]") from None
        encoded = _encode(all_)
    return None if len(encoded) == len(raw) else msgspec.Raw(encoded)


def _mixed(raw: msgspec.Raw, kind: _Kind, depth: int) -> msgspec.Raw | None:
    """The same for an array that holds other values than objects."""
    if bytes(raw).find(b"{") < 0:
        return None
    parts = _decode_list(raw)
    for n, part in enumerate(parts):
        head = memoryview(part)[0]
        if head in (_LIST, _OBJECT):
            try:
                again = _again(part, head == _LIST, kind, depth + 1)
            except _Fault as fault:
                raise fault.below(f"[{n}]") from None
            if again is not None:
                parts[n] = again
    encoded = _encode(parts)
    return None if len(encoded) == len(raw) else msgspec.Raw(encoded)


def _object(members: Fields, kind: _Kind, depth: int) -> None:
    if not kind.names.issuperset(members):
        _odd(members, kind, depth)
    if kind is _TOOL and "model" in members and _kind_of(members) != _IMAGES:
        raise _Fault("model", refused_model)
    entered = kind.entered
    if not entered.keys().isdisjoint(members):
        if "tool_use_id" in members and _kind_of(members).endswith("_tool_result"):
            return  # the result of a vendor's tool
        for name in entered.keys() & members.keys():
            _enter(members, name, entered[name], depth)
    elif (
        kind in _HOLDING_PARTS
        and "id" in members
        and "result" not in members
        and _kind_of(members) == _IMAGE_CALL
    ):
        raise _Fault("id", refused)


def _odd(members: Fields, kind: _Kind, depth: int) -> None:
    """Check members that the kind does not have."""
    for name in [name for name in members if name not in kind.names]:
        folded = name.casefold()
        if folded in kind.names:
            raise _Fault(name, partial(misspelt, meant=folded))
        meant = plain(name)
        if meant in ANYWHERE or meant in kind.refers:
            raw = members[name]
            if bytes(memoryview(raw)[:_LONGEST_NOTHING]) in NOTHING:
                continue
            if meant == "skillid" and kind is _SKILL and _kind_of(members) == "anthropic":
                continue  # a public skill
            raise _Fault(name, refused)
        if name not in _FREE:
            _enter(members, name, _UNKNOWN, depth)


def _kind_of(members: Fields) -> str:
    raw = members.get("type")
    if raw is None:
        return ""
    kind = decode_any(raw)
    return kind if isinstance(kind, str) else ""
