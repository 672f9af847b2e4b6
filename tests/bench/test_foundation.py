"""What is taken out of the chain to see what it costs."""

import subprocess
import sys

from bench.foundation import TAKEN_OUT
from edge.chain import LAYERS

LEFT = """
from bench.foundation import take_out
take_out()
from edge import app
names = [layer.name for layer in (*app.OUTER_LAYERS, *app.INNER_LAYERS, *app.SUBREQUEST_LAYERS)]
print(*sorted(set(names)))
"""


def test_the_application_is_made_of_the_layers_that_are_left() -> None:
    """In a process of its own, as the chain stays so."""
    shown = subprocess.check_output([sys.executable, "-c", LEFT], text=True)
    every = {layer.name for layer in LAYERS}
    assert every > TAKEN_OUT
    assert set(shown.split()) == every - TAKEN_OUT
