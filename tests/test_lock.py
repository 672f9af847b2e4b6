"""The files constraints*.txt and the clients' package-lock.json: all pinned and hashed, from any
index."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = {path.name: path.read_text() for path in ROOT.glob("constraints*.txt")}
LOCK = LOCKS["constraints.txt"]
MAKEFILE = (ROOT / "Makefile").read_text()
CLIENTS = ROOT / "tests/clients/node"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


either = pytest.mark.parametrize("lock", LOCKS.values(), ids=list(LOCKS))


def locked(lock: str = LOCK) -> dict[str, list[Requirement]]:
    """By name; a package may be locked twice, for different Pythons."""
    found: dict[str, list[Requirement]] = {}
    for line in lock.splitlines():
        if line and line[0] not in "# ":
            requirement = Requirement(line.removesuffix("\\").strip())
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


@either
def test_every_package_has_one_version_and_its_hashes(lock: str) -> None:
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(entries) == sum(map(len, locked(lock).values()))
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[^\s*]+ ", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\s*\Z", entry), entry


@either
def test_it_names_no_place(lock: str) -> None:
    for word in ("://", "--index-url", "--extra-index-url", "--find-links", "file:", " @ "):
        assert word not in lock


def words(name: str) -> set[str]:
    """What a variable of the Makefile lists. `UNUSED` is left out of all locks but the first."""
    (found,) = re.findall(rf"^{name} := (.*)$", MAKEFILE, flags=re.MULTILINE)
    return set(found.split())


def runtime() -> list[str]:
    """What the program needs, without any extra."""
    needed: list[str] = PROJECT["project"]["dependencies"]
    return needed


def builds() -> list[str]:
    """What builds it."""
    return [*PROJECT["dependency-groups"]["build"], *PROJECT["build-system"]["requires"]]


def of_the_image() -> list[str]:
    """What the image has: the program and some of its extras, and nothing that builds it."""
    extras = PROJECT["project"]["optional-dependencies"]
    return [*runtime(), *(one for extra in words("IMAGE_EXTRAS") for one in extras[extra])]


@pytest.mark.parametrize(
    ("name", "roots"),
    [
        ("constraints-run.txt", [*runtime(), *builds()]),
        ("constraints-image.txt", of_the_image()),
        ("constraints-build.txt", builds()),
    ],
)
def test_a_lock_has_what_is_needed_and_no_more(name: str, roots: list[str]) -> None:
    """By what the installed packages say of themselves; the same versions as in the first lock."""
    waiting = [Requirement(text) for text in roots]
    seen: set[tuple[str, str]] = set()
    needed: set[str] = set()
    while waiting:
        one = waiting.pop()
        name_of_one = canonicalize_name(one.name)
        if name_of_one in words("UNUSED") or (
            one.marker and not one.marker.evaluate({"extra": ""})
        ):
            continue
        needed.add(name_of_one)
        for extra in ("", *one.extras):
            if (name_of_one, extra) not in seen:
                seen.add((name_of_one, extra))
                further = [Requirement(text) for text in requires(name_of_one) or ()]
                waiting += [
                    Requirement(
                        f"{each.name}[{','.join(each.extras)}]" if each.extras else each.name
                    )
                    for each in further
                    if not each.marker or each.marker.evaluate({"extra": extra})
                ]
    lock = locked(LOCKS[name])
    here = {
        package
        for package, pins in lock.items()
        for pin in pins
        if not pin.marker or pin.marker.evaluate()
    }
    assert here == needed
    everything = {
        str(pin.specifier) + package for package, pins in locked().items() for pin in pins
    }
    assert {str(pin.specifier) + package for package, pins in lock.items() for pin in pins} <= (
        everything
    )


_WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None
from edge.cli import main
main({words!r})
"""


@pytest.mark.parametrize(
    ("typed", "status"), [(["serve", "--help"], 0), (["serve", "--port", "x"], 2)]
)
def test_the_program_runs_without_what_the_lock_to_run_leaves_out(
    typed: list[str], status: int
) -> None:
    unused = words("UNUSED")
    names = [module for module, owners in packages_distributions().items() if unused & {*owners}]
    assert "rich" in names
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(names=names, words=typed)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr


def test_what_the_project_asks_for_is_locked() -> None:
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra),
        *(one for one in PROJECT["dependency-groups"]["dev"] if isinstance(one, str)),
        *PROJECT["dependency-groups"]["build"],
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


def test_test_newest_lifts_every_upper_bound() -> None:
    """Of packages whose internals are used; see `BOUNDED` in the Makefile."""
    bounded = {
        requirement.name
        for requirement in map(Requirement, PROJECT["project"]["dependencies"])
        if any(one.operator not in (">=", ">", "!=") for one in requirement.specifier)
    }
    assert bounded == {"granian", "prometheus-client"}
    assert words("BOUNDED") == bounded


def test_what_is_left_out_of_the_lock_is_not_in_it() -> None:
    """`make` installs the lock as it is, without asking packages what they depend on."""
    left_out = PROJECT["tool"]["uv"]["exclude-dependencies"]
    assert left_out
    assert not locked().keys() & {canonicalize_name(name) for name in left_out}
    assert "install --quiet --no-deps" in MAKEFILE
    used = MAKEFILE + (ROOT / "Dockerfile").read_text()
    for name in LOCKS:
        assert f"--require-hashes -r {name}" in used


def test_every_client_has_one_version_and_its_hash() -> None:
    project = json.loads((CLIENTS / "package.json").read_text())
    lock = json.loads((CLIENTS / "package-lock.json").read_text())["packages"]
    root = lock.pop("")
    for group in ("dependencies", "optionalDependencies"):
        assert root[group] == project[group]
        for name, version in project[group].items():
            assert lock[f"node_modules/{name}"]["version"] == version
    for path in lock:
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", integrity(lock, path)), path


def integrity(lock: dict[str, dict[str, str]], path: str) -> str:
    """The hash of the archive that holds a package: its own, or the one it is bundled in."""
    while lock[path].get("inBundle"):
        path, _, _ = path.rpartition("/node_modules/")
    return lock[path]["integrity"]


def test_the_lock_of_the_clients_names_no_place() -> None:
    text = (CLIENTS / "package-lock.json").read_text()
    for word in ("://", "resolved", "funding", "file:", "git+"):
        assert word not in text
