"""Members of an answer that tell which vendor made it, and how they leave it.

    system_fingerprint                    null
    id that begins with a reseller's mark begins with the dialect's own
    model, model_*, wherever they stand   the name the caller asked for
    provider, x_groq, cost, base_resp...  gone

Members that nobody knows pass. So does what the model itself said (`_SAID`), in which a name means
something else: it is not looked into. `Spellings` does the same to event after event at the speed
of `bytes.replace`.
"""

import re
from collections.abc import Callable, Iterable

import msgspec

from .passthrough import Fields, decode_fields, encode

_GONE = (
    "provider(?:_name|_id|_slug|_metadata|Metadata)?",
    "costs?(?:_[a-z_]+)?",
    *("vendor", "x_groq", "native_finish_reason", "is_byok", "base_resp"),
)
_MODEL = ("model_(?:name|id|version|slug)", "model(?:Name|Id|Version)")
_ANY_GONE, _ANY_MODEL = "|".join(_GONE), "|".join(_MODEL)
_COST = r"(?:[a-z]+_)*costs?(?:_[a-z_]+)?"
_NULL = msgspec.Raw(b"null")
_THEIR_ID, _OUR_ID = b'"gen-', b'"chatcmpl-'
"""What ids of OpenRouter's begin with, and those of OpenAI."""

_DEEPEST = 16
"""Levels that are looked into, each of which is decoded again; what tells below them is null."""

_Search = Callable[[bytes], re.Match[bytes] | None]


def finder(members: Iterable[str]) -> _Search:
    """What finds one of `members`, patterns of what stands behind the quote before a name.

    Each begins with a letter. As those are tried first, and together, it takes less than half the
    time of an alternation; a name that differs from one of `members` in that letter is found too.
    """
    first = "".join(sorted({member[0] for member in members}))
    rest = "|".join(member[1:] for member in members)
    return re.compile(f'"[{first}](?:{rest})'.encode()).search


TELLING = (
    r'system_fingerprint"(?!\s*:\s*null)',
    r'id"\s*:\s*"gen-',
    *(rf'{name}"\s*:' for name in (*_GONE, *_MODEL)),
)
"""What stands behind the quote of a member that tells, but for costs."""

_tells = finder(TELLING)
_tells_cost = re.compile(rf'"{_COST}"\s*:'.encode()).search
_is_gone = re.compile(f"{_ANY_GONE}|{_COST}").fullmatch
_is_model = re.compile(f"model|{_ANY_MODEL}").fullmatch

_SAID = frozenset(
    (
        *("content", "tool_calls", "function_call", "reasoning_details", "annotations", "logprobs"),
        *("audio", "images", "input", "arguments", "text", "embedding", "data"),
    )
)

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode

_SCALAR = r'(?:"(?:[^"\\]|\\.)*"|[-\d.eE+]+|true|false|null)'
_spelled_gone = re.compile(
    rf'(?P<before>,\s*)?"(?:{_ANY_GONE})"\s*:\s*{_SCALAR}(?(before)|(?:\s*,)?)'.encode()
).finditer
"""With one of the commas around it."""
_spelled_else = re.compile(
    rf'"(?P<name>system_fingerprint|{_ANY_MODEL})"\s*:\s*{_SCALAR}'.encode()
).finditer
_spelled_id = re.compile(rb'("id"\s*:\s*)"gen-([^"\\]*")').finditer
_MOST_SPELLINGS = 8
_LONGEST = 256


def tells(data: bytes, usage: bytes | None = None) -> bool:
    """Whether a member of `data`, JSON, tells who made it. Members called `model` aside.

    usage: where alone costs are looked for, if it is known.
    """
    if _tells(data) is not None:
        return True
    priced = data if usage is None else usage
    return priced.find(b"cost") >= 0 and _tells_cost(priced) is not None


def undisclosed(fields: Fields, requested_model: str) -> Fields:
    """`fields` of an answer without the members that name its vendor.

    requested_model: the caller's name of the model. Raises one of UNREADABLE.
    """
    return _without(fields, msgspec.Raw(encode(requested_model)), 0)


def _without(fields: Fields, requested_model: msgspec.Raw, depth: int) -> Fields:
    out: Fields = {}
    for name, value in fields.items():
        if _is_gone(name):
            continue
        if name == "system_fingerprint":
            value = _NULL
        elif name == "id" and bytes(value).startswith(_THEIR_ID):
            value = msgspec.Raw(_OUR_ID + bytes(value)[len(_THEIR_ID) :])
        elif _is_model(name) and bytes(value)[:1] in (b'"', b"{", b"["):
            value = requested_model
        elif name not in _SAID:
            value = _inner(value, requested_model, depth + 1)
        out[name] = value
    return out


def _inner(value: msgspec.Raw, requested_model: msgspec.Raw, depth: int) -> msgspec.Raw:
    raw = bytes(value)
    opening = raw[:1]
    if opening not in (b"{", b"[") or not (b'"model"' in raw or tells(raw)):
        return value
    if depth > _DEEPEST:
        return _NULL
    if opening == b"{":
        return msgspec.Raw(encode(_without(decode_fields(raw), requested_model, depth)))
    return msgspec.Raw(
        encode([_inner(each, requested_model, depth + 1) for each in _decode_list(raw)])
    )


class Spellings:
    """How one stream spells what is taken out of it, learned from its own events."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []
        """What stands there, and what takes its place."""

    def add(self, theirs: bytes, ours: bytes) -> None:
        """Learn one more, as long as there are few."""
        pair = (theirs, ours)
        if len(self.pairs) < _MOST_SPELLINGS and len(theirs) < _LONGEST and pair not in self.pairs:
            self.pairs.append(pair)

    def learn(self, event: bytes, requested_model: str) -> None:
        """Take the spellings of the plain members of `event` that tell who made it."""
        for match in _spelled_gone(event):
            self.add(match[0], b"")
        for match in _spelled_id(event):
            self.add(match[0], match[1] + _OUR_ID + match[2])
        for match in _spelled_else(event):
            name = match["name"]
            ours = b"null" if name == b"system_fingerprint" else encode(requested_model)
            self.add(match[0], b'"%b":%b' % (name, ours))

    def apply(self, block: bytes) -> bytes:
        """`block` with all that was learned replaced."""
        for theirs, ours in self.pairs:
            block = block.replace(theirs, ours)
        return block
