"""What is in the image, and what is not."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .build import Image
from .container import Mounted, run


def entries(image: Image) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and folder by its path in the image, but for links and devices."""
    for folder, folders, files in os.walk(image.root):
        for name in (*folders, *files):
            path = Path(folder, name)
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
                yield f"/{path.relative_to(image.root)}", found


def test_configuration_of_the_image(image: Image) -> None:
    config = image.config
    assert (config["Entrypoint"], config["Cmd"]) == (["penstock"], ["serve"])
    assert (config["User"], [*config["ExposedPorts"]]) == ("65532:65532", ["8080/tcp"])
    assert config["Labels"]["org.opencontainers.image.title"] == "penstock"
    assert not any("KEY" in name or "TOKEN" in name for name in image.environment)


def test_no_file_is_writable_by_all_or_has_the_rights_of_its_owner(image: Image) -> None:
    writable = {path for path, found in entries(image) if found.st_mode & stat.S_IWOTH}
    assert writable <= {"/tmp", "/var/tmp", "/run/lock"}, writable
    privileged = [
        path
        for path, found in entries(image)
        if stat.S_ISREG(found.st_mode) and found.st_mode & (stat.S_ISUID | stat.S_ISGID)
    ]
    assert privileged == []


def test_program_belongs_to_root_and_only_root_can_change_it(image: Image) -> None:
    ours = [(path, found) for path, found in entries(image) if path.startswith("/opt/penstock/")]
    assert len(ours) > 1000
    assert {(found.st_uid, found.st_gid) for _, found in ours} == {(0, 0)}
    assert not [path for path, found in ours if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)]


def test_no_pip_and_nothing_that_runs_at_the_start_of_the_interpreter(
    image: Image, mounted: Mounted
) -> None:
    names = [path for path, _ in entries(image)]
    assert [path for path in names if path.endswith(".pth")] == []
    assert [path for path in names if path.endswith("/pip") and not path.startswith("/etc")] == []
    for module in ("pip", "setuptools", "hatchling", "ensurepip"):
        done = run(image, mounted, "python3", "-c", f"import {module}")
        assert "ModuleNotFoundError" in done.stderr, module


def test_extras_are_installed(image: Image, mounted: Mounted) -> None:
    modules = "h2, av, PIL, pypdfium2, opentelemetry.exporter.otlp.proto.http.trace_exporter"
    done = run(image, mounted, "python3", "-c", f"import {modules}")
    assert done.returncode == 0, done.stderr


def test_nothing_else_of_the_checkout_is_inside(image: Image) -> None:
    packages = image.root.glob("opt/penstock/lib/python3*/site-packages/*")
    names = {path.name for path in packages}
    assert {"edge", "middlewares"} <= names
    assert not {"tests", "bench", "docs", "helm"} & names
    assert not (image.root / "build").exists()
