"""An answer in the other form than was asked for is the same answer, in every case that has one."""

from pathlib import Path
from typing import Any

import pytest

from edge.dialects.conversation import (
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from edge.dialects.events import Reply, fold
from edge.dialects.split_characters import CharacterJoiner
from edge.proxy.form_conversion import body_of_stream, stream_of_body
from edge.proxy.translate import UPSTREAMS
from middlewares.exchange import Dialect

from .case import CASES, Case, parse

DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic", "responses")
OTHERWISE = {
    "call-cut-by-length.txt": "unstreamed, Messages has no place for half an object",
    "content-filter.txt": "what is said in place of a refusal is then text of the answer",
}
"""Cases in which the two forms differ, and why."""


def cases(dialect: Dialect) -> list[tuple[str, Case]]:
    """Those that end well."""
    found = []
    for path in sorted(Path(CASES).glob(f"*-{dialect}/*.txt")):
        case = parse(path.read_text("utf-8"))
        if path.name not in OTHERWISE and not case.recorded.keys() & {"failed", "refused"}:
            found.append((f"{path.parent.name}/{path.name}", case))
    return found


def shown(reply: Reply) -> tuple[Any, ...]:
    """What a caller has of a reply; where its text is cut into blocks is the form's own."""
    said: dict[str, str] = {}
    calls = []
    for block in reply.blocks:
        if isinstance(block, ToolCall):
            calls.append((block.id, block.name, block.arguments or "{}"))
        elif isinstance(block, Text | Thinking | Refusal):
            kind = type(block).__name__
            said[kind] = said.get(kind, "") + block.text
    stop = "end" if reply.stop == "stop_sequence" else reply.stop
    return said, calls, stop, reply.usage, reply.failed


def streamed(dialect: Dialect, stream: bytes) -> Reply:
    reader, halves = UPSTREAMS[dialect].reader(), CharacterJoiner()
    block = halves.join(stream.rstrip(b"\r\n") + b"\n\n") + halves.rest()
    return fold([*reader.decode(block), *reader.decode_end()])


def plain(dialect: Dialect, body: bytes) -> Reply:
    return fold(UPSTREAMS[dialect].read(body))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_stream_put_together_is_the_answer_that_it_makes(dialect: Dialect) -> None:
    for name, case in cases(dialect):
        stream = case.stream()
        if stream is not None:
            made = plain(dialect, body_of_stream(stream, dialect))
            assert shown(made) == shown(streamed(dialect, stream)), name


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whole_answer_as_a_stream_is_the_same_answer(dialect: Dialect) -> None:
    for name, case in cases(dialect):
        body = case.body()
        if body is not None:
            made = streamed(dialect, stream_of_body(body, dialect))
            assert shown(made) == shown(plain(dialect, body)), name
