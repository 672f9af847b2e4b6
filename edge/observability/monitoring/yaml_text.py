"""YAML of plain values, for documents that people read and edit."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def yaml_text(value: Mapping[str, Any]) -> str:
    """A document in YAML. Texts are quoted as in JSON; those of several lines are blocks."""
    return "\n".join(_mapping(value, "")) + "\n"


def _mapping(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            yield f"{indent}{name}:"
            yield from _mapping(item, indent + "  ")
        elif isinstance(item, Sequence) and not isinstance(item, str) and item:
            yield f"{indent}{name}:"
            for one in item:
                first, *rest = _mapping(one, indent + "    ")
                yield f"{indent}  - {first.lstrip()}"
                yield from rest
        elif isinstance(item, str) and "\n" in item:
            yield f"{indent}{name}: |-"
            yield from (f"{indent}  {line}" for line in item.split("\n"))
        else:
            yield f"{indent}{name}: {json.dumps(item, ensure_ascii=False)}"
