"""What forms cost: processor time of hostile ones, and of a large file: `python -m bench.forms`.

Each is read in this process, without sockets. A hostile form is refused; the time is that of all
that was read of it.
"""

import asyncio
import random
from collections.abc import Iterable
from time import process_time

from edge.media.forms import FormBounds, read_form
from middlewares.problem import Problem
from tests.edge.media.forms.hostile import HOSTILE
from tests.edge.media.forms.wire import Sender, form, part, pieces, scope

MiB = 1 << 20
BOUNDS = FormBounds(size=64 * MiB, file=26 * MiB, names={"file": 1})
FILE = 25 * MiB


async def read(given: Iterable[bytes]) -> tuple[float, int, str]:
    """Seconds of processor time, messages read, and how it ended."""
    sender = Sender(given)
    began, ended = process_time(), "read"
    try:
        read_back = await read_form(scope(), sender, bounds=BOUNDS, idle=60)
        read_back.close()
    except Problem as problem:
        ended = problem.kind
    return process_time() - began, sender.asked, ended


async def main() -> None:
    """Print a row for each form."""
    data = random.Random(1).randbytes(FILE)
    await read([form(part("file", b"x", "a"))])  # what is loaded once
    kinds = {**HOSTILE, "a file of 25 MiB": pieces(form(part("file", data, "a.wav")), 64 << 10)}
    print("| form | ms of CPU | messages | end |")
    print("| --- | ---: | ---: | --- |")
    for name, given in kinds.items():
        seconds, asked, ended = await read(given)
        print(f"| {name} | {seconds * 1000:.1f} | {asked} of {len(given)} | {ended} |")


if __name__ == "__main__":
    asyncio.run(main())
