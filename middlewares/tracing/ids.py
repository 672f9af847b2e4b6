"""Trace and span ids: random numbers, never 0.

The generator is seeded by the system and again after each fork, so the ids of two worker processes
do not collide. It is no other module's: a `random.seed(0)` somewhere does not make ids repeat.
"""

import os
from random import Random

_random = Random()  # noqa: S311 - ids are no secrets
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)
_bits = _random.getrandbits


def new_trace_id() -> int:
    """A trace id of 128 bits."""
    return _bits(128) or 1


def new_span_id() -> int:
    """A span id of 64 bits."""
    return _bits(64) or 1
