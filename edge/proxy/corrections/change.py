"""Changes of an upstream request's body: a member dropped, renamed or rewritten.

Only members that do not shape the answer: no tools, format, number of choices or stop strings, and
nothing with a price (`service_tier`). A change is a value, so that later requests can repeat it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Raw

from edge.dialects.conversation import EFFORTS, Reasoning
from edge.dialects.foreign_signatures import without_foreign_signatures
from edge.dialects.passthrough import UNREADABLE, Fields, encode
from edge.dialects.reasoning_effort import LEAST_BUDGET, budget_of, level_of
from edge.untyped_json import decode_any
from middlewares.exchange import Dialect

How = Literal[
    "drop", "rename", "set", "strip", "adaptive", "budget", "system", "unsigned", "plain_transcript"
]

_ALL = 1 << 30
_HOLDERS = ("messages", "input", "system", "tools")
_INNER = ("content", "output")
_DEEPEST = 6
_MOST_MARKS = 1000
"""Members of one name that are removed from a body; more would block the loop."""

_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class Correction(msgspec.Struct, frozen=True):
    """One change.

    how, with member and value:
        drop       `member`, a name or "name.name"
        rename     `member` to `value`
        set        `member` to `value`, as JSON
        strip      `member` from messages, their parts and tools; with "holder.name", that of holder
        adaptive   thinking by a budget becomes thinking by a level
        budget     thinking by a level becomes thinking by a budget
        system     messages of the role `developer` get the role `system`
        unsigned   signatures and encrypted content of other models are left out
        plain_transcript   `member` of a form becomes `json`, without details of times
    lasting: the target refuses the member in every request, not only in this one.
    """

    how: How
    member: str = ""
    value: str = ""
    lasting: bool = False

    @property
    def note(self) -> str:
        """What was changed, for the log."""
        said = _NOTES.get(self.how, "left out")
        return f"`{self.member}`: {said}, since the upstream refused it"


_NOTES: Mapping[How, str] = {
    "rename": "renamed",
    "set": "set to another value",
    "adaptive": "by a level in place of a budget",
    "budget": "by a budget in place of a level",
    "system": "sent as `system`",
    "plain_transcript": "sent as `json`",
}

NO_STREAM_OPTIONS = Correction("drop", "stream_options", lasting=True)
_EFFORT = Correction("drop", "output_config.effort")
_THINKING = Correction("drop", "thinking")


def apply_correction(fields: Fields, change: Correction, dialect: Dialect) -> Fields:
    """Make `change` in `fields`, the members of a body in `dialect`. Returns `fields` itself if
    nothing changes, or they cannot be decoded.
    """
    try:
        return _MAKE[change.how](fields, change, dialect)
    except UNREADABLE:
        return fields


def _dropped(fields: Fields, change: Correction, _dialect: Dialect) -> Fields:
    name, _, inner = change.member.partition(".")
    if name not in fields:
        return fields
    if inner:
        members = _decode_members(fields[name])
        if members.pop(inner, None) is None:
            return fields
        if members:
            return {**fields, name: Raw(encode(members))}
    return {kept: raw for kept, raw in fields.items() if kept != name}


def _renamed(fields: Fields, change: Correction, _dialect: Dialect) -> Fields:
    if change.member not in fields:
        return fields
    out = dict(fields)
    raw = out.pop(change.member)
    out.setdefault(change.value, raw)
    return out


def _set(fields: Fields, change: Correction, _dialect: Dialect) -> Fields:
    if bytes(fields.get(change.member, b"")) in (b"", change.value.encode()):
        return fields
    return {**fields, change.member: Raw(change.value.encode())}


def _stripped(fields: Fields, change: Correction, _dialect: Dialect) -> Fields:
    name = change.member.rpartition(".")[2]
    mark = encode(name)
    out = fields
    for holder in _HOLDERS:
        raw = fields.get(holder)
        if raw is not None and 0 < bytes(raw).count(mark) <= _MOST_MARKS:
            left = _without(raw, change.member, mark, 0)
            if left is not raw:
                out = {**out, holder: left}
    return out


def _without(raw: Raw, member: str, mark: bytes, depth: int) -> Raw:
    """`raw`, an object or a list of objects, without `member`; itself if it has none."""
    held = bytes(raw).lstrip()
    if mark not in held or depth > _DEEPEST:
        return raw
    if held.startswith(b"["):
        came = _decode_list(raw)
        kept = [_without(each, member, mark, depth + 1) for each in came]
        same = all(a is b for a, b in zip(kept, came, strict=True))
        return raw if same else Raw(encode(kept))
    if not held.startswith(b"{"):
        return raw
    members = _decode_members(raw)
    holder, _, name = member.rpartition(".")
    out = dict(members)
    if not holder:
        out.pop(name, None)
    elif holder in out:
        out[holder] = _without(out[holder], name, mark, depth + 1)
    for inner in _INNER:  # not deeper: the arguments of a tool are the model's
        if inner in out:
            out[inner] = _without(out[inner], member, mark, depth + 1)
    same = len(out) == len(members) and all(out[each] is members[each] for each in out)
    return raw if same else Raw(encode(out))


def _adaptive(fields: Fields, _change: Correction, _dialect: Dialect) -> Fields:
    thinking = _object(fields, "thinking")
    if thinking.get("type") != "enabled":
        return fields
    config = _object(fields, "output_config")
    budget = thinking.pop("budget_tokens", None)
    level = level_of(Reasoning(mode="enabled", budget=budget)) if type(budget) is int else None
    if level is not None:
        config.setdefault("effort", "low" if level == "minimal" else level)
    out = {**fields, "thinking": Raw(encode({**thinking, "type": "adaptive"}))}
    return {**out, "output_config": Raw(encode(config))} if config else out


def _budgeted(fields: Fields, _change: Correction, _dialect: Dialect) -> Fields:
    thinking = _object(fields, "thinking")
    if thinking.get("type") != "adaptive":
        return fields
    level = _object(fields, "output_config").get("effort")
    out = _dropped(fields, _EFFORT, _dialect)
    most = decode_any(fields.get("max_tokens", b"0"))
    if type(most) is not int:
        return fields
    budget = min(budget_of(level if level in EFFORTS else "high", most), most - LEAST_BUDGET)
    if budget < LEAST_BUDGET:
        return _dropped(out, _THINKING, _dialect)
    return {
        **out,
        "thinking": Raw(encode({**thinking, "type": "enabled", "budget_tokens": budget})),
    }


def _object(fields: Fields, name: str) -> dict[str, Any]:
    found = decode_any(fields.get(name, b"{}"))
    return found if isinstance(found, dict) else {}


def _as_system(fields: Fields, _change: Correction, _dialect: Dialect) -> Fields:
    raw = fields.get("messages")
    if raw is None or not 0 < bytes(raw).count(b'"developer"') <= _MOST_MARKS:
        return fields
    messages = []
    for each in _decode_list(raw):
        if b'"developer"' in bytes(each):
            members = _decode_members(each)
            if bytes(members.get("role", b"")) == b'"developer"':
                each = Raw(encode({**members, "role": "system"}))
        messages.append(each)
    return {**fields, "messages": Raw(encode(messages))}


def _unsigned(fields: Fields, _change: Correction, dialect: Dialect) -> Fields:
    return without_foreign_signatures(fields, dialect, _ALL)[0]


def _unchanged(fields: Fields, _change: Correction, _dialect: Dialect) -> Fields:
    """A correction of forms (`form_remedy`)."""
    return fields


_MAKE: Mapping[How, Callable[[Fields, Correction, Dialect], Fields]] = {
    "drop": _dropped,
    "rename": _renamed,
    "set": _set,
    "strip": _stripped,
    "adaptive": _adaptive,
    "budget": _budgeted,
    "system": _as_system,
    "unsigned": _unsigned,
    "plain_transcript": _unchanged,
}
