"""The built image. Its tests need root and packages of Debian, so `make image-proof` runs them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .build import Image, built
from .container import Container, Mounted

collect_ignore_glob = [] if "PENSTOCK_TEST_IMAGE" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """The image, built from the Dockerfile of this checkout, and unpacked."""
    with built() as one:
        yield one


@pytest.fixture
def mounted() -> Iterator[Mounted]:
    """A folder of configuration as Kubernetes mounts a ConfigMap, which any user can read."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-config-"))
    folder.chmod(0o755)
    try:
        yield Mounted(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def container(image: Image, mounted: Mounted, tmp_path: Path) -> Iterator[Container]:
    """The gateway in a container, ready."""
    one = Container(image, mounted, tmp_path / "output")
    try:
        one.wait_until_ready()
        yield one
    finally:
        one.kill()
