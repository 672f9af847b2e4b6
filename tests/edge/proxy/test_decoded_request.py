"""A request is decoded once per exchange, and writing it for a target changes nothing in it."""

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any, Never

import msgspec
import pytest
from hypothesis import given

from edge.billing.token_estimate import TurnsWeight, weigh, weigh_turns
from edge.dialects.codec import TargetModel
from edge.dialects.conversation import Conversation, Text, Turn
from edge.dialects.passthrough import Fields
from edge.endpoints import BY_NAME, Codec
from edge.proxy import decoded_request
from edge.proxy.decoded_request import DecodedRequest, decoded_once
from edge.proxy.long_body import LEAST, LongBodies
from edge.proxy.translate import CLIENTS, UPSTREAMS
from middlewares.exchange import Dialect, Exchange
from middlewares.problem import Problem
from tests.edge.dialects.strategies import conversations
from tests.golden.case import CASES, parse
from tests.golden.play import exchange_of

TARGETS: tuple[tuple[Dialect, str], ...] = (
    ("openai", "gpt-4.1"),
    ("openai", "mistral-large"),
    ("anthropic", "claude-opus-5"),
    ("anthropic", "claude-3-5-haiku-20241022"),
    ("responses", "gpt-5.2"),
)
PAIRS = sorted(path.name for path in CASES.iterdir() if path.is_dir())


def refused(*_: Any, **__: Any) -> Never:
    raise AssertionError("a decoded request was changed")


class FrozenList(list[Any]):
    append = extend = insert = pop = remove = clear = sort = reverse = refused
    __setitem__ = __delitem__ = __iadd__ = __imul__ = refused


class FrozenDict(dict[str, Any]):
    pop = popitem = setdefault = update = clear = refused
    __setitem__ = __delitem__ = __ior__ = refused


