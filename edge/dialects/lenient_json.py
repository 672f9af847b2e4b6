"""Answers of upstreams whose JSON is not quite as it should be.

Strict decoders read nearly all answers. What they refuse is read here once more, as leniently as
the vendors' own clients read: an answer that has been paid for is not thrown away for a member that
is not needed. Nothing here runs for an answer that is as it should be.
"""

import json
import re
from collections.abc import Callable, Collection
from math import isfinite
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_BOM = b"\xef\xbb\xbf"
_ODD = re.compile(r"Expected `([^`]*)`, got `[^`]*` - at `\$([^`]*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|(\[\.\.\.\])")
_LARGEST = 2 << 20
"""Bytes that are put right: it takes ten times as long as reading them."""
_MOST = 64
"""Members of odd types in one answer."""
_WORK = 4 << 20
"""Bytes that may be decoded again for them."""


def repaired_json(data: bytes) -> bytes:
    """`data` as strict JSON: NaN and infinities as null, halves of characters as U+FFFD, no BOM.

    Raises one of UNREADABLE for what is no JSON in any reading.
    """
    return dumped(loaded(data))


def loaded(data: bytes) -> Any:
    """The value that `data` is meant to be; its texts may hold halves of characters.

    Raises one of UNREADABLE.
    """
    if len(data) > _LARGEST:
        raise msgspec.DecodeError("too large to be put right")
    text = data.removeprefix(_BOM).decode()
    try:
        return json.loads(text, strict=False, parse_constant=_null, parse_float=_number)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from None


def dumped(value: Any) -> bytes:
    """`value` as JSON, with U+FFFD for each half of a character that has lost the other."""
    return whole(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode()


def whole(text: str) -> str:
    """`text` with surrogates joined, and U+FFFD in place of those that stand alone."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _null(constant: str) -> None:
    """NaN, Infinity and -Infinity, which are Python's and JavaScript's and not JSON's."""


def _number(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


def decode_leniently(decode: Callable[[bytes], T], data: bytes, needed: Collection[str] = ()) -> T:
    """`data` decoded, although `decode` refused it. See `decode_corrected`."""
    return decode_corrected(decode, data, needed)[0]


def decode_corrected(
    decode: Callable[[bytes], T], data: bytes, needed: Collection[str] = ()
) -> tuple[T, bytes]:
    """`data` decoded, and as strict JSON: members of odd types count as absent, and are.

    Numbers in quotes become numbers and numeric names text. A null counts as absent everywhere.
    needed: names of members that have to be right, unless they hold nothing.

    Raises one of UNREADABLE when a needed member is not, or `data` is no JSON in any reading.
    """
    value = loaded(data)
    for _ in range(max(2, min(_MOST, _WORK // (len(data) + 1)))):
        strict = dumped(value)
        try:
            return decode(strict), strict
        except msgspec.ValidationError as value_:
            found = _ODD.match(str(value_))
            if found is None or not _put_right(value, found[1], found[2], needed):
                raise
    raise msgspec.ValidationError("too many members are of other types than they should be")


def _put_right(value: Any, expected: str, path: str, needed: Collection[str]) -> bool:
    """Change or remove what stands at `path`; False when that cannot be done."""
    steps = list(_STEP.finditer(path))
    if not steps or any(step[3] for step in steps):
        return False
    *way, last = [step[1] if step[2] is None else int(step[2]) for step in steps]
    for step in way:
        value = value[step]
    value_ = value[last]
    names = [step for step in (*way, last) if isinstance(step, str)]
    nothing = value_ is None or value_ is False or value_ in ("", [])
    if not nothing and names and names[-1] in needed:
        return False
    right = _converted(value_, expected)
    if right is None:
        del value[last]
    else:
        value[last] = right
    return True


def _converted(value_: Any, expected: str) -> Any:
    """`value_` as one of the types `expected`; None when it is nothing like them."""
    kinds = expected.split(" | ")
    number = type(value_) in (int, float)
    if number and "int" in kinds and value_ == int(value_):
        return int(value_)
    if number and "str" in kinds:
        return str(value_)
    if isinstance(value_, str) and ("int" in kinds or "float" in kinds):
        try:
            number_value = float(value_)
        except ValueError:
            return None
        if isfinite(number_value) and (number_value == int(number_value) or "float" in kinds):
            return int(number_value) if number_value == int(number_value) else number_value
    return None
