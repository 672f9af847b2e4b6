"""What another maker signed, in a request to a vendor who speaks the same dialect."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.billing.token_estimate import Estimator
from edge.dialects import signatures
from edge.dialects.codec import TargetModel
from edge.dialects.conversation import Origin, Signature
from edge.dialects.foreign_signatures import DROPPED, UNTHOUGHT, without_foreign_signatures
from edge.dialects.passthrough import Fields
from edge.proxy.translate import Translator, translator_for
from middlewares.exchange import Dialect
from tests.edge.exchanges import exchange_at

DIALECTS: tuple[Dialect, ...] = ("anthropic", "responses", "openai")
ENDPOINTS = {"anthropic": "messages", "responses": "responses", "openai": "chat.completions"}
HELLO = {"role": "user", "content": "Hi"}
CALL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
RESULT = {
    "role": "user",
    "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}],
}
TEXT = {"type": "text", "text": "Ok"}
ENABLED = {"type": "enabled", "budget_tokens": 4096}


def thought(signature: str = "c2ln") -> dict[str, Any]:
    return {"type": "thinking", "thinking": "hm", "signature": signature}


def redacted(data: str = "c2ln") -> dict[str, Any]:
    return {"type": "redacted_thinking", "data": data}


def made(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks), **more}


def packed(dialect: str, model: str) -> str:
    origin = Origin(dialect, signatures.fingerprint(dialect, model))
    return signatures.pack(Signature(origin=origin, data="c2ln"))


def fields_of(**members: Any) -> Fields:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


def left(dialect: Dialect, first: int, **members: Any) -> Any:
    """What is left of a request, read."""
    fields, dropped = without_foreign_signatures(fields_of(**members), dialect, first)
    assert bool(dropped) is (fields != fields_of(**members))
    return msgspec.json.decode(msgspec.json.encode(fields))


def way(endpoint: str, spoken: Dialect, *, foreign: int, **members: Any) -> Translator:
    exchange = exchange_at(endpoint, model="m", fields=fields_of(model="m", **members))
    found = translator_for(
        exchange,
        [spoken],
        TargetModel(model="claude-opus-4-5"),
        estimator=Estimator(),
        foreign=foreign,
    )
    assert found is not None
    return found


def sent(translator: Translator) -> Any:
    return msgspec.json.decode(translator.take_body())


# Messages -----------------------------------------------------------------------------------------


def test_thinking_goes_as_far_as_it_is_foreign() -> None:
    history = [HELLO, made(thought(), redacted(), TEXT), HELLO, made(thought(), TEXT), HELLO]
    bare = made(TEXT)
    assert left("anthropic", 0, messages=history)["messages"] == history
    assert left("anthropic", 1, messages=history)["messages"] == history
    assert left("anthropic", 2, messages=history)["messages"] == [HELLO, bare, *history[2:]]
    for all_of_it in (4, 5, 100):
        found = left("anthropic", all_of_it, messages=history)["messages"]
        assert found == [HELLO, bare, HELLO, bare, HELLO]


def test_a_turn_of_nothing_else_goes_with_its_thinking() -> None:
    history = [HELLO, made(thought(), redacted()), HELLO]
    assert left("anthropic", 3, messages=history)["messages"] == [HELLO, HELLO]


def test_thinking_without_a_signature_goes_too() -> None:
    history = [HELLO, made(thought(""), {"type": "thinking", "thinking": "hm"}, TEXT), HELLO]
    assert left("anthropic", 3, messages=history)["messages"] == [HELLO, made(TEXT), HELLO]


def test_what_is_packed_is_left_to_those_who_can_read_its_maker() -> None:
    seal = packed("responses", "m")
    history = [HELLO, made(thought(seal), redacted(seal), TEXT), HELLO]
    assert left("anthropic", 3, messages=history)["messages"] == history


@pytest.mark.parametrize("thinking", [ENABLED, {"type": "adaptive"}, None])
def test_thinking_ends_where_what_led_to_a_call_is_gone(thinking: Any) -> None:
    """anomalyco/opencode#3077: `Expected thinking, but found tool_use`."""
    budget = thinking == ENABLED
    turn = [HELLO, made(thought(), CALL), RESULT]
    for history, first in (
        (turn, 3),
        ([*turn, made(CALL), RESULT], 3),  # the new maker could not think before its own call
    ):
        fields, dropped = without_foreign_signatures(
            fields_of(messages=history, thinking=thinking), "anthropic", first
        )
        assert ("thinking" not in fields) is budget
        assert dropped == ([DROPPED, UNTHOUGHT] if budget else [DROPPED])
    own = [*turn, made(thought("own"), CALL), RESULT]
    found = left("anthropic", 3, messages=own, thinking=thinking)
    assert found["thinking"] == thinking
    assert found["messages"][3:] == own[3:]
    over = [*turn, made(TEXT), HELLO]
    assert left("anthropic", 3, messages=over, thinking=thinking)["thinking"] == thinking


