"""Bounds on what a body may hold: each just met, and passed by one."""

import json
import random
from typing import Any

import msgspec
import pytest

from edge.endpoints import BY_NAME
from edge.requests import body_limits
from edge.requests.body_limits import check_all, check_few, decoded, encoded, is_large
from middlewares.problem import Problem

Fields = dict[str, msgspec.Raw]


def fields(text: str | bytes) -> Fields:
    return msgspec.json.decode(text, type=Fields)


def many(unit: str, count: int) -> str:
    return "[" + ",".join([unit] * count) + "]"


MESSAGE = '{"role":"user","content":"a"}'
PART = '{"type":"text","text":"a"}'
TOOL = '{"function":{"name":"f"}}'
BOUNDS = [
    # endpoint, body with %s, one unit, how many are taken, the path that is refused
    ("chat.completions", '{"messages":%s}', MESSAGE, body_limits.MOST_MESSAGES, "messages"),
    ("messages", '{"messages":%s}', MESSAGE, body_limits.MOST_MESSAGES, "messages"),
    ("responses", '{"input":%s}', MESSAGE, body_limits.MOST_MESSAGES, "input"),
    (
        "chat.completions",
        '{"messages":[{},{"content":%s}]}',
        PART,
        body_limits.MOST_PARTS,
        "messages[1].content",
    ),
    (
        "messages",
        '{"messages":[{"content":[{"type":"tool_result","content":%s}]}]}',
        PART,
        body_limits.MOST_PARTS,
        "messages[0].content[0].content",
    ),
    ("responses", '{"input":[{"output":%s}]}', PART, body_limits.MOST_PARTS, "input[0].output"),
    ("messages", '{"tools":%s}', TOOL, body_limits.MOST_TOOLS, "tools"),
    ("chat.completions", '{"functions":%s}', TOOL, body_limits.MOST_TOOLS, "functions"),
    (
        "chat.completions",
        '{"tools":[{"function":{"parameters":{"required":%s}}}]}',
        '"ab"',
        body_limits.MOST_NAMES,
        "tools[0].function.parameters.required",
    ),
    (
        "responses",
        '{"text":{"format":{"schema":{"enum":%s}}}}',
        "1",
        body_limits.MOST_NAMES,
        "text.format.schema.enum",
    ),
    ("embeddings", '{"input":%s}', '"ab"', body_limits.MOST_INPUTS, "input"),
    ("embeddings", '{"input":%s}', "[1,2]", body_limits.MOST_INPUTS, "input"),
    ("completions", '{"prompt":%s}', '"ab"', body_limits.MOST_INPUTS, "prompt"),
    ("embeddings", '{"input":[%s]}', "1", body_limits.MOST_VALUES - 2, "input"),
    ("messages", '{"messages":[{"x":%s}]}', "[]", body_limits.MOST_CONTAINERS - 3, "messages"),
    ("messages", '{"metadata":{"x":%s}}', '"a,[{"', body_limits.MOST_VALUES - 2, "metadata"),
]


@pytest.mark.parametrize(("endpoint", "body", "unit", "most", "path"), BOUNDS)
def test_check_all_takes_the_bound_and_refuses_one_more(
    endpoint: str, body: str, unit: str, most: int, path: str
) -> None:
    check_all(BY_NAME[endpoint], fields(body % many(unit, most)))
    with pytest.raises(Problem, match="expected at most") as refused:
        check_all(BY_NAME[endpoint], fields(body % many(unit, most + 1)))
    assert refused.value.param == path
    assert refused.value.kind == "invalid_request"


def test_check_all_takes_one_array_of_tokens_up_to_the_bound_on_values() -> None:
    check_all(
        BY_NAME["embeddings"], fields(f'{{"input":{many("17", body_limits.MOST_VALUES - 1)}}}')
    )


@pytest.mark.parametrize("name", ["stop", "stop_sequences"])
def test_check_few_bounds_stop_strings(name: str) -> None:
    for taken, refused, path in (
        (["a\n"] * body_limits.MOST_STOPS, ["a\n"] * (body_limits.MOST_STOPS + 1), name),
        ("é" * body_limits.LONGEST_STOP, "é" * (body_limits.LONGEST_STOP + 1), name),
        (
            ["a", "é" * body_limits.LONGEST_STOP],
            ["a", "é" * (body_limits.LONGEST_STOP + 1)],
            f"{name}[1]",
        ),
    ):
        check_few(fields(json.dumps({name: taken})))
        with pytest.raises(Problem) as found:
            check_few(fields(json.dumps({name: refused})))
        assert found.value.param == path


def test_check_few_bounds_metadata() -> None:
    members = {f"k{n}": "v" for n in range(body_limits.MOST_METADATA)}
    check_few(fields(json.dumps({"metadata": members})))
    with pytest.raises(Problem, match=f"at most {body_limits.MOST_METADATA} members"):
        check_few(fields(json.dumps({"metadata": {**members, "more": ""}})))


