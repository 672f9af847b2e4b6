"""Files of other projects are those that VENDOR.toml pins."""

import io
import tarfile
from base64 import b64encode
from hashlib import sha256, sha512
from pathlib import Path

import pytest

from tests.vendor import VENDOR, packages, unpacked


def test_vendored_files_have_the_pinned_hashes() -> None:
    for package in packages():
        for file in package["files"]:
            assert sha256((VENDOR / file["to"]).read_bytes()).hexdigest() == file["sha256"], file


def test_vendored_files_are_all_pinned() -> None:
    pinned = {file["to"] for package in packages() for file in package["files"]}
    assert {path.name for path in VENDOR.iterdir()} == {*pinned, "VENDOR.toml"}


def test_each_vendored_package_has_its_licence() -> None:
    for package in packages():
        assert any(file["to"].endswith(".LICENSE") for file in package["files"])
        assert package["integrity"].startswith("sha512-")
        assert package["license"]


def _archive(folder: Path, content: bytes) -> Path:
    path = folder / "one.tgz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("package/dist/one.js")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path


def test_vendor_takes_the_pinned_archive_and_file_only(tmp_path: Path) -> None:
    archive = _archive(tmp_path, b"good")
    integrity = "sha512-" + b64encode(sha512(archive.read_bytes()).digest()).decode()
    good = sha256(b"good").hexdigest()
    file = {"from": "dist/one.js", "to": "one.js", "sha256": good}
    package = {"name": "one", "integrity": integrity, "files": [file]}
    assert unpacked(archive, package) == {"one.js": b"good"}
    with pytest.raises(ValueError, match="not the pinned file"):
        unpacked(archive, {**package, "files": [{**file, "sha256": "0" * 64}]})
    with pytest.raises(ValueError, match="expected sha512-"):
        unpacked(archive, {**package, "integrity": "sha512-x"})
