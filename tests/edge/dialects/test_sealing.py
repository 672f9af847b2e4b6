"""What is sealed opens for its owner and purpose, here and nowhere else."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.sealing import MARK, Seal, Sealing
from middlewares.stores import MemorySecretStore, StoreUnavailable

SEAL = Seal(bytes(range(32)))


@given(purpose=st.text(st.characters(exclude_characters="\0")), owner=st.text(), data=st.binary())
def test_what_was_sealed_opens(purpose: str, owner: str, data: bytes) -> None:
    text = SEAL.seal(purpose, owner, data)
    assert re.fullmatch(r"ps1-[A-Za-z0-9_-]+", text)
    assert SEAL.open(purpose, owner, text) == data


def test_for_no_other_and_nothing_else() -> None:
    text = SEAL.seal("compaction", "ann", b"secret summary")
    assert "secret" not in text
    assert SEAL.open("compaction", "bob", text) is None
    assert SEAL.open("other", "ann", text) is None
    assert SEAL.open("compactionann", "", text) is None
    assert Seal(bytes(32)).open("compaction", "ann", text) is None
    assert SEAL.seal("compaction", "ann", b"secret summary") != text


@given(data=st.data())
def test_one_altered_character_spoils_it(data: st.DataObject) -> None:
    text = SEAL.seal("p", "ann", b"x" * 20)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda c: c != text[place]))
    assert SEAL.open("p", "ann", text[:place] + other + text[place + 1 :]) is None
    assert SEAL.open("p", "ann", text[:place]) is None
    assert SEAL.open("p", "ann", text + other) is None


@given(st.text())
def test_what_we_did_not_seal_does_not_open(text: str) -> None:
    assert SEAL.open("p", "ann", text) is None
    assert SEAL.open("p", "ann", MARK + text) is None


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes: expected 32"):
        Seal(bytes(31))
    with pytest.raises(ValueError, match="without NUL"):
        SEAL.seal("a\0b", "ann", b"")


async def test_gateways_on_one_store_read_each_other() -> None:
    store = MemorySecretStore()
    first, second = await asyncio.gather(Sealing(store).seal(), Sealing(store).seal())
    assert second.open("p", "ann", first.seal("p", "ann", b"x")) == b"x"


async def test_an_outage_is_said_and_forgotten() -> None:
    class Store(MemorySecretStore):
        down = True

        async def secret(self, name: str) -> bytes:
            if self.down:
                raise StoreUnavailable("gone")
            return await super().secret(name)

    store = Store()
    sealing = Sealing(store)
    with pytest.raises(StoreUnavailable):
        await sealing.seal()
    store.down = False
    seal = await sealing.seal()
    store.down = True
    assert await sealing.seal() is seal
