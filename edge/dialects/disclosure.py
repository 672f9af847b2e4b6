"""Hide the vendor of an answer: members that name it are replaced or removed.

    system_fingerprint                    null
    id with a reseller's prefix           the dialect's own prefix
    model, model_*, at any depth          the name that the caller requested
    provider, x_groq, cost, base_resp...  removed

Unknown members pass. So does the model's own output (`_SAID`), in which such names mean something
else: it is not searched. `Spellings` does the same to the events of a stream at the speed of
`bytes.replace`.
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
"""Prefixes of OpenRouter's ids and of OpenAI's."""

_DEEPEST = 16
"""Levels that are searched, each of which is decoded again; deeper values are set to null."""

_Search = Callable[[bytes], re.Match[bytes] | None]


def finder(members: Iterable[str]) -> _Search:
    """A search for one of `members`, patterns of a name without its opening quote.

    Each begins with a letter. The letters are matched first, as one class, which takes less than
    half the time of an alternation; a name that differs in that letter is found too.
    """
    first = "".join(sorted({member[0] for member in members}))
    rest = "|".join(member[1:] for member in members)
    return re.compile(f'"[{first}](?:{rest})'.encode()).search


TELLING = (
    r'system_fingerprint"(?!\s*:\s*null)',
    r'id"\s*:\s*"gen-',
    *(rf'{name}"\s*:' for name in (*_GONE, *_MODEL)),
)
"""Patterns of members that name the vendor, without costs."""

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
"""With one of the adjacent commas."""
_spelled_else = re.compile(
    rf'"(?P<name>system_fingerprint|{_ANY_MODEL})"\s*:\s*{_SCALAR}'.encode()
).finditer
_spelled_id = re.compile(rb'("id"\s*:\s*)"gen-([^"\\]*")').finditer
_MOST_SPELLINGS = 8
_LONGEST = 256


def tells(data: bytes, usage: bytes | None = None) -> bool:
    """Whether a member of `data`, JSON, names the vendor; members called `model` do not count.

    usage: the part that costs are searched in; all of `data` by default.
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
    """Replacements that hide the vendor in one stream, learned from its own events."""

    __slots__ = ("pairs",)

    def __init__(self) -> None:
        self.pairs: list[tuple[bytes, bytes]] = []
        """Bytes, and their replacements."""

    def add(self, theirs: bytes, ours: bytes) -> None:
        """Add a replacement, up to a limit."""
        pair = (theirs, ours)
        if len(self.pairs) < _MOST_SPELLINGS and len(theirs) < _LONGEST and pair not in self.pairs:
            self.pairs.append(pair)

    def learn(self, event: bytes, requested_model: str) -> None:
        """Learn the spellings of the plain members of `event` that name the vendor."""
        for match in _spelled_gone(event):
            self.add(match[0], b"")
        for match in _spelled_id(event):
            self.add(match[0], match[1] + _OUR_ID + match[2])
        for match in _spelled_else(event):
            name = match["name"]
            ours = b"null" if name == b"system_fingerprint" else encode(requested_model)
            self.add(match[0], b'"%b":%b' % (name, ours))

    def apply(self, block: bytes) -> bytes:
        """`block` with every learned replacement applied."""
        for theirs, ours in self.pairs:
            block = block.replace(theirs, ours)
        return block