def test_a_text_about_thinking_stays() -> None:
    about = {"type": "text", "text": 'a block with "type": "thinking"'}
    call = {**CALL, "input": {"type": "thinking", "signature": "c2ln"}}
    history = [{"role": "user", "content": [about]}, made(about, call), RESULT]
    fields = fields_of(messages=history)
    assert without_foreign_signatures(fields, "anthropic", 3) == (fields, [])


# Responses ----------------------------------------------------------------------------------------


def reasoned(seal: str | None, **more: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal, **more}


CALLED = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RETURNED = {"type": "function_call_output", "call_id": "c", "output": "ok"}


def test_encrypted_reasoning_goes_as_far_as_it_is_foreign() -> None:
    words = reasoned(None, content=[{"type": "reasoning_text", "text": "hm"}])
    seal = reasoned(packed("anthropic", "m"))
    items = [HELLO, reasoned("gAAA"), CALLED, RETURNED, words, seal, reasoned("gBBB"), CALLED]
    assert left("responses", 1, input=items)["input"] == items
    assert left("responses", 4, input=items)["input"] == [HELLO, *items[2:]]
    bare = [HELLO, CALLED, RETURNED, words, seal, CALLED]
    assert left("responses", 8, input=items)["input"] == bare
    assert left("responses", 100, input=items)["input"] == bare
    assert left("responses", 3, input='"reasoning"')["input"] == '"reasoning"'


# Chat ---------------------------------------------------------------------------------------------


def test_what_chat_servers_sign_goes_as_far_as_it_is_foreign() -> None:
    own, ours = {"type": "reasoning.encrypted", "data": "gAAA"}, {"data": packed("anthropic", "m")}
    plain = {"type": "reasoning.text", "text": "hm"}
    signed = made(TEXT, reasoning_content="hm", reasoning_details=[plain, own, ours])
    blocks = made(TEXT, thinking_blocks=[thought()])
    history = [HELLO, signed, HELLO, blocks, HELLO]
    found = left("openai", 3, messages=history)["messages"]
    assert found == [HELLO, {**signed, "reasoning_details": [plain, ours]}, *history[2:]]
    assert left("openai", 5, messages=history)["messages"][3] == made(TEXT)
    assert left("openai", 1, messages=history)["messages"] == history


# All of them --------------------------------------------------------------------------------------

