"""Validation of the values in a caller's body; a refusal names the value's path."""

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import msgspec

from edge.requests.body_limits import decoded
from middlewares.problem import Problem, expected, invalid_value

from .passthrough import UNREADABLE, Fields

_T = TypeVar("_T")

_decode_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def unsupported(path: str, why: str) -> Problem:
    """The refusal of a value that no other dialect can express."""
    return Problem(
        "invalid_request",
        message=f"Unsupported parameter: `{path}` {why}.",
        param=path,
        issue=why,
        extra={"code": "unsupported_parameter"},
    )


class Members:
    """Typed access to the members of a body; it records which were read.

    null counts as absent.
    """

    __slots__ = ("_fields", "_known")

    def __init__(self, fields: Fields) -> None:
        self._fields = {name: raw for name, raw in fields.items() if bytes(raw) != b"null"}
        self._known: set[str] = set()

    def get(self, name: str) -> Any:
        """The value, or None. Raises Problem for what cannot be read."""
        self._known.add(name)
        raw = self._fields.get(name)
        if raw is None:
            return None
        try:
            return decoded(raw)
        except UNREADABLE:
            raise expected(name, "valid JSON") from None

    def rest(self) -> Fields:
        """The members that were not read."""
        return {name: raw for name, raw in self._fields.items() if name not in self._known}

    def text(self, name: str) -> str:
        """A string, "" when absent."""
        value = self.get(name)
        return "" if value is None else string(value, name)

    def flag(self, name: str) -> bool | None:
        """true, false, or None when absent."""
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise expected(name, "true or false")

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number in [low, high]."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise expected(name, f"a number between {low:g} and {high:g}")
        if not low <= value <= high:
            raise expected(name, f"a number between {low:g} and {high:g}")
        return value

    def count(self, name: str, low: int) -> int | None:
        """A whole number of at least `low`."""
        value = self.get(name)
        return None if value is None else whole(value, name, low)

    def word(self, name: str, words: Collection[str]) -> str | None:
        """One of `words`."""
        value = self.get(name)
        return None if value is None else one_of(value, name, words)

    def members(self, name: str) -> dict[str, Any] | None:
        """An object."""
        value = self.get(name)
        return None if value is None else mapping(value, name)

    def items(self, name: str) -> list[Any] | None:
        """An array."""
        value = self.get(name)
        return None if value is None else array(value, name)

    def is_array(self, name: str) -> bool:
        """Whether the member is an array."""
        raw = self._fields.get(name)
        return raw is not None and bytes(memoryview(raw)[:1]) == b"["

    def each(
        self,
        name: str,
        usual: Callable[[msgspec.Raw], _T | None],
        read: Callable[[Any, str], _T],
    ) -> list[_T] | None:
        """What each entry of an array is read as; None when absent.

        usual: reads an entry of usual form, of others None. read: reads any entry, decoded, with
        its path; raises Problem. Every entry is decoded before one is refused.
        """
        self._known.add(name)
        raw = self._fields.get(name)
        if raw is None:
            return None
        try:
            entries = _decode_entries(raw)
        except UNREADABLE:
            values = enumerate(self.items(name) or ())
            return [read(value, f"{name}[{at}]") for at, value in values]
        out: list[_T] = []
        try:
            for at, entry in enumerate(entries):
                made = usual(entry)
                if made is None:
                    made = read(decoded(entry), f"{name}[{at}]")
                out.append(made)
        except (*UNREADABLE, Problem):
            self.items(name)
            raise
        return out


def read_top_k(members: Members) -> int | None:
    """`top_k`; -1, as servers of open models write it, means no limit."""
    return None if members.get("top_k") == -1 else members.count("top_k", 0)


def string(value: Any, path: str, *, filled: bool = False) -> str:
    """`value` if it is a string, and not an empty one if `filled`."""
    if isinstance(value, str) and (value or not filled):
        return value
    raise expected(path, "a string that is not empty" if filled else "a string")


def whole(value: Any, path: str, low: int) -> int:
    """`value` if it is a whole number of at least `low`, also one written as 10.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= low:
        return value
    raise expected(path, f"a whole number of at least {low}")


def one_of(value: Any, path: str, words: Collection[str]) -> str:
    """`value` if it is one of `words`."""
    if isinstance(value, str) and value in words:
        return value
    raise expected(path, "one of " + ", ".join(f"`{word}`" for word in words))


def mapping(value: Any, path: str) -> dict[str, Any]:
    """`value` if it is an object."""
    if isinstance(value, dict):
        return value
    raise expected(path, "an object")


def json_text(value: Any, path: str) -> str:
    """`value` as JSON text. A value can be shallow enough to decode and too deep to encode."""
    try:
        return _encode(value).decode()
    except RecursionError:
        raise expected(path, "a value that is not nested so deep") from None


def array(value: Any, path: str) -> list[Any]:
    """`value` if it is an array."""
    if isinstance(value, list):
        return value
    raise expected(path, "an array")


def no_tool(why: str) -> Problem:
    """The refusal of a tool choice that the target cannot serve. why: half a sentence."""
    return invalid_value("tool_choice", why, issue="expected a tool that the model has")
