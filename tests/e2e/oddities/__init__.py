"""What real upstreams do that their dialect does not say, and what a caller sees of it: the table.

Each row is a kind in several wordings. `test_oddities` asks for every one over every surface, plain
and streamed, alone and with a second target.
"""

from .calls import calls
from .finishes import finishes
from .framing import beats
from .leniency import lenient
from .no_answers import no_answer
from .oddity import HELLO, STOPS, TEXT, Oddity, body, stream
from .refusals import corrections, refusals

ODDITIES: tuple[Oddity, ...] = (
    *no_answer(),
    *finishes(),
    *beats(),
    *lenient(),
    *calls(),
    *refusals(),
    *corrections(),
)

__all__ = ["HELLO", "ODDITIES", "STOPS", "TEXT", "Oddity", "body", "stream"]
