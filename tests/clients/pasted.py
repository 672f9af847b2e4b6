"""A user who pastes set-up text: its files into a home and a project, its lines into a shell."""

import os
import sys
from pathlib import Path

from edge.dashboard.snippets.setup import Guide

from .programs import NODE, PACKAGES, run

PROGRAMS = (
    *(Path(sys.executable).parent, NODE.parent),
    *(PACKAGES / ".bin", PACKAGES / "opencode-linux-x64/bin"),
)
"""Folders of the programs, as an installation puts them into PATH."""

OFFLINE = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "IS_SANDBOX": "1",
    "OPENCLAW_NO_AUTO_UPDATE": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
}
"""What keeps the programs from asking others: their own switches, and a proxy that is not there for
what has none (plugins of OpenCode and Codex)."""


class Desk:
    """A home and a project of their own, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.home, self.project = folder / "home", folder / "project"
        self.home.mkdir()
        self.project.mkdir()
        (self.project / "node_modules").symlink_to(PACKAGES)

    def paste(self, guide: Guide) -> list[str]:
        """Write the files of a guide; its lines for a shell, block by block."""
        for block in guide.blocks:
            if block.path:
                path = self.place(block.path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
        return [block.text for block in guide.blocks if not block.path]

    def place(self, path: str) -> Path:
        """Where a path of a guide is."""
        in_home = path.removeprefix("~/")
        return self.project / path if in_home == path else self.home / in_home

    def shell(self, *lines: str) -> str:
        """What lines of a POSIX shell print, run in the project."""
        path = os.pathsep.join([*map(str, PROGRAMS), os.environ["PATH"]])
        env = {"HOME": str(self.home), "PATH": path, **OFFLINE}
        return run("sh", "-e", "-c", "\n".join(lines), folder=self.project, env=env)
