"""One golden case, a text file.

A title, and why this case is here.

== caller: ENDPOINT
its request as JSON, without `stream`: it is played both ways

== upstream: DIALECT MODEL [max_output=N] [context=N]

== upstream stream[: raw] [crlf] [cut]
one JSON object a line, framed as the dialect frames it, and `[DONE]`
    raw: what stands there is sent as it is. crlf: its lines end in CR LF.
    cut: without the blank line behind the last event.
== upstream body
one JSON object
== upstream refusal: STATUS [HEADER=VALUE]
the body

Recorded:
== sent             the upstream's request, streamed
== dropped          what of the request had no place in it, one a line
== caller stream    what the caller reads, byte for byte
== caller body      the same unstreamed, as JSON with its members in order
== refused          status and body of the answer to what cannot be done
== failed           kind of the failure, and the log's reason for it
== usage            tokens, as they are billed
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent / "cases"
GIVEN = ("caller", "upstream", "upstream stream", "upstream body", "upstream refusal")
RECORDED = (
    "sent",
    "dropped",
    "caller stream",
    "caller body",
    "refused",
    "failed",
    "usage",
)
_HEAD = re.compile(r"^== ([a-z ]+?)(?:: (.*))?$", re.MULTILINE)
_WIDTH = 96


@dataclass
class Section:
    """What stands behind the colon of a head, and below it."""

    words: str = ""
    text: str = ""


@dataclass
class Case:
    """A file. `recorded` is what the exchange has to come to, by name of the section."""

    about: str
    given: dict[str, Section]
    recorded: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """The caller's."""
        return self.given["caller"].words

    @property
    def request(self) -> dict[str, Any]:
        """The caller's body, without `stream`."""
        found: dict[str, Any] = json.loads(self.given["caller"].text)
        return found

    @property
    def dialect(self) -> str:
        """The upstream's."""
        return self.given["upstream"].words.split()[0]

    @property
    def model(self) -> str:
        """The upstream's name of it."""
        return self.given["upstream"].words.split()[1]

    @property
    def limits(self) -> dict[str, int]:
        """What the catalog knows of the model."""
        words = self.given["upstream"].words.split()[2:]
        return {name: int(value) for name, _, value in (word.partition("=") for word in words)}

    def stream(self) -> bytes | None:
        """What the upstream streams; None when the case is not streamed."""
        section = self.given.get("upstream stream")
        if section is None:
            return None
        words = section.words.split()
        text = section.text
        if "raw" not in words:
            text = "\n\n".join(map(self._framed, text.splitlines()))
        if "cut" not in words:
            text += "\n\n"
        if "crlf" in words:
            text = text.replace("\n", "\r\n")
        return text.encode()

    def _framed(self, line: str) -> str:
        if self.dialect == "openai":
            return f"data: {line}"
        return f"event: {json.loads(line)['type']}\ndata: {line}"

    def body(self) -> bytes | None:
        """The upstream's unstreamed answer; None when there is none."""
        section = self.given.get("upstream body")
        return None if section is None else section.text.encode()

    def refusal(self) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """Status, headers and body of an upstream that refuses."""
        section = self.given.get("upstream refusal")
        if section is None:
            return None
        status, *words = section.words.split()
        headers = [word.partition("=")[::2] for word in words]
        pairs = [(name.encode(), value.encode()) for name, value in headers]
        return int(status), pairs, section.text.encode()


def parse(text: str) -> Case:
    """A case from the text of its file. Raises ValueError for what is no section of one."""
    about, *rest = _HEAD.split(text)
    case = Case(about.strip("\n"), {})
    for name, words, body in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        if name in GIVEN:
            case.given[name] = Section(words or "", body.strip("\n"))
        elif name in RECORDED:
            case.recorded[name] = body.strip("\n")
        else:
            raise ValueError(f"section {name!r}: expected one of {', '.join(GIVEN + RECORDED)}")
    return case


def render(case: Case) -> str:
    """The inverse of `parse`."""
    parts = [case.about]
    for name in GIVEN:
        if name in case.given:
            section = case.given[name]
            head = f"== {name}: {section.words}" if section.words else f"== {name}"
            parts.append(f"{head}\n{section.text}" if section.text else head)
    parts += [f"== {name}\n{case.recorded[name]}" for name in RECORDED if name in case.recorded]
    return "\n\n".join(parts) + "\n"


def pretty(value: Any, indent: str = "") -> str:
    """JSON in which what fits stands on one line. Members keep their order."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= _WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        lines = [
            f"{json.dumps(k, ensure_ascii=False)}: {pretty(v, inner)}" for k, v in value.items()
        ]
        opening, closing = "{}"
    else:
        lines = [pretty(each, inner) for each in value]
        opening, closing = "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{closing}"
