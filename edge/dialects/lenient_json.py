"""Lenient decoding of upstream answers whose JSON is slightly wrong.

Strict decoders read nearly all answers. An answer that they refuse is decoded again here, as
leniently as the vendors' own clients do: an answer that has been paid for is not discarded for a
member that is not needed. Nothing here runs for a valid answer.
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
"""The largest answer that is repaired, in bytes: repair takes ten times as long as decoding."""
_MOST = 64
"""The most members of wrong types in one answer."""
_WORK = 4 << 20
"""The most bytes that are decoded again for them."""


def repaired_json(data: bytes) -> bytes:
    """`data` as strict JSON: NaN and infinities become null, lone surrogates U+FFFD, a BOM goes.

    Raises one of UNREADABLE if `data` is no JSON even then.
    """
    return dumped(loaded(data))


def loaded(data: bytes) -> Any:
    """Decode `data` leniently; its texts may hold lone surrogates.

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
    """`value` as JSON, with U+FFFD for each lone surrogate."""
    return whole(json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode()


def whole(text: str) -> str:
    """`text` with surrogate pairs joined, and U+FFFD for lone surrogates."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _null(constant: str) -> None:
    """NaN, Infinity and -Infinity, which are Python's and JavaScript's and not JSON's."""


def _number(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


def decode_leniently(decode: Callable[[bytes], T], data: bytes, needed: Collection[str] = ()) -> T:
    """Decode `data`, which `decode` refused. See `decode_corrected`."""
    return decode_corrected(decode, data, needed)[0]


def decode_corrected(
    decode: Callable[[bytes], T], data: bytes, needed: Collection[str] = ()
) -> tuple[T, bytes]:
    """Decode `data`, which `decode` refused; and return it as strict JSON.

    Members of wrong types are removed. Numbers in quotes become numbers and numeric names text. A
    null counts as absent everywhere. needed: names of members that must be valid unless empty.

    Raises one of UNREADABLE if a needed member is invalid, or `data` is no JSON.
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
    """Correct or remove the value at `path`; False if that is not possible."""
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
