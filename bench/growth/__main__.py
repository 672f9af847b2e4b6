"""What a request costs while things grow: `python -P -m bench.growth [WORDS]`.

    python -P -m bench.growth                       # all but a million, some minutes
    python -P -m bench.growth --largest 10000000 ledger kept

Words choose tables: conversations, keys, models, ledger, kept. --largest: the most rows and
answers. Costs are process CPU time of all threads, the minimum of several rounds, in one process
without sockets; databases are SQLite files, filled in bulk. `flat` is said of a cost that grows by
less than half over all sizes.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from . import conversations, kept, keys, ledger, models
from .table import Table

NAMES = ("conversations", "keys", "models", "ledger", "kept")


async def tables(name: str, largest: int, folder: Path | None) -> Sequence[Table]:
    """The tables of one thing that grows."""
    if name == "conversations":
        return await conversations.measure()
    if name == "keys":
        return [await keys.measure(tuple(size for size in keys.SIZES if size <= largest))]
    if name == "models":
        return [await models.measure()]
    if name == "ledger":
        sizes = (*ledger.SIZES, 10_000_000)
        found = tuple(size for size in sizes if size <= largest)
        return [await ledger.measure(found, folder)]
    return [await kept.measure(tuple(size for size in kept.SIZES if size <= largest))]


async def _run(names: Sequence[str], largest: int, folder: Path | None) -> None:
    for name in names:
        for table in await tables(name, largest, folder):
            print(table.text(), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--largest", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="keep databases of the ledger here")
    parser.add_argument("names", nargs="*", default=NAMES, metavar="WORDS")
    given = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    asyncio.run(_run(given.names, given.largest, given.folder))


if __name__ == "__main__":
    main()
