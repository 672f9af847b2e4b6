"""Files of other projects are those that VENDOR.toml pins."""

import tomllib
from hashlib import sha256

from edge.dashboard.static_files import FOLDER

VENDOR = FOLDER / "vendor"
PACKAGES = tomllib.loads((VENDOR / "VENDOR.toml").read_text())["packages"]


def test_vendored_files_have_the_pinned_hashes() -> None:
    for package in PACKAGES:
        for file in package["files"]:
            assert sha256((VENDOR / file["to"]).read_bytes()).hexdigest() == file["sha256"], file


def test_vendored_files_are_all_pinned() -> None:
    pinned = {file["to"] for package in PACKAGES for file in package["files"]}
    assert {path.name for path in VENDOR.iterdir()} == {*pinned, "VENDOR.toml"}


def test_each_vendored_package_has_its_licence() -> None:
    for package in PACKAGES:
        assert any(file["to"].endswith(".LICENSE") for file in package["files"])
        assert package["integrity"].startswith("sha512-")
        assert package["license"]
