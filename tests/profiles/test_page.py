"""docs/profiles.md: each promise names tests that exist, and each test is named by a promise."""

import ast
import re

import pytest

from tests.pages import ROOT, page, table

from .system import FOLDER, NAMES

TEXT = page("docs/profiles.md")


def functions_of(name: str) -> set[str]:
    """The test functions of a profile's file of tests."""
    file = ROOT / f"tests/profiles/test_{name.replace('-', '_')}.py"
    if not file.exists():
        return set()
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_each_profile_has_its_section() -> None:
    assert tuple(re.findall(r"^## (.*)$", TEXT, re.MULTILINE)) == NAMES
    assert {file.stem for file in FOLDER.glob("*.toml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_promise_names_its_tests_and_each_test_has_a_promise(name: str) -> None:
    rows = table(TEXT, name)
    named: set[str] = set()
    for cells in rows:
        assert len(cells) == 3 and all(cells), cells
        tests = re.findall(r"`(test_\w+)`", cells[2])
        assert tests, f"no test: {cells[0]}"
        named |= set(tests)
    assert named == functions_of(name)
    promises = [cells[0] for cells in rows]
    assert len(promises) == len(set(promises)), "a promise is there twice"
