"""Runs and results of other benches put together into one report."""

import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import msgspec

from . import machine
from .figures import Row, Run, Table


def merged(runs: Sequence[Run]) -> Run:
    """One run of several that have different groups of figures or subjects.

    Raises ValueError if they are not of one commit and machine.
    """
    first, *others = runs
    for run in others:
        if (run.commit, run.machine) != (first.commit, first.machine):
            raise ValueError(f"runs of {first.commit} and of {run.commit}, or of two machines")
        first = _both(first, run)
    count = max(len(result.rounds) for result in first.subjects.values())
    for result in first.subjects.values():
        result.rounds += [{} for _ in range(count - len(result.rounds))]
    return first


def _both(first: Run, second: Run) -> Run:
    subjects = dict(first.subjects)
    for name, theirs in second.subjects.items():
        ours = subjects.get(name)
        if ours is None or not any(ours.rounds):  # it could not be run then
            subjects[name] = theirs
            continue
        pairs = zip_longest(ours.rounds, theirs.rounds, fillvalue={})
        rounds = [{**one, **other} for one, other in pairs]
        failed = [*ours.failed, *(each for each in theirs.failed if each not in ours.failed)]
        subjects[name] = msgspec.structs.replace(ours, rounds=rounds, failed=failed)
    return msgspec.structs.replace(
        first,
        command=f"{first.command}`, `{second.command}",
        dirty=first.dirty or second.dirty,
        direct=[
            {**one, **other}
            for one, other in zip_longest(first.direct, second.direct, fillvalue={})
        ],
        subjects=subjects,
        tables=[*first.tables, *second.tables],
    )


def tables(files: Sequence[Path], commit: str) -> list[Table]:
    """Results that other benches wrote. Raises ValueError for one of another commit."""
    found = [msgspec.json.decode(file.read_bytes(), type=Table) for file in files]
    for file, table in zip(files, found, strict=True):
        if table.commit[: len(commit)] != commit:
            raise ValueError(f"{file} is of commit {table.commit}, the run of {commit}")
    return found


def write_table(file: Path, title: str, rows: Sequence[Row], note: str = "") -> None:
    """Write a result of this process's bench for `bench.compare --read`."""
    module = getattr(sys.modules["__main__"].__spec__, "name", sys.argv[0])
    command = " ".join(["python -P -m", module.removesuffix(".__main__"), *sys.argv[1:]])
    command = command.replace(f" --json {file}", "")
    found, dirty = machine.commit()
    note = f"{note} With changes that are not committed." if dirty else note
    table = Table(title, command, found, list(rows), note.strip())
    file.write_bytes(msgspec.json.format(msgspec.json.encode(table), indent=1))
