"""docs/profiles.md: each promise names tests that exist, and each test is named by a promise."""

import ast
import re
from pathlib import Path

import pytest

from tests.pages import ROOT, page, table

from .system import FOLDER, NAMES

TEXT = page("docs/profiles.md")


def files_of(name: str) -> list[Path]:
    """The files of a profile's tests: `test_<name>.py`, or several `test_<name>_<part>.py`."""
    start = f"test_{name.replace('-', '_')}"
    folder = ROOT / "tests/profiles"
    return sorted([*folder.glob(f"{start}.py"), *folder.glob(f"{start}_*.py")])


def functions_of(name: str) -> list[str]:
    """The test functions of a profile."""
    return [
        node.name
        for file in files_of(name)
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]


def test_each_profile_has_its_section() -> None:
    assert tuple(re.findall(r"^## (.*)$", TEXT, re.MULTILINE)) == NAMES
    assert {file.stem for file in FOLDER.glob("*.toml")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_promise_names_its_tests_and_each_test_has_a_promise(name: str) -> None:
    rows = table(TEXT, name)
    assert rows, "no promise"
    named: set[str] = set()
    for cells in rows:
        assert len(cells) == 3 and all(cells), cells
        tests = re.findall(r"`(test_\w+)`", cells[2])
        assert tests, f"no test: {cells[0]}"
        named |= set(tests)
    functions = functions_of(name)
    assert named == set(functions)
    assert len(functions) == len(set(functions)), "two tests have one name"
    promises = [cells[0] for cells in rows]
    assert len(promises) == len(set(promises)), "a promise is there twice"