def test_values_are_counted_outside_of_strings_wherever_a_piece_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against the plain way to count, with pieces of a few bytes."""
    words = ["", ",", '"', "\\", '\\"', "[{,", "\\\\", "a\n", "[" * 9, 'x\\",\\"[']
    chance = random.Random(7)

    def made(depth: int) -> Any:
        kind = chance.randrange(3) if depth < 4 else 2
        if kind == 0:
            return [made(depth + 1) for _ in range(chance.randrange(4))]
        if kind == 1:
            return {chance.choice(words): made(depth + 1) for _ in range(chance.randrange(4))}
        return chance.choice([*words, 1, None, True])

    def counted(value: Any) -> tuple[int, int]:
        if not isinstance(value, dict | list):
            return 0, 0
        inner = [counted(each) for each in (value.values() if isinstance(value, dict) else value)]
        commas = max(0, len(inner) - 1)
        return 1 + sum(one for one, _ in inner), commas + sum(two for _, two in inner)

    for size in (1, 2, 3, 7, 1000):
        monkeypatch.setattr(body_limits, "PIECE", size)
        for _ in range(200):
            value = made(0)
            found = list(body_limits.counted(msgspec.Raw(json.dumps(value).encode())))
            assert tuple(map(sum, zip(*found, strict=True))) == counted(value), value


def test_check_all_counts_values_exactly_wherever_strings_have_brackets_and_commas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = random.Random(11)
    words = ["", "a", "[", ",,", '"{', "\\", "[{," * 3]
    refused = 0
    for _ in range(400):
        items = [chance.choice(words) for _ in range(chance.randrange(40))]
        lists = [items[at : at + 4] for at in range(0, len(items), 4)]
        body = {"model": chance.choice(words), "metadata": lists}
        containers = 1 + len(lists)
        values = 2 + containers + max(0, len(lists) - 1) + sum(len(one) - 1 for one in lists)
        for most_containers, most_values in ((8, 4000), (4000, 30)):
            monkeypatch.setattr(body_limits, "MOST_CONTAINERS", most_containers)
            monkeypatch.setattr(body_limits, "MOST_VALUES", most_values)
            over = containers > most_containers or values > most_values
            refused += over
            try:
                check_all(BY_NAME["messages"], fields(json.dumps(body)))
                assert not over
            except Problem:
                assert over
    assert 100 < refused < 700


def test_check_all_knows_turns_of_the_common_kinds() -> None:
    row = BY_NAME["chat.completions"]
    assert check_all(row, fields('{"messages":[{"role":"user","content":"a"}]}')) == {
        "messages": True
    }
    assert check_all(row, fields('{"messages":[{"type":"image"}],"input":"a"}')) == {
        "messages": False,
        "input": True,
    }
    unreadable = b'{"messages":[{"role":"user","content":"\xff"}]}'
    assert check_all(row, fields(unreadable)) == {"messages": False}


def test_decoded_in_pieces_is_what_is_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"a": [1, "x" * 50, {"b": [[], {}, None] * 20}], "c": "é" * 100, "d": 1.5}
    raw = msgspec.Raw(json.dumps(value).encode())
    monkeypatch.setattr(body_limits, "PIECE", 10)
    assert decoded(raw) == value
    with pytest.raises(msgspec.DecodeError):
        decoded(b'[1,"\\x and more"]')


def test_encoded_in_pieces_is_what_is_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"a": ['"\n\\' * 20, 1.5, None], "b": {"c": "é\U0001f600\x01" * 30, "d": "short"}}
    monkeypatch.setattr(body_limits, "PIECE", 7)
    assert encoded(value) == msgspec.json.encode(value)


@pytest.mark.parametrize(
    ("body", "large"),
    [
        (b"{" * 30_000, False),
        (b"a" * (256 << 10), True),
        (b"a" * (255 << 10), False),
        (b"{" * 2_000 + b"a" * (40 << 10), False),
        (b"{" * 2_001 + b"a" * (40 << 10), True),
        (b"," * 8_001 + b"a" * (40 << 10), True),
    ],
)
def test_is_large_by_bytes_or_by_what_it_may_hold(body: bytes, large: bool) -> None:
    assert is_large(body) is large


def test_no_body_that_is_not_large_can_be_over_a_bound_that_only_large_ones_are_checked_for() -> (
    None
):
    """Each unit takes a brace or a comma, so a small body has too few of them or of bytes."""
    least = min(
        *(
            body_limits.MOST_MESSAGES,
            body_limits.MOST_PARTS,
            body_limits.MOST_NAMES,
            body_limits.MOST_INPUTS,
        ),
        *(body_limits.MOST_VALUES, body_limits.MOST_CONTAINERS),
    )
    assert least > body_limits.MANY_VALUES
    assert 2 * least > body_limits.SMALL // 2
    assert body_limits.MOST_TOOLS > body_limits.MANY_OBJECTS
