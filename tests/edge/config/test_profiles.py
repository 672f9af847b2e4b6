"""Profiles in a clone and in a wheel, and their tours."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge.config import profiles
from tests.pages import ROOT
from tests.waiting import DEADLINE

FOLDER = ROOT / "config/profiles"
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
"""What pip calls to build a wheel."""


def test_names_are_those_of_the_files() -> None:
    assert profiles.names() == tuple(sorted(file.stem for file in FOLDER.glob("*.toml")))
    for name in profiles.names():
        assert profiles.text(name) == (FOLDER / f"{name}.toml").read_text()


@pytest.mark.parametrize("name", ["clodin", "", "../penstock", "tours/capio"])
def test_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(profiles.UnknownProfile) as refused:
        profiles.document(name)
    assert str(refused.value) == (
        f"there is no profile {name!r}; expected one of "
        "capio, claude-code-proxy, claudexia, claudin, multimodal"
    )


@pytest.mark.parametrize("name", profiles.names())
def test_tour_shows_a_model_of_its_profile(name: str) -> None:
    tour = profiles.tour(name)
    models = profiles.document(name)["models"]
    assert tour.first.model in {one["id"] for one in models if not one.get("internal")}
    assert tour.commands
    for command in tour.commands:
        assert "{url}" in command.run
        assert command.says.endswith(".")


def test_wheel_has_the_profiles_and_reads_them(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(tmp_path / built.stdout.strip()) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("edge/profiles/")}
        wheel.extractall(tmp_path / "installed")
    files = {*FOLDER.glob("*.toml"), *FOLDER.glob("tours/*")}
    assert packed == {f"edge/profiles/{file.relative_to(FOLDER)}" for file in files}
    script = "from edge.cli import main; main(['profile', 'capio'])"
    printed = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert printed.stdout == (FOLDER / "capio.toml").read_text(), printed.stderr
