"""What is taken out of the chain to see what it costs is in the chain."""

from bench.foundation import TAKEN_OUT
from edge.chain import LAYERS


def test_all_that_is_taken_out_is_there() -> None:
    assert {layer.name for layer in LAYERS} >= TAKEN_OUT
