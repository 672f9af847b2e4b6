"""Whether a database is the one of before."""

from pathlib import Path

import pytest

from middlewares.stores.ledger.base import Entry
from middlewares.stores.sql import identity
from middlewares.stores.sql.identity import (
    MEMORY,
    DatabaseState,
    Identity,
    WrongStore,
    accept,
    starting,
)
from tests.middlewares.stores.entries import use


def test_check_notes_the_first_it_sees_as_soon_as_the_folder_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    mine: Identity[Entry] = Identity(folder)
    mine.check(DatabaseState("a", 1, 0))
    assert not folder.exists()
    folder.mkdir()
    mine.check(DatabaseState("a", 1, 0))
    assert identity.remembered(folder) == "a"
    (folder / MEMORY).unlink()  # with the folder, say
    mine.check(DatabaseState("a", 1, 0))
    assert identity.remembered(folder) == "a"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (DatabaseState("b", 9, 9), "it is another database (b) than before (a)"),
        (DatabaseState("a", 4, 3), "its keys went back from revision 5 to 4"),
        (DatabaseState("a", 5, 2), "its credits went back from revision 3 to 2"),
        (DatabaseState("a", 5, 3, newest=False, oldest=False), "its ledger went back"),
    ],
)
def test_check_refuses_another_or_an_older_until_it_is_accepted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: DatabaseState, why: str
) -> None:
    monkeypatch.setattr(identity, "KEPT", 1)
    mine: Identity[Entry] = Identity(tmp_path)
    other: Identity[Entry] = Identity(tmp_path)
    for one in (mine, other):
        one.check(DatabaseState("a", 5, 3))
        one.written([use(), use()])
        for _ in range(2):
            with pytest.raises(WrongStore) as raised:
                one.check(found)
            assert why in str(raised.value)
        assert why in one.fault
    accept(tmp_path, found)
    for one in (mine, other):
        one.check(found)
        assert (one.fault, one.generation) == ("", 1)
    accept(tmp_path, DatabaseState("c", 0, 0))  # once more
    mine.check(DatabaseState("c", 0, 0))
    assert mine.generation == 2


def test_check_takes_the_right_one_back_without_a_word(tmp_path: Path) -> None:
    mine: Identity[Entry] = Identity(tmp_path)
    mine.check(DatabaseState("a", 5, 3))
    with pytest.raises(WrongStore):
        mine.check(DatabaseState("b", 0, 0))
    mine.check(DatabaseState("a", 6, 3))
    assert (mine.fault, mine.generation) == ("", 0)


def test_lost_rows_are_those_that_were_written_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(identity, "KEPT", 3)
    mine: Identity[Entry] = Identity(None)
    rows = [use() for _ in range(5)]
    assert mine.witnesses == ("", "")
    mine.written(rows[:2])
    mine.written(rows[2:])
    assert mine.witnesses == (rows[4].id, rows[1].id)
    mine.check(DatabaseState("a", 0, 0))
    assert mine.lost == ()
    mine.check(DatabaseState("a", 0, 0, newest=False))
    assert list(mine.lost) == rows[2:]
    mine.written([])
    assert mine.lost == ()


def test_acceptance_survives_what_a_process_notes_that_has_not_heard_of_it(tmp_path: Path) -> None:
    first: Identity[Entry] = Identity(tmp_path)
    first.check(DatabaseState("a", 5, 0))
    accept(tmp_path, DatabaseState("a", 5, 0))  # though nothing was wrong
    later: Identity[Entry] = Identity(tmp_path)
    first.check(DatabaseState("a", 6, 0))
    later.check(DatabaseState("a", 6, 0))
    accept(tmp_path, DatabaseState("b", 0, 0))
    for one in (first, later):
        one.check(DatabaseState("b", 0, 0))


def test_starting_takes_an_older_state_and_no_other_database(tmp_path: Path) -> None:
    starting(tmp_path, DatabaseState("a", 5, 3))
    Identity(tmp_path).check(DatabaseState("a", 5, 3))
    with pytest.raises(WrongStore, match="run `penstock accept-store`"):
        starting(tmp_path, DatabaseState("b", 5, 3))
    with pytest.raises(WrongStore):
        Identity(tmp_path).check(DatabaseState("a", 4, 3))
    starting(tmp_path, DatabaseState("a", 4, 3))
    Identity(tmp_path).check(DatabaseState("a", 4, 3))
