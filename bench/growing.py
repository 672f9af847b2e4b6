"""Conversations of a coding agent, in the bytes that its client sends.

A deterministic generator: the same number makes the same conversation. It begins with a system text
and tools, and has up to a thousand turns: the model says a sentence and calls a tool, and the tool
returns code, a diff or the output of a command. Each request repeats all earlier turns, byte for
byte, and has one more, as agents send them; in Anthropic's dialect the mark for the cache moves to
the last block, as Claude Code moves it. No two conversations have a block of text in common.

Each text contains `MARK` once. A provider that counts them knows whether every block has arrived.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, Literal, NamedTuple

import msgspec

Dialect = Literal["chat", "messages"]

MARK = b"#mk"
KB, MB = 1_000, 1_000_000
_encode = msgspec.json.Encoder().encode


class Size(NamedTuple):
    """Sizes of a conversation in bytes: of the request in the middle, and what each turn adds.

    turns: requests after the first. system, tools: what it begins with.
    """

    middle: int
    step: int
    turns: int
    system: int
    tools: int

    @property
    def first(self) -> int:
        """Bytes of the first request."""
        return self.middle - self.turns // 2 * self.step


SIZES: Mapping[str, Size] = {
    "10 kB": Size(10 * KB, 700, 4, 2 * KB, 4),
    "100 kB": Size(100 * KB, 1500, 10, 12 * KB, 16),
    "1 MB": Size(1 * MB, 4 * KB, 24, 14 * KB, 20),
    "4 MB": Size(4 * MB, 4 * KB, 12, 14 * KB, 20),
}

_NAMES = (
    *("request", "response", "window", "account", "ledger", "stream", "budget", "upstream"),
    *("header", "cursor", "parser", "writer", "offset", "buffer", "session", "lease", "record"),
    *("column", "index", "worker", "retry", "token", "limit", "event", "policy"),
)
_LINES = (
    "    {a} = self._{b}.get({c!r}, {n})",
    "    if {a} is None or {a}.{b} < {n}:",
    '        raise ValueError(f"{a}: {{{b}!r}} is not one of {c}")',
    "def {a}_{b}({c}: int = {n}, *, {b}: str = '') -> dict[str, {a}]:",
    '    """Return the {a} of a {b}, or None if there is no {c}."""',
    "    for {a}, {b} in enumerate(sorted({c}s, key=lambda one: -one.{a})):",
    "        await self.{a}.{b}(b'\\r\\n'.join({c}), timeout={n}.5)",
    "    return [{a}.{b} for {a} in {c}s if {a}.{c} != {n}]",
    "# {a} → {b}: the {c} is kept until {n} of them are done",
    '    {a}s["{b}"] = {{"{c}": {n}, "path": "src/{a}/{b}.py", "ok": True}}',
    "",
    "class {a}{b}({c}):",
    "\t{a}->{b} = {c}[{n}]; // C's own style",
    "    const {a} = await {b}(`${{{c}}}/\\u00e9`, {{ retries: {n} }});",
    '-    log.info("{a} %s", {b})',
    '+    log.info("{a} {b}=%s", {b}.{c}, extra={{"n": {n}}})',
)
_SENTENCES = (
    "I'll read the {a} first, then change how the {b} is made.",
    'The test fails because "{a}" is set before the {b} exists. Let me look at {c}.py.',
    "That works. Next I update the {a}, as it still counts the {b} twice.",
    "Now let me run the tests of the {c}.",
)
_TOOLS = (
    ("Read", ("file_path", "offset", "limit")),
    ("Edit", ("file_path", "old_string", "new_string")),
    ("Bash", ("command", "timeout", "description")),
    ("Grep", ("pattern", "path", "glob")),
)
_POOL = 96
"""Texts of code that results are cut from."""


@cache
def _pool() -> Sequence[str]:
    """Some files' worth of code, 9 kB each."""
    random = Random(18)
    return [_lines(random, 9000) for _ in range(_POOL)]


def _filled(random: Random, template: str) -> str:
    a, b, c = random.choices(_NAMES, k=3)
    return template.format(a=a, b=b, c=c, n=random.randrange(4096))


def _lines(random: Random, size: int) -> str:
    """So many characters of code, as tools show it: half of it with numbers of lines."""
    numbered = random.random() < 0.5
    lines: list[str] = []
    length = number = 0
    while length < size:
        number += 1
        line = _filled(random, random.choice(_LINES))
        lines.append(f"{number:>6}→{line}" if numbered else line)
        length += len(lines[-1]) + 1
    return "\n".join(lines)[:size]


class Turn(NamedTuple):
    """What the model says and calls, and what the tool returns."""

    id: str
    said: str
    tool: str
    arguments: Mapping[str, Any]
    result: str


