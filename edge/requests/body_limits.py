"""Limits of a request body: messages, parts, tools, names in schemas, stop strings.

Theory of operation. A body of 32 MiB can hold ten million values; each costs microseconds in steps
whose time does not depend on the length of texts. A body within the limits costs a worker a second
or two at most, in a thread (`edge.runtime.worker_thread`).

    small    too few bytes or values to exceed any limit but those of stop strings and metadata:
             only these are checked
    large    all limits are checked, first the number of values: there is a bracket for each object
             and array, and a comma for each value but the first. Where all brackets and commas are
             too many, those in strings are not counted: strings are removed from the text by
             their quotes, a piece at a time

Every C call handles one piece, or at most the allowed number of values, so that the event loop is
never blocked for long.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from edge.endpoints import Endpoint
from edge.untyped_json import decode_any
from middlewares.problem import Problem, expected

from .common_turns import CommonTurn, check_turns

Fields = Mapping[str, msgspec.Raw]

MOST_CONTAINERS = 100_000
"""Objects and arrays in a body."""
MOST_VALUES = 400_000
"""Values in a body, nested ones included."""
MOST_MESSAGES = 20_000
"""Messages, or items of a Responses input."""
MOST_PARTS = 10_000
"""Content parts of one message or one tool result."""
MOST_TOOLS = 5_000
"""Tools, or functions."""
MOST_NAMES = 10_000
"""Members of one object or array in a tool or an output format: properties, required names, values
of an enumeration."""
MOST_INPUTS = 10_000
"""Texts or token arrays of one embeddings request, or prompts of one completion."""
MOST_STOPS = 256
"""Stop strings."""
LONGEST_STOP = 1024
"""Characters of a stop string."""
MOST_METADATA = 1000
"""Members of `metadata`."""

_LARGE = 256 << 10
"""Bytes above which a body is always large."""
SMALL = 32 << 10
"""Bytes below which a body is always small."""
MANY_OBJECTS, MANY_VALUES = 2_000, 8_000
"""Braces and commas above which a body between the two is large."""
PIECE = 128 << 10
"""Bytes that are searched or decoded in one C call."""
_COUNTED = 1 << 20
"""Bytes in which one character is counted in one C call."""

_TURNS = ("messages", "input")
_TOOLS = ("tools", "functions")
_FORMS = ("response_format", "text", "output_config", "output_format")
_STOPS = ("stop", "stop_sequences")
_PARTED = ("content", "output")
_DIGITS = frozenset(b"-0123456789")

_encode = msgspec.json.Encoder().encode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def is_large(body: bytes) -> bool:
    """Whether steps that read all of `body` may block the event loop."""
    size = len(body)
    if size < SMALL:
        return False
    return size >= _LARGE or body.count(b"{") > MANY_OBJECTS or body.count(b",") > MANY_VALUES


FEW = frozenset((*_STOPS, "metadata"))
"""The members that `check_few` checks."""


def check_few(fields: Fields) -> None:
    """Raise Problem for stop strings or metadata over their limits; a small body may have such."""
    for name in _STOPS:
        raw = fields.get(name)
        if raw is not None and len(raw) > LONGEST_STOP:
            _check_stops(raw, name)
    raw = fields.get("metadata")
    if raw is not None and len(raw) > MOST_METADATA and len(_members(raw)) > MOST_METADATA:
        raise _over("metadata", MOST_METADATA, "members")


class Counts(msgspec.Struct):
    """Brackets and commas of members, as far as they were counted. exact: without those in
    strings."""

    of: dict[str, tuple[int, int]] = {}
    exact: bool = False


def check_all(row: Endpoint, fields: Fields, counts: Counts | None = None) -> dict[str, bool]:
    """Raise Problem for any other limit that a large body exceeds.

    counts: takes what is counted of all members.

    Returns for members with turns whether all of these are of the common kinds
    (`edge.requests.common_turns`). Invalid JSON and wrong types are left to the decoder of the
    request.
    """
    common: dict[str, bool] = {}
    if not has_few_values(fields, counts=counts):
        _check_values(fields, counts)
    check_few(fields)
    if row.conversation:
        for name in _TURNS:
            if name in fields and (known := _check_turns(fields, name)) is not None:
                common[name] = known
    else:
        for name in row.required:
            _check_inputs(fields, name)
    for name in _TOOLS:
        tools = _items(fields.get(name))
        if len(tools) > MOST_TOOLS:
            raise _over(name, MOST_TOOLS, "tools")
        for at, tool in enumerate(tools):
            _check_names(tool, f"{name}[{at}]")
    for name in _FORMS:
        if name in fields:
            _check_names(fields[name], name)
    return common


def decoded(raw: msgspec.Raw | bytes) -> Any:
    """Decode `raw`; a large value is decoded in pieces, between which other tasks may run.

    Raises one of msgspec's errors, UnicodeDecodeError or RecursionError.
    """
    if len(raw) <= PIECE:
        return decode_any(raw)
    match bytes(raw[:1]) if isinstance(raw, bytes) else bytes(memoryview(raw)[:1]):
        case b"[":
            return [decoded(each) for each in _decode_list(raw)]
        case b"{":
            return {name: decoded(each) for name, each in _decode_members(raw).items()}
    return decode_any(raw)


def encoded(value: Any) -> bytes:
    """Encode `value`; long texts are escaped in pieces, between which other tasks may run."""
    return _encode(_with_pieces(value))


def _with_pieces(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) <= PIECE:
            return value
        pieces = (_encode(value[at : at + PIECE])[1:-1] for at in range(0, len(value), PIECE))
        return msgspec.Raw(b'"' + b"".join(pieces) + b'"')
    if isinstance(value, list):
        return [_with_pieces(each) for each in value]
    if isinstance(value, dict):
        return {name: _with_pieces(each) for name, each in value.items()}
    return value


def has_few_values(
    fields: Fields,
    brackets: int = 0,
    commas: int = 0,
    counts: Counts | None = None,
) -> bool:
    """Whether the limits of values would hold if strings were values too.

    brackets, commas: of turns that are not in `fields`. counts: takes the brackets and commas of
    each member, if all are counted.
    """
    size, values = sum(map(len, fields.values())), len(fields) + brackets + commas
    containers = brackets
    sparse = size + values <= MOST_VALUES
    if sparse and containers + size // 2 <= MOST_CONTAINERS:  # each has two brackets
        return True
    for name, raw in fields.items():
        text = memoryview(raw)
        brackets = commas = 0
        for at in range(0, len(text), _COUNTED):
            piece = bytes(text[at : at + _COUNTED])
            brackets += piece.count(b"{") + piece.count(b"[")
            if not sparse:
                commas += piece.count(b",")
            if containers + brackets > MOST_CONTAINERS or values + brackets + commas > MOST_VALUES:
                return False
        containers += brackets
        values += brackets + commas
        if counts is not None and not sparse:
            counts.of[name] = brackets, commas
    return True


def _check_values(fields: Fields, counts: Counts | None) -> None:
    containers, values = 0, len(fields)
    held: dict[str, tuple[int, int]] = {}
    for name, raw in fields.items():
        held[name] = 0, 0
        for brackets, commas in counted(raw):
            containers += brackets
            values += brackets + commas
            held[name] = held[name][0] + brackets, held[name][1] + commas
            if containers > MOST_CONTAINERS:
                raise _over(name, MOST_CONTAINERS, "objects and arrays, in the whole body")
            if values > MOST_VALUES:
                raise _over(name, MOST_VALUES, "values, in the whole body")
    if counts is not None:
        counts.of, counts.exact = held, True


def counted(raw: msgspec.Raw) -> Iterator[tuple[int, int]]:
    """Opening brackets and commas outside of strings, for each piece of `raw`."""
    text = memoryview(raw)
    inside = False
    held = b""
    for at in range(0, len(text), PIECE):
        piece = held + bytes(text[at : at + PIECE])
        held = b""
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"")
            if piece.endswith(b"\\"):  # the escaped character begins the next piece
                piece, held = piece[:-1], b"\\"
            piece = piece.replace(b'\\"', b"")
        parts = piece.split(b'"')
        outside = b"".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0
        yield outside.count(b"{") + outside.count(b"["), outside.count(b",")


def _check_turns(fields: Fields, name: str) -> bool | None:
    """Check turns and their parts; whether all are of the common kinds, None if not decided."""
    common: bool | None = None
    try:
        turns = check_turns(fields[name])
        common = True
        if not isinstance(turns, list) or (len(turns) <= MOST_MESSAGES and _have_few_parts(turns)):
            return common
    except RecursionError:
        pass
    except (msgspec.DecodeError, UnicodeDecodeError):
        common = False
    items = _items(fields.get(name))
    if len(items) > MOST_MESSAGES:
        what = "messages" if name == "messages" else "items"
        raise _over(name, MOST_MESSAGES, what)
    for at, item in enumerate(items):
        if len(item) > 2 * MOST_PARTS:  # a part has a character and a comma
            _check_parts(item, f"{name}[{at}]", _PARTED)
    return common


def _have_few_parts(turns: list[CommonTurn]) -> bool:
    """Whether no turn, and no part of one, has more parts than it may."""
    for turn in turns:
        for held in (turn.content, turn.output):
            if type(held) is list and (len(held) > MOST_PARTS or not _have_few_parts(held)):
                return False
    return True


def _check_parts(item: msgspec.Raw, path: str, names: tuple[str, ...]) -> None:
    """Check the parts of a message or an item, and the parts of tool results in it."""
    members = _members(item)
    for name in names:
        held = members.get(name)
        if held is None or len(held) <= MOST_PARTS:
            continue
        parts = _items(held)
        if len(parts) > MOST_PARTS:
            raise _over(f"{path}.{name}", MOST_PARTS, "parts")
        for at, part in enumerate(parts):
            if len(part) > MOST_PARTS:
                _check_parts(part, f"{path}.{name}[{at}]", ("content",))


def _check_inputs(fields: Fields, name: str) -> None:
    inputs = _items(fields.get(name))
    if len(inputs) > MOST_INPUTS and bytes(memoryview(inputs[0])[:1])[0] not in _DIGITS:
        raise _over(name, MOST_INPUTS, "inputs")


def _check_names(raw: msgspec.Raw, path: str) -> None:
    """Check the members of each object and array in a tool or an output format."""
    if len(raw) <= MOST_NAMES:
        return
    try:
        value = decoded(raw)
    except _UNREADABLE:
        return
    left: list[tuple[str, Any]] = [(path, value)]
    while left:
        path, value = left.pop()
        if isinstance(value, str) or not isinstance(value, dict | list):
            continue
        if len(value) > MOST_NAMES:
            raise _over(path, MOST_NAMES, "members")
        if isinstance(value, dict):
            left += [(f"{path}.{name}", each) for name, each in value.items()]
        else:
            left += [(f"{path}[{at}]", each) for at, each in enumerate(value)]


def _check_stops(raw: msgspec.Raw, name: str) -> None:
    try:
        stops = decode_any(raw)
    except _UNREADABLE:
        return
    if isinstance(stops, str):
        if len(stops) > LONGEST_STOP:
            raise _over(name, LONGEST_STOP, "characters")
    elif isinstance(stops, list):
        if len(stops) > MOST_STOPS:
            raise _over(name, MOST_STOPS, "strings")
        for at, stop in enumerate(stops):
            if isinstance(stop, str) and len(stop) > LONGEST_STOP:
                raise _over(f"{name}[{at}]", LONGEST_STOP, "characters")


def _items(raw: msgspec.Raw | None) -> list[msgspec.Raw]:
    if raw is None or bytes(memoryview(raw)[:1]) != b"[":
        return []
    try:
        return _decode_list(raw)
    except _UNREADABLE:
        return []


def _members(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    if bytes(memoryview(raw)[:1]) != b"{":
        return {}
    try:
        return _decode_members(raw)
    except _UNREADABLE:
        return {}


def _over(path: str, most: int, what: str) -> Problem:
    return expected(path, f"at most {most} {what}")
