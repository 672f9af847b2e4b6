"""Dockerfile, .dockerignore and the unit of systemd: what can be checked without building an image.

`make image-proof` builds the image and runs it (`tests/image/`).
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from edge.config.load import Settings

from .pages import ROOT
from .waiting import DEADLINE

DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UNIT = (ROOT / "config/penstock.service").read_text()


def instructions(name: str) -> list[str]:
    """The arguments of each instruction of the Dockerfile with this name, lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", text, flags=re.MULTILINE)


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, "--no-color", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_image_runs_the_program_as_an_unprivileged_user() -> None:
    assert [json.loads(text) for text in instructions("ENTRYPOINT")] == [["penstock"]]
    assert [json.loads(text) for text in instructions("CMD")] == [["serve"]]
    assert instructions("USER") == ["65532:65532"]
    assert instructions("EXPOSE") == ["8080"]
    assert instructions("FROM") == ["${BASE} AS build", "${BASE}"]


def test_image_has_the_labels_of_the_project() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', DOCKERFILE))
    assert labels == {
        "title": PROJECT["name"],
        "description": labels["description"],
        "licenses": PROJECT["license"],
        "version": PROJECT["version"],
    }


@pytest.mark.parametrize("word", ["apt", "curl", "wget", "ADD", "http://", "https://", "SECRET"])
def test_build_takes_nothing_but_the_package_index(word: str) -> None:
    assert not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", DOCKERFILE)


def test_every_package_is_pinned_by_hash() -> None:
    installs = re.findall(r"pip install ([^&\\\n]*)", DOCKERFILE)
    assert len(installs) == 3
    for options in installs:
        assert "--no-deps" in options
        assert "--require-hashes" in options or "--no-index" in options, options


def test_dockerignore_lets_in_what_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    copied = {
        name for text in instructions("COPY") if "--from" not in text for name in text.split()[:-1]
    }
    assert allowed == copied
    assert {line for line in lines if line.startswith("**")} == {"**/__pycache__", "**/*.pyc"}


def unit(name: str) -> str:
    """The one value of a setting of the unit."""
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, flags=re.MULTILINE)
    return str(value)


def test_unit_gives_a_stop_the_time_that_it_takes() -> None:
    server = Settings().server
    assert float(unit("TimeoutStopSec")) > server.drain + server.drain_delay


def test_unit_is_hardened() -> None:
    wanted = {
        "Type": "notify",
        "DynamicUser": "yes",
        "StateDirectory": "penstock",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "PrivateTmp": "yes",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "LimitNOFILE": "65536",
        "KillMode": "mixed",
    }
    assert {name: unit(name) for name in wanted} == wanted


def test_unit_is_valid(tmp_path: Path) -> None:
    """By systemd itself where it is installed; without it, by the form of the lines."""
    assert all(re.match(r"(#|\[\w+\]$|\w+=|$)", line) for line in UNIT.splitlines())
    if verifier := shutil.which("systemd-analyze"):
        file = tmp_path / "penstock.service"
        file.write_text(UNIT.replace("/opt/penstock/bin/penstock", "/bin/true"))
        done = subprocess.run(
            [verifier, "verify", "--man=no", file], capture_output=True, text=True, timeout=DEADLINE
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
