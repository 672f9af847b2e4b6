"""Which database this is, and how far it had come when it was seen last.

Theory of operation. A migration gives each database an id. `Identity` remembers it, with the two
revisions that only grow and the newest rows of the ledger that this process has written, and
compares what a database says (`DatabaseState`) each time the keys are polled, an account is read
or rows
are written. A database with another id, or one that has gone back, is not trusted: `WrongStore` is
raised, which to everybody is a store that does not answer. So rows wait in the journal and known
keys stay known. The id and the revisions are also in a file in the folder of the journals, for the
next process. An operator accepts another database by writing that file (`accept`); running
processes read it as long as they do not trust what they find.
"""

import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from middlewares.stores.errors import StoreUnavailable

MEMORY = "store.json"
"""Name of the file, in the folder of the journals."""
KEPT = 5000
"""Newest rows of a process that are written again to a database that has lost them."""
OLD_TABLES = "the tables are missing or older than this program needs; run `penstock migrate`"


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=_HasId)
"""A row of the ledger."""


class WrongStore(StoreUnavailable):
    """The database answers, and is another than before, or an older state of it."""


class DatabaseState(msgspec.Struct, frozen=True):
    """What a database says of itself. newest, oldest: whether it has those rows of `Identity`; True
    where there is none to look for."""

    store: str
    keys: int
    credits: int
    newest: bool = True
    oldest: bool = True


class SeenDatabase(msgspec.Struct, frozen=True):
    """What is remembered. accepted: how many times an operator has accepted another database."""

    store: str = ""
    keys: int = 0
    credits: int = 0
    accepted: int = 0


class Identity(Generic[Row]):
    """What one process remembers of its database.

    folder: of the journals, None remembers nothing beyond this process.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._seen = _read(folder) or SeenDatabase()
        self._noted: SeenDatabase | None = None
        """What was written to the file last."""
        self._rows: deque[Row] = deque()
        self._oldest = ""
        self._missing = False
        self.generation = 0
        """How many times another database, or an older state of it, was accepted."""
        self.fault = ""
        """Why the database is not trusted; "" when it is, or was not looked at yet."""

    @property
    def witnesses(self) -> tuple[str, str]:
        """Ids of the newest row that this process has written, and of the newest that it could not
        write again; "" where there is none."""
        return self._rows[-1].id if self._rows else "", self._oldest

    @property
    def lost(self) -> Sequence[Row]:
        """Rows to be written again."""
        return tuple(self._rows) if self._missing else ()

    def written(self, entries: Sequence[Row]) -> None:
        """These rows are in the database."""
        rows = self._rows
        rows.extend(entries)
        while len(rows) > KEPT:
            self._oldest = rows.popleft().id
        self._missing = False

    def check(self, found: DatabaseState) -> None:
        """Raises WrongStore when `found` is not the database that is remembered."""
        fault = self._fault(found)
        if fault:
            self._look_for_acceptance()
            fault = self._fault(found)
        self.fault = fault
        if fault:
            raise WrongStore(fault)
        self._missing = not found.newest
        self._remember(found)

    def _fault(self, found: DatabaseState) -> str:
        seen = self._seen
        if seen.store and found.store != seen.store:
            what = f"it is another database ({found.store}) than before ({seen.store})"
        elif found.keys < seen.keys:
            what = f"its keys went back from revision {seen.keys} to {found.keys}"
        elif found.credits < seen.credits:
            what = f"its credits went back from revision {seen.credits} to {found.credits}"
        elif self._oldest and not found.oldest:
            what = f"its ledger went back: row {self._oldest}, which it had, is missing"
        else:
            return ""
        return f"{what}; put the right one back, or run `penstock accept-store` to go on with this"

    def _look_for_acceptance(self) -> None:
        accepted = _read(self._folder)
        if accepted is None or accepted.accepted <= self._seen.accepted:
            return
        if accepted.store != self._seen.store:
            self._rows.clear()  # they are in the other one
        self._seen = accepted
        self._oldest = ""
        self.generation += 1

    def _remember(self, found: DatabaseState) -> None:
        self._seen = SeenDatabase(found.store, found.keys, found.credits, self._seen.accepted)
        self.note()

    def note(self) -> None:
        """Have in the file what is known; it may have been removed with its folder."""
        folder, seen, accepted = self._folder, self._seen, self._seen.accepted
        if folder is None or not seen.store:
            return
        if seen == self._noted and (folder / MEMORY).exists():
            return
        # The owner of the journals creates their folder; an acceptance made meanwhile is kept.
        there = _read(folder)
        if there is not None and there.accepted > accepted:
            seen = msgspec.structs.replace(seen, accepted=there.accepted)
        if folder.is_dir():
            with suppress(OSError):  # it is tried again with the next look
                _write(folder, seen)
                self._noted = self._seen


def remembered(folder: Path) -> str:
    """The id of the database to which the journals in `folder` belong; "" when none is known."""
    seen = _read(folder)
    return "" if seen is None else seen.store


def same(folder: Path, found: DatabaseState) -> None:
    """Raises WrongStore when the journals in `folder` belong to another database."""
    seen = _read(folder)
    if seen is not None and seen.store and seen.store != found.store:
        raise WrongStore(
            f"the database is {found.store}, the journals in {folder} belong to {seen.store}; put "
            "the right one back, or run `penstock accept-store` to go on with this"
        )


def starting(folder: Path, found: DatabaseState) -> None:
    """A gateway starts with a database that may be an older state of the one before, such as a
    backup. Raises WrongStore when it is another one."""
    same(folder, found)
    seen = _read(folder)
    if seen is None:
        return
    if found.keys < seen.keys or found.credits < seen.credits:
        with suppress(OSError):  # workers say it then
            _write(folder, SeenDatabase(found.store, found.keys, found.credits, seen.accepted + 1))


def accept(folder: Path, found: DatabaseState) -> None:
    """Let processes with journals in `folder` go on with this database. Raises OSError."""
    seen = _read(folder) or SeenDatabase()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(folder, SeenDatabase(found.store, found.keys, found.credits, seen.accepted + 1))


def _read(folder: Path | None) -> SeenDatabase | None:
    if folder is None:
        return None
    try:
        return msgspec.json.decode((folder / MEMORY).read_bytes(), type=SeenDatabase)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(folder: Path, seen: SeenDatabase) -> None:
    new = folder / f"{MEMORY}.new-{os.getpid()}"
    try:
        new.write_bytes(msgspec.json.encode(seen))
        new.replace(folder / MEMORY)
    except OSError:
        new.unlink(missing_ok=True)
        raise
