"""What a request costs while things grow: `python -P -m bench.growth [WORDS]`.

    python -P -m bench.growth                       # all but a million, some minutes
    python -P -m bench.growth --largest 10000000 --folder FOLDER ledger kept

Words choose tables: conversations, keys, models, ledger, kept. --largest: the most rows and
answers. --sizes: these instead. --folder: filled databases are kept there for the next run, which
takes minutes less. Costs are process CPU time of all threads, the minimum of several rounds, in one
process without sockets; those of PostgreSQL and Redis are by the clock, with the server. `flat` is
said of a cost that grows by less than half over all sizes.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Row as Figure
from bench.merging import write_table

from . import conversations, kept, keys, ledger, models
from .places import UNINDEXED, places
from .table import Table, shown, verdict

NAMES = ("conversations", "keys", "models", "ledger", "kept")


async def tables(name: str, given: argparse.Namespace) -> Sequence[Table]:
    """The tables of one thing that grows."""

    def sizes(known: Sequence[int]) -> tuple[int, ...]:
        return tuple(given.sizes or (size for size in known if size <= given.largest))

    if name == "conversations":
        return await conversations.measure()
    if name == "keys":
        return [await keys.measure(sizes(keys.SIZES))]
    if name == "models":
        return [await models.measure()]
    async with places(given.folder) as found:
        if name == "ledger":
            return await ledger.measure(sizes((*ledger.SIZES, 10_000_000)), found)
        return await kept.measure(sizes(kept.SIZES), found)


def figures(table: Table) -> list[Figure]:
    """A row for each cost: that of the smallest and of the largest size, and the verdict. What the
    page on scaling says is linear has no target."""
    found = []
    for n, column in enumerate(table.columns):
        costs = [(row.size, row.costs[n]) for row in table.rows]
        measured = [(size, cost) for size, cost in costs if cost is not None]
        if len(measured) < 2:
            continue
        if column == UNINDEXED:
            most = max(cost for _, cost in measured)
            found.append(Figure(f"{table.title}: {column}", most, 0, most == 0))
            continue
        said = verdict(costs)
        grown = f"{shown(measured[0][1])} → {shown(measured[-1][1])}"
        over = f"{measured[0][0]:,} → {measured[-1][0]:,} {table.grows}"
        what = f"{table.title}: {column}, {over}"
        target = None if column in table.linear else "flat"
        met = None if target is None else said in ("flat", "")
        found.append(Figure(what, f"{grown}: {said}" if said else grown, target, met))
    return found


async def _run(given: argparse.Namespace) -> list[Figure]:
    found: list[Figure] = []
    for name in given.names:
        for table in await tables(name, given):
            print(table.text(), flush=True)
            found += figures(table)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--sizes", type=int, nargs="+", help="these instead")
    parser.add_argument("--folder", type=Path, help="keep filled databases here")
    parser.add_argument("--json", type=Path, help="write the figures for `bench.compare --read`")
    parser.add_argument("names", nargs="*", default=NAMES, metavar="WORDS")
    given = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    found = asyncio.run(_run(given))
    if given.json:
        write_table(given.json, "Growth", found, "Least of several calls.")


if __name__ == "__main__":
    main()
