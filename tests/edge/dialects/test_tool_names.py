"""Ids, tool names and packed data that every dialect can carry."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.conversation import Origin, Signature
from edge.dialects.signatures import MARK, fingerprint, pack, readable, unpack
from edge.dialects.tool_names import call_id, new_call_id, tool_name

DIALECTS = {"openai": 40, "responses": 64, "anthropic": 256}
LEGAL = re.compile(r"[a-zA-Z0-9_-]+")


@given(st.text(min_size=1, max_size=300), st.sampled_from(sorted(DIALECTS)))
def test_every_id_becomes_legal_the_same_way_each_time(id_: str, dialect: str) -> None:
    """diegosouzapw/OmniRoute#4317, langchain-ai/langchain#37756: call and result map alike."""
    mapped = call_id(id_, dialect)
    assert LEGAL.fullmatch(mapped)
    assert len(mapped) <= DIALECTS[dialect]
    assert call_id(id_, dialect) == mapped
    assert call_id(mapped, dialect) == mapped


@given(st.sets(st.text(min_size=1, max_size=80), max_size=5))
def test_different_ids_stay_different(ids: set[str]) -> None:
    assert len({call_id(id_, "openai") for id_ in ids}) == len(ids)


def test_an_id_that_fits_is_left_alone() -> None:
    assert call_id("toolu_01AbC-9", "openai") == "toolu_01AbC-9"


def test_minted_ids_follow_their_seed() -> None:
    assert (
        new_call_id("a", "anthropic")
        == new_call_id("a", "anthropic")
        != new_call_id("b", "anthropic")
    )
    assert new_call_id("a", "openai").startswith("call_")


@given(st.text(min_size=1, max_size=200))
def test_every_tool_name_becomes_legal(name: str) -> None:
    """BerriAI/litellm#17904, cline/cline#11885: names over 64 are hashed, not refused."""
    mapped = tool_name(name)
    assert LEGAL.fullmatch(mapped)
    assert len(mapped) <= 64
    assert tool_name(mapped) == mapped


def test_names_that_begin_alike_do_not_collide() -> None:
    names = ["x" * 70, "x" * 71, "mcp.a", "mcp/a", "mcp_a"]
    assert len({tool_name(name) for name in names}) == len(names)
    assert tool_name("mcp_a", taken=["mcp_a"]) != "mcp_a"


opaques = st.builds(
    Signature,
    origin=st.builds(Origin, st.sampled_from(["anthropic", "responses"]), st.text(max_size=9)),
    data=st.text(max_size=50),
    id=st.text(max_size=9),
    redacted=st.booleans(),
)


@given(opaques)
def test_packed_data_comes_back_whole(signature: Signature) -> None:
    text = pack(signature)
    assert unpack(text) == signature
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", text)


@pytest.mark.parametrize("text", ["", "EqQBCkYIB", MARK, MARK + "!", MARK + "é", MARK + "AAAA"])
def test_what_was_not_packed_is_not_unpacked(text: str) -> None:
    assert unpack(text) is None


@given(st.text(max_size=40))
def test_no_text_breaks_unpacking(text: str) -> None:
    assert unpack(MARK + text) is None or isinstance(unpack(MARK + text), Signature)


def test_packed_data_does_not_tell_the_model_behind_it() -> None:
    origin = Origin("anthropic", fingerprint("anthropic", "claude-secret-9"))
    assert "claude" not in str(unpack(pack(Signature(origin=origin, data="x"))))


def test_only_its_maker_reads_it() -> None:
    ours = fingerprint("anthropic", "m")
    made = Signature(origin=Origin("anthropic", ours), data="x")
    assert readable(made, "anthropic", ours)
    assert not readable(made, "anthropic", fingerprint("anthropic", "other"))
    assert not readable(made, "responses", ours)
    assert not readable(None, "anthropic", ours)
    assert readable(Signature(origin=Origin("anthropic"), data="x"), "anthropic", ours)