class Conversation:
    """One conversation. model: as it is asked for. number: no other has its texts."""

    def __init__(self, dialect: Dialect, model: str, size: Size, number: int) -> None:
        self.marks = 0
        self._dialect = dialect
        self._size = size
        self._random = Random(number)
        self._salt = f"{number:06d}"
        self._turns = 0
        self._head, self._tail = self._ends(model)
        self._blocks: list[bytes] = []
        self._history()

    def requests(self, words: Iterator[str]) -> Iterator[tuple[bytes, int]]:
        """The bodies of its requests, first to last, and the marks in each.

        words: the next one is in the last block of a request, and in no request before it.
        """
        target = self._size.first
        for _ in range(self._size.turns + 1):
            room = target - self._length() - 1
            last, kept = self._fitted(room, next(words))
            yield b"".join((self._head, b",".join([*self._blocks, last]), self._tail)), self.marks
            self._blocks.append(kept)
            target += self._size.step

    def _length(self) -> int:
        between = len(self._blocks) - 1
        return len(self._head) + len(self._tail) + sum(map(len, self._blocks)) + between

    def _history(self) -> None:
        """Turns up to shortly before the first request."""
        first = self._mark(_filled(self._random, "Please mend the {a} of the {b}, see {c}.py. "))
        self._blocks.append(_encode({"role": "user", "content": first}))
        length = self._length()
        reserve = self._size.first - max(1500, self._size.step)
        while True:
            wanted = min(int(self._random.expovariate(1 / 3200)) + 120, 9000)
            before = self.marks, self._turns
            block = self._written(self._turn(wanted))
            length += len(block) + 1
            if length > reserve:
                self.marks, self._turns = before
                return
            self._blocks.append(block)

    def _fitted(self, room: int, word: str) -> tuple[bytes, bytes]:
        """A turn of so many bytes: as the last one, and as it is repeated later."""
        turn = self._turn(0, word)
        overhead = len(self._written(turn, last=True))
        code = self._random.choice(_pool())
        text = code[: max(0, room - overhead)]
        while overhead + len(_encode(text)) - 2 > room:
            text = text[: len(text) - max(1, (overhead + len(_encode(text)) - 2 - room) // 2)]
        missing = room - overhead - (len(_encode(text)) - 2)
        turn = turn._replace(result=text + "." * missing + turn.result)
        return self._written(turn, last=True), self._written(turn)

    def _turn(self, size: int, word: str = "") -> Turn:
        random = self._random
        tool, members = random.choice(_TOOLS)
        at = random.randrange(9000 - size + 1)
        result = random.choice(_pool())[at : at + size]
        arguments = {members[0]: self._mark(_filled(random, "src/{a}/{b}_{c}.py"))}
        if tool == "Edit":
            half = len(result) // 2
            arguments |= {members[1]: result[:half], members[2]: result[half:]}
            result = "The file has been updated."
        self._turns += 1
        return Turn(
            f"toolu_{self._salt}{self._turns:05d}",
            self._mark(_filled(random, random.choice(_SENTENCES))),
            tool,
            arguments,
            self._mark(result) + (f" {word}" if word else ""),
        )

    def _mark(self, text: str) -> str:
        """The text with a mark and the conversation's number, so that no other has it."""
        self.marks += 1
        return f"{text} {MARK.decode()}{self._salt}"

    def _written(self, turn: Turn, *, last: bool = False) -> bytes:
        """A turn as the two messages of the dialect. last: the cache ends with it."""
        if self._dialect == "chat":
            function = {"name": turn.tool, "arguments": _encode(turn.arguments).decode()}
            call = {"id": turn.id, "type": "function", "function": function}
            said = {"role": "assistant", "content": turn.said, "tool_calls": [call]}
            returned = {"role": "tool", "tool_call_id": turn.id, "content": turn.result}
            return _encode(said) + b"," + _encode(returned)
        use = {"type": "tool_use", "id": turn.id, "name": turn.tool, "input": turn.arguments}
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": turn.id}
        block["content"] = turn.result
        if last:
            block["cache_control"] = {"type": "ephemeral"}
        text = {"type": "text", "text": turn.said}
        said = {"role": "assistant", "content": [text, use]}
        return _encode(said) + b"," + _encode({"role": "user", "content": [block]})

    def _ends(self, model: str) -> tuple[bytes, bytes]:
        """The body before the turns and after them."""
        system = self._mark(_lines(self._random, self._size.system))
        tools = [self._tool(number) for number in range(self._size.tools)]
        common = {"model": model, "max_tokens": 8192}
        if self._dialect == "chat":
            functions = [
                {"type": "function", "function": {**tool, "parameters": schema}}
                for tool, schema in tools
            ]
            message = _encode({"role": "system", "content": system})
            head = _encode(common)[:-1] + b',"messages":[' + message + b","
            return head, b'],"tools":' + _encode(functions) + b"}"
        marked = {"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}
        given = [{**tool, "input_schema": schema} for tool, schema in tools]
        head = _encode({**common, "system": [marked], "tools": given})[:-1] + b',"messages":['
        return head, b"]}"

    def _tool(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Name with description, and schema."""
        name, members = _TOOLS[number % len(_TOOLS)]
        name = name if number < len(_TOOLS) else f"{name}{number}"
        length = 120 if self._size.tools < 8 else 600
        properties = {
            member: {"type": "string", "description": _filled(self._random, "The {a} of the {b}.")}
            for member in members
        }
        schema = {"type": "object", "properties": properties, "required": [members[0]]}
        described = self._mark(_lines(self._random, length))
        return {"name": name, "description": described}, schema