FULL: dict[Dialect, dict[str, Any]] = {
    "anthropic": {"messages": [HELLO, made(thought(), CALL), RESULT], "thinking": ENABLED},
    "responses": {"input": [HELLO, reasoned("gAAA"), CALLED, RETURNED]},
    "openai": {"messages": [HELLO, made(TEXT, thinking_blocks=[thought()]), HELLO]},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_foreign_costs_nothing(dialect: Dialect) -> None:
    fields = fields_of(**FULL[dialect])
    same, dropped = without_foreign_signatures(fields, dialect, 0)
    assert same is fields
    assert dropped == []
    plain = fields_of(messages=[HELLO], input=[HELLO])
    assert without_foreign_signatures(plain, dialect, 9)[0] is plain


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_foreign_leaves_every_byte(dialect: Dialect) -> None:
    endpoint = ENDPOINTS[dialect]
    plain = way(endpoint, dialect, foreign=0, **FULL[dialect])
    assert plain.dropped == []
    before = way(endpoint, dialect, foreign=1, **FULL[dialect])
    assert before.take_body() == plain.take_body()
    switched = way(endpoint, dialect, foreign=9, **FULL[dialect])
    assert switched.dropped[0] == DROPPED
    assert b"c2ln" not in (body := switched.take_body())
    assert b"gAAA" not in body


@pytest.mark.parametrize("raw", [b"[7]", b'{"a":1}', b'["thinking"]', b"[" * 4000 + b"]" * 4000])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_cannot_be_read_is_left_to_the_upstream(dialect: Dialect, raw: bytes) -> None:
    signs = (
        b'[{"content":[{"type":"thinking","a":%s}]},{"type":"reasoning","reasoning_details":%s}]'
    )
    for body in (raw, signs % (raw, raw)):
        fields = {"messages": msgspec.Raw(body), "input": msgspec.Raw(body)}
        found, _ = without_foreign_signatures(fields, dialect, 9)
        assert found is fields or dialect == "anthropic"


blocks = st.sampled_from([thought(), redacted(), TEXT, CALL, thought(packed("responses", "m"))])
entries = st.sampled_from(
    [HELLO, RESULT, reasoned("gAAA"), reasoned(packed("anthropic", "m")), CALLED, RETURNED]
) | st.lists(blocks, min_size=1, max_size=4).map(lambda some: made(*some, thinking_blocks=some))


def expected(dialect: Dialect, history: list[Any], first: int) -> list[Any]:
    """The same, decided once more on what was read."""

    def is_foreign(each: dict[str, Any], *members: str) -> bool:
        return any(name in each and not each[name].startswith(signatures.MARK) for name in members)

    kept: list[Any] = []
    for entry in history[:first]:
        if dialect == "responses":
            if not is_foreign(entry, "encrypted_content"):
                kept.append(entry)
            continue
        where = "content" if dialect == "anthropic" else "thinking_blocks"
        if isinstance(entry.get(where), list):
            rest = [each for each in entry[where] if not is_foreign(each, "signature", "data")]
            if rest:
                kept.append({**entry, where: rest})
            elif dialect == "openai":
                kept.append({name: value for name, value in entry.items() if name != where})
        else:
            kept.append(entry)
    return kept + history[first:]


@given(history=st.lists(entries, max_size=8), first=st.integers(0, 9))
def test_what_is_left_is_left_byte_for_byte(history: list[Any], first: int) -> None:
    """Nothing else goes, and whatever holds nothing foreign is the bytes it came in."""
    written = [msgspec.json.encode(each).replace(b'":', b'" : ') for each in history]
    raw = msgspec.Raw(b"[ " + b" , ".join(written) + b" ]")
    for dialect in DIALECTS:
        where = "input" if dialect == "responses" else "messages"
        fields, dropped = without_foreign_signatures({where: raw}, dialect, first)
        wanted = expected(dialect, history, first)
        assert msgspec.json.decode(fields[where]) == wanted
        assert bool(dropped) is (wanted != history)
        if not dropped:
            assert fields[where] is raw
        elif dialect == "anthropic":  # messages are put together again, of what they held
            for message in msgspec.json.decode(fields[where], type=list[dict[str, msgspec.Raw]]):
                content = message.get("content", msgspec.Raw(b"{"))
                pieces = [content]
                if bytes(content).startswith(b"["):
                    pieces = msgspec.json.decode(content, type=list[msgspec.Raw])
                assert all(bytes(piece) in bytes(raw) for piece in pieces)
        else:
            for each in msgspec.json.decode(fields[where], type=list[msgspec.Raw]):
                assert bytes(each) in written or msgspec.json.decode(each) not in history


# The way across -----------------------------------------------------------------------------------


def test_a_chat_that_is_translated_believes_only_what_it_packed() -> None:
    """Raw signatures in a chat never reach Anthropic; packed ones reach their maker alone."""
    mine = packed("anthropic", "claude-opus-4-5")
    for seal, arrives in ((mine, True), (packed("anthropic", "other"), False), ("c2ln", False)):
        message = made(thinking_blocks=[thought(seal)], content="Ok")
        tail = {"role": "user", "content": "More"}
        translator = way(
            "chat.completions",
            "anthropic",
            foreign=3,
            messages=[HELLO, message, tail],
            reasoning_effort="high",
        )
        assert ("c2ln" in translator.take_body().decode()) is arrives


@pytest.mark.parametrize("foreign", [0, 4])
def test_a_borrowed_body_speaks_responses(foreign: int) -> None:
    """Cursor sends items to the chat path."""
    translator = way(
        "chat.completions",
        "responses",
        foreign=foreign,
        input=[HELLO, reasoned("gAAA"), CALLED, RETURNED],
    )
    assert ("gAAA" in translator.take_body().decode()) is (foreign == 0)
    assert (DROPPED in translator.dropped) is (foreign != 0)


@pytest.mark.parametrize("foreign", [0, 3])
def test_what_is_rewritten_in_its_own_dialect_is_cleaned_first(foreign: int) -> None:
    exchange = exchange_at(
        "messages",
        model="m",
        fields=fields_of(model="m", max_tokens=9000, **FULL["anthropic"]),
    )
    translator = translator_for(
        exchange,
        ["anthropic"],
        TargetModel(model="claude-opus-4-5"),
        estimator=Estimator(),
        allow_passthrough=False,
        foreign=foreign,
    )
    assert translator is not None
    body = sent(translator)
    kinds = [block["type"] for block in body["messages"][1]["content"]]
    assert kinds == (["tool_use"] if foreign else ["thinking", "tool_use"])
    assert ("thinking" in body) is (foreign == 0)


@pytest.mark.parametrize("endpoint", ["messages", "responses"])
def test_another_dialect_gets_no_seal_of_the_callers(endpoint: str) -> None:
    for spoken in DIALECTS:
        if ENDPOINTS[spoken] == endpoint:
            continue
        members = FULL["anthropic"] if endpoint == "messages" else FULL["responses"]
        if endpoint == "messages":
            members = {**members, "max_tokens": 9000}
        translator = way(endpoint, spoken, foreign=0, **members)
        body = translator.take_body()
        assert b"c2ln" not in body
        assert b"gAAA" not in body
