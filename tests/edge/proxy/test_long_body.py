"""Bodies whose turns are known are read as if they were not."""

import json
import random
from typing import Any

import msgspec
import pytest

from edge.billing.token_estimate import Estimator
from edge.endpoints import BY_NAME
from edge.proxy.long_body import LEAST, LongBodies, LongBody
from edge.requests.known_turns import TurnMarks
from middlewares.problem import Problem

ROWS = {
    "chat": BY_NAME["chat.completions"],
    "messages": BY_NAME["messages"],
    "responses": BY_NAME["responses"],
}
IMAGE = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" + "A" * 2000}
ODD: list[Any] = [
    {"role": "user", "content": [{"type": "image", "source": IMAGE}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
    {"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]},
    {"role": "user", "content": "a", "fileId": "x"},
    {"Role": "user", "content": "a"},
    {"type": "item_reference", "id": "msg_1"},
    {"role": "assistant", "content": "a", "thinking_blocks": [{"signature": "pk1-x"}]},
    *("text", 7, {}, [], None),
]


def turn(chance: random.Random) -> dict[str, Any]:
    text = 'some "quoted" text, [a] {b} \n é ' * chance.randrange(40)
    return chance.choice(
        [
            {"role": "user", "content": text},
            {"role": "assistant", "content": [{"type": "text", "text": text}]},
            {"role": "tool", "tool_call_id": "c", "content": text},
        ]
    )


def result(read: LongBody, body: bytes) -> tuple[Any, ...]:
    estimate = None
    if read.problem is None:
        weigh, whole = Estimator().estimate_weight, Estimator().estimate_body("m", body)
        estimate = whole if read.weight is None else weigh("m", read.weight)
        assert estimate == whole
    problem = None if read.problem is None else (str(read.problem), read.problem.param)
    fields = {name: bytes(raw) for name, raw in read.fields.items()}
    return read.row.name, fields, read.whole, problem, estimate, read.problem and None


def read(bodies: LongBodies, dialect: str, body: bytes, *, large: bool = True) -> Any:
    try:
        return result(bodies.read(ROWS[dialect], (), body, "key ann", large=large), body)
    except Problem as problem:
        return problem.kind, str(problem)


@pytest.mark.parametrize("dialect", ROWS)
def test_read_of_known_turns_equals_that_of_unknown_ones(dialect: str) -> None:
    """Conversations grow, their last turns change, some have odd turns, and bytes are broken."""
    chance = random.Random(dialect)
    member = "input" if dialect == "responses" else "messages"
    for _ in range(12):
        bodies = LongBodies()
        spaced = chance.random() < 0.3
        turns: list[Any] = [turn(chance) for _ in range(40)]
        for _ in range(8):
            turns += [turn(chance) for _ in range(chance.randrange(5))]
            if chance.random() < 0.4:
                turns[-1 - chance.randrange(6)] = turn(chance)
            if chance.random() < 0.25:
                turns.append(chance.choice(ODD))
            whole = {"model": "m", member: turns, "tools": [], "stream": True}
            body = json.dumps(whole, separators=None if spaced else (",", ":")).encode()
            if chance.random() < 0.2:
                body = body.replace(b'"role":"user"', b'"role":"x","role":"user"', 1)
            if chance.random() < 0.3:
                broken = bytearray(body)
                broken[chance.randrange(len(body))] = chance.randrange(256)
                body = bytes(broken)
            large = chance.random() < 0.8
            again = read(bodies, dialect, body, large=large)
            assert again == read(LongBodies(), dialect, body, large=large)


def test_read_knows_the_turns_of_the_last_body() -> None:
    bodies = LongBodies()
    turns: list[Any] = [{"role": "user", "content": "a" * 2000} for _ in range(LEAST // 1000)]
    marks = []
    for _ in range(3):
        turns.append({"role": "assistant", "content": "b"})
        body = json.dumps({"model": "m", "messages": turns}, separators=(",", ":")).encode()
        marks.append(bodies.read(ROWS["chat"], (), body, "key ann", large=True).marks)
    first, second, third = marks
    assert isinstance(first, TurnMarks) and isinstance(second, TurnMarks)
    assert isinstance(third, TurnMarks)
    assert second.segments[: len(first.segments)] == list(first.segments)
    assert len(third.segments) == len(second.segments) + 1
    other = bodies.read(ROWS["chat"], (), body, "key bob", large=True).marks
    assert other is not None and not set(map(id, other.segments)) & set(map(id, third.segments))


def test_read_knows_turns_only_where_they_stood() -> None:
    """The opening of the array stands in another member before."""
    bodies = LongBodies()
    turns = [{"role": "user", "content": "a" * 2000} for _ in range(LEAST // 1000)]
    text = json.dumps(turns, separators=(",", ":"))
    bodies.read(ROWS["chat"], (), f'{{"model":"m","messages":{text}}}'.encode(), "k", large=True)
    for given in (
        f'{{"model":"m","metadata":{{"messages":{text}}},"messages":[]}}',
        f'{{"model":"m","x\\"messages":{text},"messages":[{{"role":"user","content":"b"}}]}}',
        f'{{"model":"m","messages":{text},"messages":[{{"role":"user","content":"b"}}]}}',
    ):
        came = bodies.read(ROWS["chat"], (), given.encode(), "k", large=True)
        fields = msgspec.json.decode(given, type=dict[str, msgspec.Raw])
        assert came.problem is None
        assert bytes(came.fields["messages"]) == bytes(fields["messages"])
