"""The members of parts of a body, found by their locations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

Location = tuple[str | int, ...]
Members = dict[str, msgspec.Raw]

_LIST = ord("[")
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(Members).decode


def members_at(fields: Mapping[str, msgspec.Raw], locations: Sequence[Location]) -> list[Members]:
    """The members of the object at each location. Each object on the way is decoded once."""
    found: dict[Location, Members] = {}
    _descend(fields, (), _tree(locations), found)
    return [found[location] for location in locations]


def _tree(locations: Iterable[Location]) -> dict[str | int, Any]:
    tree: dict[str | int, Any] = {}
    for location in locations:
        node = tree
        for step in location:
            node = node.setdefault(step, {})
    return tree


def _descend(
    held: Any, at: Location, tree: Mapping[str | int, Any], found: dict[Location, Members]
) -> None:
    for step, below in tree.items():
        raw = held[step]
        here = (*at, step)
        if below:
            inner = _decode_list(raw) if memoryview(raw)[0] == _LIST else _decode_object(raw)
            _descend(inner, here, below, found)
        else:
            found[here] = _decode_object(raw)
