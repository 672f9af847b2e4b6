"""What a request refers to is put in its place."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.api.responses import Expanded, expand
from edge.api.responses.items import history
from middlewares.exchange import Exchange
from middlewares.problem import Problem
from middlewares.stores import Kept, MemoryResponseStore, ResponseStore, StoreUnavailable

NOW = 1_000.0


def fields(**members: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()}


def said(text: str, **members: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text, **members}


def answered(text: str, **members: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "type": "message",
        "id": f"msg_{text}",
        "role": "assistant",
        "status": "completed",
        "content": [part],
        **members,
    }


async def keep(
    store: ResponseStore,
    id_: str,
    new: list[Any],
    output: list[Any],
    previous: str | None = None,
    owner: str = "ann",
) -> None:
    await store.save(
        Kept(
            owner=owner,
            id=id_,
            previous=previous,
            model="m",
            created_at=NOW,
            expires_at=NOW + 100,
            input=json.dumps(new).encode(),
            output=json.dumps(output).encode(),
            answer=b"{}",
            items=tuple(item["id"] for item in output if "id" in item),
        )
    )


async def expanded(
    store: ResponseStore | None,
    /,
    *,
    owner: str | None = "ann",
    limit: int = 1 << 20,
    now: float = NOW,
    **members: Any,
) -> Expanded:
    return await expand(fields(**members), owner, store, now=now, limit=limit)


def input_of(result: Expanded) -> Any:
    return json.loads(bytes(result.fields["input"]))


async def problem(store: ResponseStore | None, **members: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        await expanded(store, **members)
    return raised.value


@pytest.fixture
async def store() -> MemoryResponseStore:
    store = MemoryResponseStore()
    await keep(store, "r1", [said("one")], [answered("un")])
    await keep(store, "r2", [said("two")], [answered("deux")], "r1")
    return store


async def test_the_conversation_stands_before_the_new_input(store: MemoryResponseStore) -> None:
    result = await expanded(store, previous_response_id="r2", input=[said("three")], model="m")
    assert input_of(result) == [
        said("one"),
        answered("un"),
        said("two"),
        answered("deux"),
        said("three"),
    ]
    assert set(result.fields) == {"input", "model"}
    assert result.previous == "r2"
    assert json.loads(result.new) == [said("three")]


async def test_a_string_becomes_a_message(store: MemoryResponseStore) -> None:
    result = await expanded(store, previous_response_id="r1", input='say "é\n"')
    part = {"type": "input_text", "text": 'say "é\n"'}
    message = {"type": "message", "role": "user", "content": [part]}
    assert input_of(result) == [said("one"), answered("un"), message]
    assert json.loads(result.new) == [message]


async def test_without_new_input_there_is_what_was(store: MemoryResponseStore) -> None:
    nothing: list[dict[str, Any]] = [{}, {"input": None}]
    for members in nothing:
        result = await expanded(store, previous_response_id="r1", **members)
        assert input_of(result) == [said("one"), answered("un")]
        assert result.new == b"[]"


async def test_what_refers_to_nothing_stays_as_it_came(store: MemoryResponseStore) -> None:
    for given_ in ("hello", [said("a"), {"role": "user", "content": "b"}]):
        before = fields(input=given_, previous_response_id=None, instructions="x")
        result = await expand(before, "ann", store, now=NOW, limit=1)
        assert result.fields["input"] is before["input"]
        assert result.previous is None
        assert "previous_response_id" not in result.fields
        assert "previous_response_id" in before


@pytest.mark.parametrize("id_", ["r9", "", "résumé", "\0", "x" * 500, "r1 ", "r1%"])
async def test_an_unknown_response_is_said(store: MemoryResponseStore, id_: str) -> None:
    found = await problem(store, previous_response_id=id_, input="x")
    assert (found.kind, found.status(Exchange())) == ("previous_response_not_found", 400)
    assert found.param == "previous_response_id"
    assert found.message is not None
    assert found.message.isascii()
    assert found.message.isprintable()
    assert len(found.message) < 1000


async def test_foreign_expired_and_deleted_ones_are_unknown(store: MemoryResponseStore) -> None:
    await keep(store, "r3", [], [answered("x")], owner="bob")
    ask = {"input": "x", "previous_response_id": "r3"}
    foreign = await problem(store, **ask)
    await store.delete("ann", "r2", NOW)
    ask["previous_response_id"] = "r2"
    deleted = await problem(store, **ask)
    expired = await problem(store, now=NOW + 100, **{**ask, "previous_response_id": "r1"})
    anonymous = await problem(store, owner=None, **ask)
    nowhere = await problem(None, **ask)
    kinds = {each.kind for each in (foreign, deleted, expired, anonymous, nowhere)}
    assert kinds == {"previous_response_not_found"}


async def test_references_are_replaced(store: MemoryResponseStore) -> None:
    result = await expanded(
        store,
        input=[said("hi"), {"type": "item_reference", "id": "msg_un"}, {"id": "msg_deux"}],
    )
    assert input_of(result) == [said("hi"), answered("un"), answered("deux")]
    assert json.loads(result.new) == input_of(result)


async def test_a_reference_into_the_conversation_adds_nothing(store: MemoryResponseStore) -> None:
    """A tool call that came twice would be refused upstream."""
    result = await expanded(
        store,
        previous_response_id="r2",
        input=[{"type": "item_reference", "id": "msg_un"}, said("three")],
    )
    assert [item.get("id") for item in input_of(result)] == [None, "msg_un", None, "msg_deux", None]
    assert json.loads(result.new) == [said("three")]


async def test_items_without_id_go_by_the_one_they_are_listed_with(
    store: MemoryResponseStore,
) -> None:
    turns = await store.conversation("ann", "r2", NOW, 9)
    minted = next(history(turns)).id
    result = await expanded(
        store, previous_response_id="r2", input=[{"type": "item_reference", "id": minted}]
    )
    assert len(input_of(result)) == 4


async def test_an_unknown_item_is_named(store: MemoryResponseStore) -> None:
    await keep(store, "r3", [], [answered("bobs")], owner="bob")
    for id_ in ("msg_x", "msg_bobs", "é"):
        found = await problem(store, input=[said("a"), {"type": "item_reference", "id": id_}])
        assert (found.kind, found.param) == ("not_found", "input[1].id")
        assert found.status(Exchange()) == 404
    assert (await problem(None, input=[{"id": "msg_un"}])).kind == "not_found"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": {"a": 1}}, "input"),
        ({"input": 3}, "input"),
        ({"input": ["text"]}, "input[0]"),
        ({"input": [{"role": "user", "content": "a"}, [1]]}, "input[1]"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"id": 5}]}, "input[0].id"),
        ({"input": "x", "previous_response_id": 7}, "previous_response_id"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(
    store: MemoryResponseStore, members: dict[str, Any], param: str
) -> None:
    found = await problem(store, **members)
    assert (found.kind, found.param) == ("invalid_request", param)


async def test_bytes_that_are_no_text_are_refused(store: MemoryResponseStore) -> None:
    for name, raw in (
        ("previous_response_id", b'"\xff"'),
        ("previous_response_id", b'"\\ud800"'),
        ("input", b'[{"id":"\xff"}]'),
    ):
        with pytest.raises(Problem) as raised:
            await expand({name: msgspec.Raw(raw)}, "ann", store, now=NOW, limit=99)
        assert raised.value.kind == "invalid_request"


async def test_the_whole_is_bounded(store: MemoryResponseStore) -> None:
    whole = input_of(await expanded(store, previous_response_id="r2", input="x"))
    found = await problem(store, previous_response_id="r2", input="x", limit=200)
    assert len(json.dumps(whole)) > 200
    assert (found.kind, found.param) == ("request_too_large", "previous_response_id")


async def test_answers_lose_what_requests_may_not_have() -> None:
    store = MemoryResponseStore()
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "e"}
    await keep(
        store,
        "r1",
        [said("x")],
        [
            {**reasoning, "content": None, "status": None},
            {**call, "created_by": "them", "status": "completed"},
        ],
    )
    result = await expanded(store, previous_response_id="r1")
    assert input_of(result)[1:] == [reasoning, {**call, "status": "completed"}]


async def test_an_outage_is_a_503() -> None:
    class Down(MemoryResponseStore):
        async def conversation(self, *_: Any) -> Any:
            raise StoreUnavailable("gone")

        async def holding(self, *_: Any) -> Any:
            raise StoreUnavailable("gone")

    for members in ({"previous_response_id": "r1"}, {"input": [{"id": "x"}]}):
        found = await problem(Down(), **members)
        assert found.kind == "store_unavailable"
        assert "gone" in found.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ITEM = st.builds(
    lambda extra, role: {**extra, "type": "message", "role": role},
    st.dictionaries(st.text().filter(lambda name: name != "created_by"), JSON, max_size=4),
    st.sampled_from(["user", "assistant"]),
)
OUTPUT = ITEM.map(lambda item: {k: v for k, v in item.items() if v is not None})


@given(
    turns=st.lists(st.tuples(st.lists(ITEM, max_size=3), st.lists(OUTPUT, max_size=3)), max_size=5),
    new=st.lists(ITEM, max_size=3),
)
async def test_a_chain_equals_the_whole_conversation_sent_at_once(
    turns: list[tuple[list[Any], list[Any]]], new: list[Any]
) -> None:
    """Continuing turn by turn gives the model what sending everything would."""
    store = MemoryResponseStore()
    whole: list[Any] = []
    previous = None
    for n, (given_, output) in enumerate(turns):
        result = await expanded(store, previous_response_id=previous, input=given_)
        whole += given_
        assert input_of(result) == whole
        assert json.loads(result.new) == given_
        await store.save(
            Kept(
                owner="ann",
                id=f"r{n}",
                previous=previous,
                model="m",
                created_at=NOW,
                expires_at=NOW + 100,
                input=result.new,
                output=json.dumps(output).encode(),
                answer=b"{}",
            )
        )
        previous = f"r{n}"
        whole += output
    result = await expanded(store, previous_response_id=previous, input=new)
    assert input_of(result) == whole + new


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=8))
async def test_each_item_referred_to_stands_once_where_it_was_first_named(
    names: list[str | None],
) -> None:
    store = MemoryResponseStore()
    await keep(store, "r1", [], [answered("a"), answered("b"), answered("c")])
    asked = [
        said("x") if name is None else {"type": "item_reference", "id": f"msg_{name}"}
        for name in names
    ]
    result = await expanded(store, input=asked)
    wanted: list[Any] = []
    for name in names:
        item = said("x") if name is None else answered(name)
        if name is None or item not in wanted:
            wanted.append(item)
    assert input_of(result) == wanted


async def test_what_a_request_refers_to_counts_with_its_body() -> None:
    store = MemoryResponseStore()
    await keep(store, "resp_1", [said("x" * 5000)], [answered("one")])
    await keep(store, "resp_2", [said("y" * 7000)], [answered("two")])
    counted: list[int] = []
    asked = fields(
        previous_response_id="resp_1", input=[{"type": "item_reference", "id": "msg_two"}]
    )
    await expand(asked, "ann", store, now=NOW, limit=100_000, extend=counted.append)
    conversation, items = counted
    assert 5000 < conversation < 6000 and 0 < items < 1000

    def full(size: int) -> None:
        raise Problem("rate_limited")

    with pytest.raises(Problem, match="rate_limited"):
        await expand(asked, "ann", store, now=NOW, limit=100_000, extend=full)
