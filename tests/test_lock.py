"""constraints.txt and the clients' package-lock.json: all pinned and hashed, from any index."""

import json
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "constraints.txt").read_text()
CLIENTS = ROOT / "tests/clients/node"
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


def test_what_is_left_out_of_the_lock_is_not_in_it() -> None:
    """`make` installs the lock as it is, without asking packages what they depend on."""
    left_out = PROJECT["tool"]["uv"]["exclude-dependencies"]
    assert left_out
    assert not locked().keys() & {canonicalize_name(name) for name in left_out}
    assert "--no-deps --require-hashes -r constraints.txt" in (ROOT / "Makefile").read_text()


def test_every_client_has_one_version_and_its_hash() -> None:
    wanted = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    lock = json.loads((CLIENTS / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == wanted
    for name, version in wanted.items():
        assert lock[f"node_modules/{name}"]["version"] == version
    for path, entry in lock.items():
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", entry["integrity"]), path


def test_the_lock_of_the_clients_names_no_place() -> None:
    text = (CLIENTS / "package-lock.json").read_text()
    for word in ("://", "resolved", "funding", "file:", "git+"):
        assert word not in text
