"""Builds the image without a registry: mmdebstrap makes the base, buildah runs the Dockerfile."""

import ast
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.pages import ROOT

_PACKAGES = "python3,python3-venv,ca-certificates"


class Image(NamedTuple):
    """root: the folder with the image's files. config: as `docker inspect` shows it."""

    root: Path
    config: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a container starts with."""
        return dict(pair.split("=", 1) for pair in self.config["Env"])


def _run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, f"{words[0]}: {done.stderr[-4000:]}\n{done.stdout[-2000:]}"
    return done.stdout.strip()


def archive(name: str, packages: str) -> Path:
    """The files of a small Debian with these packages. Kept: it takes two minutes to make."""
    found = Path(sys.prefix) / f"debian-{name}.tar"
    if not found.exists():
        new = found.with_suffix(".new.tar")
        _run("mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", new)
        new.replace(found)
    return found


def _index_of_the_host(folder: Path) -> Iterator[str]:
    """Options that let pip in the build use the package index that pip uses here.

    They mount a file with its settings, and each file and folder that these name.
    """
    settings: dict[str, str] = {}
    for line in _run(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = ast.literal_eval(value)
    config = folder / "pip.conf"
    lines = (f"{name} = {' '.join(value.split())}" for name, value in settings.items())
    config.write_text("\n".join(["[global]", *lines, ""]))
    yield f"--volume={config}:/etc/pip.conf:ro"
    places = set()
    for word in " ".join(settings.values()).split():
        if word.startswith("file://"):
            places.add(
                Path(word.removeprefix("file://")).parent
            )  # the pages name files beside them
        elif word.startswith("/"):
            places.add(Path(word))
    yield from (f"--volume={one}:{one}:ro" for one in sorted(places) if one.exists())


@contextmanager
def built() -> Iterator[Image]:
    """Build and unpack the image; it is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-image-"))
    folder.chmod(0o755)  # containers run as a user of their own
    root = folder / "root"
    where = ("--root", str(folder / "storage"), "--runroot", str(folder / "run"))

    def buildah(*words: str | Path) -> str:
        return _run("buildah", *where, "--storage-driver", "overlay", *words)

    try:
        base = buildah("from", "scratch")
        buildah("add", "--quiet", base, archive("python", _PACKAGES), "/")
        buildah("commit", "--quiet", base, "localhost/base")
        buildah("rm", base)
        options = ("--isolation=chroot", "--pull-never", "--build-arg=BASE=localhost/base")
        buildah("bud", *options, *_index_of_the_host(folder), "--tag=localhost/penstock", ROOT)
        found = json.loads(buildah("inspect", "--type=image", "localhost/penstock"))
        container = buildah("from", "--pull-never", "localhost/penstock")
        _run("cp", "--archive", "--one-file-system", buildah("mount", container), root)
        buildah("umount", container)
        buildah("rm", container)
        yield Image(root, found["OCIv1"]["config"])
    finally:
        subprocess.run(
            ["buildah", *where, "--storage-driver", "overlay", "rm", "--all"], check=False
        )
        subprocess.run(
            ["buildah", *where, "--storage-driver", "overlay", "rmi", "--all", "--force"]
        )
        shutil.rmtree(folder, ignore_errors=True)
