"""The chart's values.yaml: each value with its default, its comment and its section."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

_SECTION = re.compile(r"## (.+)")


class Value(NamedTuple):
    """A key of values.yaml.

    path: its keys. default: of the whole subtree. description: the `# --` comment above it, "" when
    there is none. section: the last `##` heading. leaf: whether no key below it has a comment.
    """

    path: tuple[str, ...]
    default: Any
    description: str
    section: str
    leaf: bool

    @property
    def name(self) -> str:
        """`service.port`."""
        return ".".join(self.path)


def values_of(text: str) -> list[Value]:
    """Every key, in the order of the file; keys below a leaf are left out."""
    lines = text.splitlines()
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(node, yaml.MappingNode)
    return list(_walk(node, yaml.safe_load(text), lines, ()))


def _walk(
    node: yaml.MappingNode, defaults: dict[str, Any], lines: list[str], above: tuple[str, ...]
) -> Iterator[Value]:
    for key, inner in node.value:
        path = (*above, str(key.value))
        default = defaults[key.value]
        found: list[Value] = []
        if isinstance(inner, yaml.MappingNode) and not inner.flow_style:
            found = list(_walk(inner, default, lines, path))
        line = key.start_mark.line
        documented = any(one.description for one in found)
        yield Value(path, default, _comment(lines, line), _section(lines, line), not documented)
        if documented:
            yield from found


def _comment(lines: list[str], line: int) -> str:
    """The text from the last `# --` on, of the comment that ends above a line."""
    found: list[str] = []
    for above in reversed(lines[:line]):
        text = above.strip()
        if not text.startswith("#") or text.startswith("## "):
            return ""
        found.append(text.removeprefix("#").strip())
        if text.startswith("# -- "):
            found[-1] = text.removeprefix("# -- ")
            return " ".join(reversed(found))
    return ""


def _section(lines: list[str], line: int) -> str:
    return next(
        (match[1] for above in reversed(lines[:line]) if (match := _SECTION.fullmatch(above))), ""
    )
