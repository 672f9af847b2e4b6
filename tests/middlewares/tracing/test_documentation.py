"""docs/tracing.md has every attribute and every kind of error, and no other."""

import ast
import re
from pathlib import Path

from middlewares.tracing import error_types, genai

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/tracing.md").read_text()
CODE = (
    "middlewares/tracing/spans.py",
    "middlewares/tracing/span_attributes.py",
    "edge/media/jobs/steps.py",
)
NAME = re.compile(r"(?:http|url|server|error|penstock|job)\.[a-z_.]+")


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def literals() -> set[str]:
    """Names of attributes that the code writes."""
    return {
        node.value
        for path in CODE
        if (ROOT / path).exists()
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and NAME.fullmatch(node.value)
    }


def test_every_attribute_has_its_row() -> None:
    attributes = [name for name in first_cells(section("Attributes")) if "." in name]
    assert len(set(attributes)) == len(attributes)
    assert set(attributes) - literals() - set(genai.TYPES) == set()
    assert (literals() | set(genai.TYPES)) - set(attributes) - {"job.run"} == set()


def test_every_error_type_has_its_row() -> None:
    rows = [name for name in first_cells(section("Attributes")) if "." not in name]
    words = {error_types.STOPPED, error_types.CUT, error_types.OTHER, error_types.INTERNAL}
    assert set(rows) - {"400"} == words
