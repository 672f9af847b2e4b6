"""The most output tokens that a request allows.

Only a limit of the caller's own dialect lowers a reservation, since only that one is sent to the
upstream. A limit in any other member can only raise it: some upstreams follow it, others ignore it.
The same holds for a name in other letter case (`MAX_TOKENS`), which servers written in Go accept.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import msgspec

from edge.endpoints import CONVERSATIONS, Endpoint

from .misdirected_body import speaks_responses

Fields = Mapping[str, msgspec.Raw]

_T = TypeVar("_T")

UNBOUNDED = 32_000
"""Output tokens if neither the caller nor the catalog sets a limit."""
_LEAST = 16
"""The smallest limit sent to Responses upstreams (OpenAI's minimum of `max_output_tokens`)."""
_MOST = 1 << 31
_MOST_KNOWN = 1024
_MOST_NAMES, _LONGEST_NAMES = 40, 1000
"""Most names of a body, and characters in them, whose meaning is cached."""

_FOREIGN = frozenset(
    (
        "maxtokens",
        "maxcompletiontokens",
        "maxoutputtokens",
        "npredict",  # llama.cpp prefers it to the others
        "numpredict",
        "maxnewtokens",
        "maxgeneratedtokens",
        "maxgenerationtokens",
        "maxgenlen",
        "maxlen",
        "maxlength",
        "maxoutputlength",
        "maxtokenstosample",
        "mintokens",
        "mincompletiontokens",
        "minnewtokens",
        "minlength",
    )
)
"""Limits of any dialect or server, in lower case without separators."""
_CHOICES = frozenset(("n", "bestof", "numcompletions", "numreturnsequences", "candidatecount"))
"""Numbers of answers, in the same form."""
_NESTED = frozenset(("options", "parameters", "generationconfig", "extrabody"))
"""Objects in which some servers read such members."""
_ASIDE = frozenset(("thinking", "reasoning", "contextmanagement"))
"""Members that may allow output beyond the limit."""
ORDINARY = frozenset(
    (
        "model",
        "messages",
        "input",
        "prompt",
        "instructions",
        "system",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "stop_sequences",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "metadata",
        "store",
        "include",
        "text",
        "user",
        "seed",
        "response_format",
        "reasoning_effort",
        "prompt_cache_key",
        "frequency_penalty",
        "presence_penalty",
        "previous_response_id",
    )
)
"""Members of most requests that set no limit."""
_BOUNDING = re.compile(rb"max|min|predict", re.IGNORECASE)
_JOINTS = str.maketrans("", "", "_-. ")


_NULL = msgspec.Raw(b"null")


class _Aside(msgspec.Struct):
    """Of repeated members, which take long to decode, the last counts."""

    budget_tokens: msgspec.Raw = _NULL
    max_tokens: msgspec.Raw = _NULL


_decode = msgspec.json.Decoder(int | float | None, strict=False).decode
_decode_aside = msgspec.json.Decoder(_Aside, strict=False).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def remembered(make: Callable[[tuple[str, ...]], _T]) -> Callable[[Fields], _T]:
    """Cache `make`, a function of a body's member names: most bodies repeat the same names."""
    known: dict[tuple[str, ...], _T] = {}

    def of(fields: Fields) -> _T:
        names = tuple(fields)
        result = known.get(names)
        if result is None:
            result = make(names)
            if len(names) <= _MOST_NAMES and len("".join(names)) <= _LONGEST_NAMES:
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                known[names] = result
        return result

    return of


class _Shape(msgspec.Struct, frozen=True):
    """The members of a body that limit its answer, by meaning; for one set of names."""

    own: tuple[str, ...]
    foreign: tuple[str, ...]
    choices: tuple[str, ...]
    aside: tuple[str, ...]
    nested: tuple[str, ...]
    only: str = ""
    """The only member that limits the answer; "" if there are several, or none."""


def _shape(row: Endpoint, names: tuple[str, ...]) -> _Shape:
    own = row.bounds
    if row.codec == "chat" and speaks_responses(names):
        own = CONVERSATIONS["responses"].bounds
    found: dict[frozenset[str], list[str]] = {
        kind: [] for kind in (own, _FOREIGN, _CHOICES, _ASIDE, _NESTED)
    }
    for name in names:
        if name in own:
            found[own].append(name)
        elif name not in ORDINARY:
            known = plain(name)
            for kind in (_FOREIGN, _CHOICES, _ASIDE, _NESTED):
                if known in kind:
                    found[kind].append(name)
    alone = len(found[own]) == sum(map(len, found.values())) == 1
    bounds, foreign, choices, aside, nested = map(tuple, found.values())
    return _Shape(bounds, foreign, choices, aside, nested, bounds[0] if alone else "")


_SHAPES: dict[Endpoint, Callable[[Fields], _Shape]] = {}
"""The cached shapes of each endpoint."""


def output_bound(row: Endpoint, fields: Fields, most: int | None, default: int = UNBOUNDED) -> int:
    """The most output tokens of a request to an endpoint; 0 if its answers have none.

    most: the model's limit, None if unknown. default: tokens of an answer without any limit. An
    invalid limit counts as none: the upstream refuses or ignores it.
    """
    shape_of = _SHAPES.get(row)
    if shape_of is None:
        if not row.bounds:
            return 0
        shape_of = _SHAPES[row] = remembered(partial(_shape, row))
    shape = shape_of(fields)
    unbounded = most or default
    if shape.only:  # the usual case
        bound = _number(fields[shape.only], unbounded)
        if bound < _LEAST:
            bound = _LEAST if bound > 0 else unbounded
        return min(_MOST, bound if most is None else min(bound, most))
    bound = foreign = 0
    answers = 1
    for name in shape.own:
        bound = max(bound, _number(fields[name], unbounded))
    if not (shape.foreign or shape.choices or shape.aside or shape.nested):
        bound = max(bound, _LEAST) if bound > 0 else unbounded
        return min(_MOST, bound if most is None else min(bound, most))
    for name in shape.foreign:
        foreign = max(foreign, _number(fields[name], unbounded))
    for name in shape.nested:
        if _BOUNDING.search(fields[name]):
            foreign = max(foreign, unbounded)
    bounded = bound > 0
    bound = max(bound, foreign, _LEAST) if bounded else max(unbounded, foreign)
    for name in shape.aside:
        bound = _with_aside(fields[name], bound, bounded=bounded)
    if most is not None and bound > most:
        bound = most
    for name in shape.choices:
        answers = max(answers, _number(fields[name], 1))
    return min(_MOST, bound * answers)


def plain(name: str) -> str:
    """`name` in lower case without separators, as lenient servers compare it."""
    return name.casefold().translate(_JOINTS)


def _number(raw: msgspec.Raw, otherwise: int) -> int:
    """A count, as the most lenient upstream reads it; 0 for null."""
    try:
        value = _decode(raw)
    except _UNREADABLE:
        return otherwise
    if type(value) is int and 1 <= value <= _MOST:
        return value
    if value is None:
        return 0
    return int(min(value, _MOST)) if value >= 1 else otherwise


def _with_aside(raw: msgspec.Raw, bound: int, *, bounded: bool) -> int:
    """`bound` plus the output that thinking or a compaction may add.

    A thinking budget is part of the limit, unless it is larger (interleaved thinking) or there is
    no limit: then Messages upstreams get a limit with room for both.
    """
    if b'"compact' in bytes(raw):  # Anthropic: a separate summary before the answer
        return 2 * bound
    try:
        members = _decode_aside(raw)
        budgets = _decode(members.budget_tokens), _decode(members.max_tokens)
    except _UNREADABLE:
        return bound
    for budget in budgets:
        if budget is not None and budget > 0 and (budget >= bound or not bounded):
            bound += int(min(budget, _MOST))
    return bound
