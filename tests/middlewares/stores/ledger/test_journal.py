"""The journal: what is on disk after each call, and what is made of it when its process is gone."""

import errno
import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from middlewares.stores import StoreUnavailable
from middlewares.stores.ledger.base import AttemptRecord, Entry
from middlewares.stores.ledger.journal import Damaged, Journal, closed, dead, records
from tests.middlewares.stores.entries import use
from tests.waiting import DEADLINE

from .full_disk import full_disk

ROOT = Path(__file__).parents[4]


def left(folder: Path) -> list[list[Entry]]:
    """All rows of all dead journals, which stay."""
    found: list[list[Entry]] = []
    for journal in dead(folder):
        found += list(journal.rows())
        journal.release()
    return found


def test_open_entries_are_read_last(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "new" / "folder")
    rows = [use(ended="lost") for _ in range(4)]
    for row in rows:
        journal.open(row)
    done = use(id=rows[1].id, attempts=[AttemptRecord("a", ms=1.5)], starts={"5h": 1.25})
    journal.close(done)
    journal.void(rows[2].id)
    never_opened = use()
    journal.close(never_opened)
    assert journal.under_way == 2
    assert left(tmp_path / "new" / "folder") == []  # it lives
    journal.aclose(keep=True)
    assert left(tmp_path / "new" / "folder") == [[done, never_opened], [rows[0], rows[3]]]


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    journal = Journal(folder)
    journal.open(use())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.suffix for path in folder.iterdir()} == {".lock", ".journal"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    journal.aclose(keep=False)
    assert list(folder.iterdir()) == []
    journal.aclose(keep=False)


def test_torn_at_every_byte(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first, second = use(), use(asked="ü" * 20)
    journal.open(first)
    ends = [journal.size]
    journal.open(second)
    ends.append(journal.size)
    journal.close(first)
    ends.append(journal.size)
    journal.void(second.id)
    ends.append(journal.size)
    path = journal.path(1)
    journal.aclose(keep=True)
    whole = path.read_bytes()
    assert len(whole) == ends[-1]
    expected = [("open", first), ("open", second), ("close", first), ("void", second.id)]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = sum(end <= length for end in ends)
        assert list(records(path)) == expected[:complete]
        path.write_bytes(whole[:length] + bytes(4096))  # as a file system may leave it
        assert list(records(path)) == expected[:complete]


def test_a_flipped_bit_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path)
    rows = [use() for _ in range(3)]
    ends = []
    for row in rows:
        journal.close(row)
        ends.append(journal.size)
    path = journal.path(1)
    journal.aclose(keep=True)
    whole = path.read_bytes()
    for at in range(ends[0] + 4, ends[1]):  # all but the length of the second
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(Damaged, match=f"byte {ends[0]}"):
            list(records(path))
    assert left(tmp_path) == [[rows[0]], []]
    (journal_left,) = dead(tmp_path)
    list(journal_left.rows())
    journal_left.remove()
    journal_left.release()
    assert [path.suffix for path in tmp_path.iterdir()] == [".damaged"]
    assert "damaged" in caplog.text
    assert list(dead(tmp_path)) == []


def test_whole_record_that_is_no_entry_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path)
    rows = [use() for _ in range(2)]
    journal.close(rows[0])
    journal.close(use(input=cast(int, 12.5)))
    journal.close(rows[1])
    journal.aclose(keep=True)
    (found,) = dead(tmp_path)
    assert list(found.rows()) == [rows, []]
    found.remove()
    found.release()
    assert [path.suffix for path in tmp_path.iterdir()] == [".damaged"]
    assert "damaged" in caplog.text


