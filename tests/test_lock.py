"""constraints.txt: everything pinned and hashed, from any index, and nothing forgotten."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "constraints.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked() -> dict[str, list[Requirement]]:
    """By name; a package may be locked twice, for different Pythons."""
    found: dict[str, list[Requirement]] = {}
    for line in LOCK.splitlines():
        if line and line[0] not in "# ":
            requirement = Requirement(line.removesuffix("\\").strip())
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_every_package_has_one_version_and_its_hashes() -> None:
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == sum(map(len, locked().values()))
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[^\s*]+ ", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\s*\Z", entry), entry


def test_it_names_no_place() -> None:
    for word in ("://", "--index-url", "--extra-index-url", "--find-links", "file:", " @ "):
        assert word not in LOCK


def test_what_the_project_asks_for_is_locked() -> None:
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra),
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    lock = locked()
    for text in wanted:
        requirement = Requirement(text)
        found = lock.get(canonicalize_name(requirement.name))
        assert found, f"{text} is not in constraints.txt: run `make lock`"
        for one in found:
            (pin,) = SpecifierSet(str(one.specifier))
            assert requirement.specifier.contains(pin.version, prereleases=True), f"{one}: {text}"
