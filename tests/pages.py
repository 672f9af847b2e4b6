"""Code blocks of the documentation, for tests that run them."""

import re
import shlex
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    """The text of a page. name: its path, such as `docs/clients.md`."""
    return (ROOT / name).read_text("utf-8")


def block(text: str, language: str, containing: str) -> str:
    """The one code block of a language that contains a text."""
    found = [
        code
        for code in re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if containing in code
    ]
    assert len(found) == 1, f"{len(found)} blocks of {language} contain {containing!r}"
    return str(found[0])


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    _, found, rest = text.partition(f"\n## {heading}\n")
    assert found, f"no section {heading!r}"
    lines = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def curl(script: str, url: str, key: str) -> list[Any]:
    """The responses to the curl calls of a block, sent to a gateway at `url`."""
    script = script.replace("$PENSTOCK_API_KEY", key).replace("\\\n", " ")
    script = script.replace("http://127.0.0.1:8080", url)
    responses = []
    for call in script.split("curl -N ")[1:]:
        address, *options = shlex.split(call)
        pairs = list(zip(options[::2], options[1::2], strict=True))
        headers = dict(value.split(": ", 1) for flag, value in pairs if flag == "-H")
        (body,) = (value for flag, value in pairs if flag == "-d")
        responses.append(httpx.post(address, headers=headers, content=body, trust_env=False))
    return responses
