"""Ids of traces and spans, also of two processes."""

import os
import random

from middlewares.tracing.ids import new_span_id, new_trace_id


def test_ids_use_all_their_bits_and_are_never_zero() -> None:
    for make, bits in ((new_trace_id, 128), (new_span_id, 64)):
        made = [make() for _ in range(1000)]
        assert len(set(made)) == 1000
        assert max(made) >> (bits - 1) == 1
        assert 0 not in made


def test_ids_of_two_forked_processes_differ() -> None:
    def forked() -> bytes:
        reader, writer = os.pipe()
        if not (pid := os.fork()):
            os.write(
                writer, b" ".join(b"%x %x" % (new_trace_id(), new_span_id()) for _ in range(200))
            )
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            written = pipe.read()
        os.waitpid(pid, 0)
        return written

    first, second = (set(forked().split()) for _ in range(2))
    own = {b"%x" % number for _ in range(200) for number in (new_trace_id(), new_span_id())}
    assert len(first) == len(second) == len(own) == 400
    assert not first & second
    assert not (first | second) & own


def test_ids_do_not_repeat_where_a_library_seeds_random() -> None:
    state = random.getstate()
    try:
        random.seed(0)
        first = new_trace_id()
        random.seed(0)
        assert new_trace_id() != first
    finally:
        random.setstate(state)
