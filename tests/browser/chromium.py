"""The Chromium of the npm package `@sparticuz/chromium`, unpacked once.

It is a headless build with the libraries and the fonts that a plain machine lacks, so that every
machine runs the same browser. PENSTOCK_TEST_CHROMIUM names another program to run in its place.
"""

import fcntl
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.clients.programs import NODE, PACKAGES

HERE = Path(__file__).parent
PACKED = PACKAGES / "@sparticuz" / "chromium" / "bin"
UNPACKED = PACKAGES / ".chromium"
VARIABLE = "PENSTOCK_TEST_CHROMIUM"

PARTS = ("chromium", "al2023.tar", "fonts.tar")
"""Of the package; what it has for graphics cards is left out."""

FONTS = """<?xml version="1.0"?>
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <dir prefix="relative">../dejavu-fonts-ttf/ttf</dir>
  <selectfont><rejectfont><glob>*Condensed*</glob><glob>*ExtraLight*</glob></rejectfont></selectfont>
  <alias><family>system-ui</family><prefer><family>Open Sans</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Open Sans</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""
"""No font of the machine, so that a page is as wide on every machine."""

ARGUMENTS = [
    "--no-sandbox",  # tests also run as root, where Chromium has no sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    "--font-render-hinting=none",
    # Every other host fails to resolve: a page that asks for one is seen, and nothing is sent.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
"""Nothing among them weakens what pages may do: that is tested."""


class Chromium(NamedTuple):
    """A program, and the variables it is started with."""

    program: Path
    env: dict[str, str]


def chromium() -> Chromium:
    """The browser to start. Unpacks it when it is first asked for."""
    if named := os.environ.get(VARIABLE):
        return Chromium(Path(named), dict(os.environ))
    _unpack(UNPACKED)
    env = {
        **os.environ,
        "LD_LIBRARY_PATH": str(UNPACKED / "al2023" / "lib"),
        "FONTCONFIG_FILE": str(UNPACKED / "fonts.conf"),
        "XDG_CACHE_HOME": str(UNPACKED / "cache"),
    }
    return Chromium(UNPACKED / "chromium", env)


def _unpack(folder: Path) -> None:
    """Unpack the package into `folder`, which is there whole or not at all."""
    with (PACKAGES / ".chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return
        made = Path(tempfile.mkdtemp(prefix=".chromium-", dir=PACKAGES))
        try:
            _decompress(made)
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise


def _decompress(folder: Path) -> None:
    assert PACKED.is_dir(), f"no Chromium in {PACKED}: `make test` installs it"
    pairs = [str(path) for name in PARTS for path in (PACKED / f"{name}.br", folder / name)]
    subprocess.run([NODE, HERE / "unbrotli.mjs", *pairs], check=True)
    for archive in folder.glob("*.tar"):
        with tarfile.open(archive) as opened:
            opened.extractall(folder / archive.stem, filter="data")
        archive.unlink()
    (folder / "fonts.conf").write_text(FONTS)
    (folder / "chromium").chmod(0o755)
