"""A request is decoded once per exchange, and writing it for a target changes nothing in it."""

import copy
from collections.abc import Iterator
from typing import Any, Never

import msgspec
import pytest
from hypothesis import given

from edge.dialects.codec import TargetModel
from edge.dialects.conversation import Conversation, Text, Turn
from edge.dialects.passthrough import Fields
from edge.proxy.decoded_request import DecodedRequest, decoded_once
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