def test_journals_of_another_version_are_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a program before or after this one has left is money, too."""
    journal = Journal(tmp_path)
    journal.close(use())
    path = journal.path(1)
    journal.aclose(keep=True)
    written = path.read_bytes()
    path.write_bytes(written.replace(b"journal 2", b"journal 3"))
    (other,) = dead(tmp_path)
    assert list(other.rows()) == [[], []]
    other.remove()
    other.release()
    (aside,) = tmp_path.iterdir()
    assert aside.suffix == ".damaged"
    assert aside.read_bytes() == written.replace(b"journal 2", b"journal 3")
    assert "another version" in caplog.text


def test_a_new_segment_begins_with_what_is_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    rows = [use() for _ in range(5)]
    for row in rows:
        journal.open(row)
    journal.close(rows[0])
    journal.turn()
    journal.close(rows[1])
    journal.turn()
    journal.void(rows[2].id)
    journal.close(rows[3])
    assert [closed(journal.path(number)) for number in (1, 2, 3)] == [
        [rows[0]],
        [rows[1]],
        [rows[3]],
    ]
    journal.path(1).unlink()  # its rows are in the store
    journal.aclose(keep=True)
    assert left(tmp_path) == [[rows[1]], [rows[3]], [rows[4]]]


def test_a_text_that_cannot_be_encoded_is_mended(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open(use(asked="\ud800"))
    journal.close(use(input=2**80, cost=5))
    journal.aclose(keep=True)
    closed_row, opened_row = (rows[0] for rows in left(tmp_path))
    assert (closed_row.cost, opened_row.asked) == (5, "?")


def test_only_one_recovers(tmp_path: Path) -> None:
    Journal(tmp_path).aclose(keep=True)
    Journal(tmp_path).aclose(keep=True)
    first = dead(tmp_path)
    mine = next(first)
    others = [journal.name for journal in dead(tmp_path)]
    assert len(others) == 1
    assert others != [mine.name]
    mine.remove()
    mine.release()


def test_a_folder_with_something_else_in_it(tmp_path: Path) -> None:
    foreign = tmp_path / "notes.txt"
    foreign.write_text("mine")
    with pytest.raises(StoreUnavailable, match="cannot write the journal"):
        Journal(foreign / "folder")
    Journal(tmp_path).aclose(keep=True)
    for journal in dead(tmp_path):
        list(journal.rows())
        journal.remove()
        journal.release()
    assert list(tmp_path.iterdir()) == [foreign]


FULL_DISK = """
import errno, resource, signal, sys
from pathlib import Path
from middlewares.stores import StoreUnavailable
from middlewares.stores.ledger.journal import Journal, dead
from tests.middlewares.stores.entries import use

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kept = [use(), use()]
journal = Journal(Path(sys.argv[1]), room=50)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)


def full(act):
    before = journal.size, journal.segment
    try:
        act()
    except OSError as raised:
        assert raised.errno in (errno.ENOSPC, errno.EFBIG), raised
    except StoreUnavailable as raised:
        assert "cannot write the journal: [Errno 28]" in str(raised), raised
    else:
        raise SystemExit("written past the limit")
    assert (journal.size, journal.segment) == before


full(lambda: journal.open(use()))
journal._room = 4096
journal.turn()
for row in kept:
    journal.open(row)
while True:  # until the segment is full
    try:
        journal.open(use(note="x" * 100))
    except StoreUnavailable:
        break
    journal.void(next(reversed(journal._open)))
full(lambda: journal.close(use(id=kept[0].id, note="y" * 500)))
full(lambda: journal.void(kept[1].id))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
full(journal.turn)
assert not journal.path(journal.segment + 1).exists()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.turn()
last = use()
journal.open(last)
journal.aclose(keep=True)
(left,) = dead(Path(sys.argv[1]))
print([row.id for rows in left.rows() for row in rows] == [kept[0].id, last.id])
"""


def test_a_full_disk_tears_nothing_and_what_ended_is_made_up_for(tmp_path: Path) -> None:
    """A segment has its room from the beginning; the kernel limits the size of the next one."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (ran.stdout, ran.stderr) == ("True\n", "")


@pytest.mark.parametrize("again", [True, False])
def test_late_records_come_before_the_next_or_the_end(tmp_path: Path, again: bool) -> None:
    journal = Journal(tmp_path)
    rows = [use() for _ in range(3)]
    for row in rows:
        journal.open(row)
    with full_disk(journal):
        for end in (partial(journal.close, rows[0]), partial(journal.void, rows[1].id)):
            with pytest.raises(OSError) as raised:
                end()
            assert raised.value.errno == errno.ENOSPC
        with pytest.raises(StoreUnavailable, match="a segment is full"):
            journal.open(use())
    later = use()
    if again:
        journal.open(later)
    journal.aclose(keep=True)
    assert left(tmp_path) == [[rows[0]], [rows[2], *([later] if again else [])]]


def test_records_in_any_cut_are_a_beginning_of_them(tmp_path: Path) -> None:
    """Many records of all kinds, cut anywhere: rows are those closed before the cut."""
    chance = random.Random(3)
    journal = Journal(tmp_path)
    going: list[Entry] = []
    states: list[tuple[int, list[str], set[str]]] = [(0, [], set())]
    ended: list[str] = []
    for _ in range(300):
        act = chance.random()
        if act < 0.5 or not going:
            going.append(use(asked="x" * chance.randrange(200)))
            journal.open(going[-1])
        else:
            row = going.pop(chance.randrange(len(going)))
            if act < 0.9:
                journal.close(row)
                ended.append(row.id)
            else:
                journal.void(row.id)
        states.append((journal.size, list(ended), {row.id for row in going}))
    path = journal.path(1)
    journal.aclose(keep=True)
    whole = path.read_bytes()
    for _ in range(100):
        cut = chance.randrange(len(whole) + 1)
        path.write_bytes(whole[:cut])
        _, done, under_way = max(
            (state for state in states if state[0] <= cut), key=lambda state: state[0]
        )
        first, last = left(tmp_path)
        assert [row.id for row in first] == done
        assert {row.id for row in last} == under_way
