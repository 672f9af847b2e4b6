"""A document's snippets, run as they are pasted: only what a user replaces is replaced.

Each runs in a process of its own, in a folder and a home of its own. Proxies of this machine are
off, and nothing but the variables that are given comes from its environment.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.clients.programs import NODE, PACKAGES, run


class Answer(NamedTuple):
    """What curl got. headers: by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)

    def events(self) -> list[Any]:
        """The documents of a stream of events, without `[DONE]`."""
        found = re.findall(r"^data: ?(.*)$", self.text, re.MULTILINE)
        return [json.loads(one) for one in found if one != "[DONE]"]


def filled_in(snippet: str, replaced: Mapping[str, str]) -> str:
    """A snippet with a user's host and key. Asserts that it has what is replaced."""
    for old, new in replaced.items():
        assert old in snippet, f"the snippet has no {old!r}"
        snippet = snippet.replace(old, new)
    return snippet


def curl(line: str, replaced: Mapping[str, str], folder: Path, **env: str) -> Answer:
    """The answer to a curl line, run by a POSIX shell.

    What has to be known of the answer besides its body is asked for in curl's own configuration
    file, so that the line stays as it is.
    """
    head = folder / "head.txt"
    (folder / ".curlrc").write_text(f'silent\nshow-error\ndump-header = "{head}"\n')
    line = filled_in(line, replaced)
    text = run("sh", "-e", "-c", line, folder=folder, env={"HOME": str(folder), **env})
    (first, *rest) = re.split(r"\r?\n\r?\n", head.read_text("latin-1").strip())[-1].splitlines()
    fields = (one.partition(":") for one in rest)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    return Answer(int(first.split()[1]), headers, text)


def python(code: str, replaced: Mapping[str, str], folder: Path, **env: str) -> str:
    """What Python code prints, with the SDKs and `requests` at hand."""
    file = folder / "snippet.py"
    file.write_text(filled_in(code, replaced))
    return run(sys.executable, file, folder=folder, env={"HOME": str(folder), **env})


def node(code: str, replaced: Mapping[str, str], folder: Path, **env: str) -> str:
    """What a JavaScript module prints, with the SDKs at hand."""
    packages = folder / "node_modules"
    if not packages.exists():
        packages.symlink_to(PACKAGES)
    file = folder / "snippet.mjs"
    file.write_text(filled_in(code, replaced))
    return run(NODE, file, folder=folder, env={"HOME": str(folder), **env})
