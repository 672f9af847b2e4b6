"""Fetch the files of other projects that browsers load: `make vendor`.

Each package is packed by npm without running a script of it. Its archive must have the integrity
that VENDOR.toml pins, and each file its hash; only the named files are unpacked.
"""

import subprocess
import sys
import tarfile
import tempfile
import tomllib
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parents[1] / "edge/dashboard/static/vendor"


def packages() -> list[dict[str, Any]]:
    """The rows of VENDOR.toml."""
    rows: list[dict[str, Any]] = tomllib.loads((VENDOR / "VENDOR.toml").read_text())["packages"]
    return rows


def unpacked(archive: Path, package: Mapping[str, Any]) -> dict[str, bytes]:
    """The named files of an archive, by the name that they get. Raises ValueError for another
    archive or file than the pinned one."""
    name = package["name"]
    integrity = "sha512-" + b64encode(sha512(archive.read_bytes()).digest()).decode()
    if integrity != package["integrity"]:
        raise ValueError(f"{name}: expected {package['integrity']}, found {integrity}")
    found = {}
    with tarfile.open(archive) as tar:
        for file in package["files"]:
            member = tar.extractfile(f"package/{file['from']}")
            content = b"" if member is None else member.read()
            if sha256(content).hexdigest() != file["sha256"]:
                raise ValueError(f"{name}: {file['from']} is not the pinned file")
            found[file["to"]] = content
    return found


def fetch(package: Mapping[str, Any], folder: Path) -> Path:
    """The archive of a package, from the registry."""
    wanted = f"{package['name']}@{package['version']}"
    command = ["npm", "pack", wanted, "--ignore-scripts", "--pack-destination", str(folder)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return folder / ran.stdout.strip().splitlines()[-1]


def main() -> None:
    """Fetch, compare and write all of them."""
    with tempfile.TemporaryDirectory() as folder:
        for package in packages():
            for name, content in unpacked(fetch(package, Path(folder)), package).items():
                (VENDOR / name).write_bytes(content)
                sys.stdout.write(f"{package['name']} {package['version']}: {name}\n")


if __name__ == "__main__":
    main()
