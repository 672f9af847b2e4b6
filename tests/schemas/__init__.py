"""Holds what the gateway makes against the types of the vendors' SDKs, and against their habits.

Nothing of a schema is kept in files: all are made from the installed `openai` and `anthropic`, at
the first use in a run.

    check           one body, one event
    check_stream    all bytes of a stream: each event, and their order
    summary         what an unstreamed body says; `check_stream` gives the same of a stream
    check_request   what is sent to an upstream

    surfaces        SDK type, rule and law of each surface
    presence, openresponses, laws; rules: the words in which they are written
    validators      SDK type -> schema -> Checker
    framing, streams; chunks, message_events, response_events, response_items: the grammars
    requests, summary
    samples, faults: for the tests of all this, which stand beside it
"""

from .laws import BrokenArguments
from .requests import check_request
from .streams import check_stream
from .summary import Summary, summary
from .surfaces import Surface, check

__all__ = [
    "BrokenArguments",
    "Summary",
    "Surface",
    "check",
    "check_request",
    "check_stream",
    "summary",
]