def frozen(value: Any) -> Any:
    """`value` with lists and dicts that refuse to be changed, at any depth."""
    if isinstance(value, msgspec.Struct):
        changes = {name: frozen(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, list):
        return FrozenList(map(frozen, value))
    if isinstance(value, tuple):
        return tuple(map(frozen, value))
    if isinstance(value, dict):
        return FrozenDict({name: frozen(each) for name, each in value.items()})
    return value


def written(conversation: Conversation) -> Iterator[bytes]:
    """`conversation` as each target gets it; the message of what one cannot be asked."""
    for dialect, model in TARGETS:
        aim = TargetModel(model=model, max_output=64_000, context=200_000, origin="0" * 12)
        try:
            yield UPSTREAMS[dialect].write(conversation, aim).body
        except Problem as problem:
            yield str(problem).encode()


def check_that_writing_changes_nothing(conversation: Conversation) -> None:
    before = copy.deepcopy(conversation)
    still = frozen(conversation)
    first = list(written(still))
    assert still == before
    assert list(written(before)) == first


@pytest.mark.parametrize("pair", PAIRS)
def test_write_of_a_frozen_golden_request_changes_nothing(pair: str) -> None:
    for path in sorted((CASES / pair).glob("*.txt")):
        case = parse(path.read_text("utf-8"))
        try:
            exchange = exchange_of(case.endpoint, case.request)
            conversation = CLIENTS[exchange.row.codec].read(exchange.fields)
        except Problem:
            continue  # refused before anything is written
        check_that_writing_changes_nothing(conversation)


@given(conversations())
def test_write_of_any_frozen_conversation_changes_nothing(conversation: Conversation) -> None:
    check_that_writing_changes_nothing(conversation)


class Decoder:
    """Decodes to a fixed conversation and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _fields: Fields) -> Conversation:
        self.calls += 1
        return Conversation(turns=[Turn("user", [Text(text="hello")])])


def test_decoded_once_second_attempt_gets_the_first_result() -> None:
    exchange = Exchange(stream=True, large=True, repeatable=True)
    decode = Decoder()
    first = decoded_once(exchange, decode, exchange.fields)
    assert decoded_once(exchange, decode, exchange.fields) is first
    assert decode.calls == 1
    assert first.conversation.stream


@pytest.mark.parametrize(("size", "large"), [(4 << 20, False), ((4 << 20) + 1, True)])
def test_decoded_once_long_body_is_written_in_pieces(size: int, large: bool) -> None:
    fields = {"messages": msgspec.Raw(b" " * size)}
    exchange = Exchange(large=True, fields=fields)
    assert decoded_once(exchange, Decoder(), fields).conversation.large is large


def test_decoded_once_other_members_are_decoded_again() -> None:
    exchange = Exchange(repeatable=True)
    decode = Decoder()
    decoded_once(exchange, decode, exchange.fields)
    other = {"messages": msgspec.Raw(b"[]")}
    assert decoded_once(exchange, decode, other).fields is other
    assert decode.calls == 2


def test_decoded_once_last_attempt_keeps_nothing() -> None:
    exchange = Exchange(repeatable=False)
    assert isinstance(decoded_once(exchange, Decoder(), exchange.fields), DecodedRequest)
    assert exchange.decoded is None


LEADING: dict[Codec, list[Any]] = {
    "chat": [
        {"role": "system", "content": "Be brief. " * 50},
        {"role": "developer", "content": [{"type": "text", "text": "Grüße 日本"}]},
    ],
    "messages": [],
}


def conversation_of(turns: int) -> list[dict[str, Any]]:
    """A conversation that both Chat and Messages can read."""
    whole: list[dict[str, Any]] = [{"role": "user", "content": "Größe 1, 2, 3! " * (LEAST // 10)}]
    for number in range(turns):
        text = f"answer {number}: def f(x):\n    return {{x}}  # 日本 😀"
        whole.append({"role": "assistant", "content": [{"type": "text", "text": text}]})
        whole.append({"role": "user", "content": "and then? " * number})
    return whole


@pytest.mark.parametrize("codec", LEADING)
def test_decoded_once_weighs_only_turns_that_no_earlier_request_had(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed: list[int] = []

    def counted(turns: Iterable[Turn], *rest: int) -> TurnsWeight:
        held = list(turns)
        weighed.append(len(held))
        return weigh_turns(held, *rest)

    monkeypatch.setattr(decoded_request, "weigh_turns", counted)
    row, bodies = BY_NAME["chat.completions" if codec == "chat" else codec], LongBodies()

    def decoded(messages: list[dict[str, Any]], known: LongBodies = bodies) -> DecodedRequest:
        whole = {"model": "m", "max_tokens": 9, "messages": messages}
        body = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
        read = known.read(row, (), body, "key ann", large=True)
        assert read.problem is None and read.marks is not None
        exchange = Exchange(row=row, fields=read.fields, turn_marks=read.marks, repeatable=False)
        client = CLIENTS[codec]
        return decoded_once(exchange, client.read, read.fields, client.turns)

    turns = conversation_of(100)
    sizes = [1, *range(3, 40), 61, 150, 201]  # by one turn each, more often than segments are kept
    for size in sizes:
        weighed.clear()
        found = decoded([*LEADING[codec], *turns[:size]])
        assert found.weight == weigh(found.conversation)
        if 10 < size < 40:
            assert sum(weighed) <= 8
    changed = copy.deepcopy(turns)
    changed[100]["content"] = "something else"
    for messages in (changed, turns[:90], turns):
        found = decoded([*LEADING[codec], *messages])
        assert found.weight == weigh(found.conversation)
        assert found.weight == decoded([*LEADING[codec], *messages], LongBodies()).weight


def test_decoded_once_turns_of_other_bytes_are_all_weighed() -> None:
    """As those whose foreign signatures were taken out, or whose media became text."""
    row = BY_NAME["messages"]
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": conversation_of(20)}).encode()
    read = LongBodies().read(row, (), body, "key ann", large=True)
    exchange = Exchange(row=row, fields=read.fields, turn_marks=read.marks, repeatable=False)
    short = {**read.fields, "messages": msgspec.Raw(b'[{"role":"user","content":"hello"}]')}
    client = CLIENTS["messages"]
    found = decoded_once(exchange, client.read, short, client.turns)
    assert found.weight == weigh(found.conversation)
    assert found.weight.text < 20
