"""The garbage collector while a gateway starts."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from edge.runtime import collector

_FROZEN = """
import gc
from edge.runtime import collector
collector.pause()
before = gc.get_freeze_count()
collector.freeze()
print(before, gc.get_freeze_count() > 1000, gc.isenabled())
"""


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    yield
    gc.enable()


def test_paused_block_that_raises_leaves_the_collector_on() -> None:
    with pytest.raises(ValueError, match="stops"), collector.paused():
        assert not gc.isenabled()
        raise ValueError("stops")
    assert gc.isenabled()


def test_resume_inside_of_a_paused_block_collects_at_once() -> None:
    with collector.paused():
        collector.resume()
        assert gc.isenabled()


def test_freeze_leaves_what_exists_out_of_collections_and_the_collector_off() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FROZEN], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "True", "False"]
